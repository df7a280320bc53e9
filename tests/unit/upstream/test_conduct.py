"""Pace, codings and cuts, over a wire that only writes down what it is told."""

from __future__ import annotations

import asyncio
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.upstream.behaviour import Behaviour, parse_behaviour
from usagetap.upstream.conduct import conduct, encoded, joined, random_pieces, sliced
from usagetap.upstream.exchange import Answer, Exchange

FRAMES = [b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\n"]


class Notes:
    """A wire that remembers."""

    def __init__(self):
        self.said = []

    async def hints(self):
        self.said.append("hints")

    async def head(self, status, headers, framing, length):
        self.headers = dict(headers)
        self.said.append(("head", status, framing, length))

    async def piece(self, piece):
        self.said.append(piece)

    async def end(self, trailers):
        self.said.append(("end", trailers))

    async def cut(self, how):
        self.said.append(("cut", how))


def told(words="", *, streamed=True, accept=None, stop_when=None):
    """What an answer in three frames says under these words; `stop_when` gives up on one that waits for ever."""
    wire = Notes()
    exchange = Exchange("POST", "/", [("accept-encoding", accept)] if accept is not None else [])
    answer = Answer(200, [("content-type", "text/event-stream")], FRAMES, streamed, parse_behaviour(words))

    async def run():
        work = asyncio.ensure_future(conduct(answer, exchange, wire))
        while not work.done() and not (stop_when and wire.said[-1:] == [stop_when]):
            await asyncio.sleep(0)
        if not work.done():
            work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    asyncio.run(run())
    return wire, exchange


HEAD = ("head", 200, "chunked", None)
END = ("end", [])


@pytest.mark.parametrize(
    ("words", "said", "outcome"),
    [
        ("", [HEAD, *FRAMES, END], "complete"),
        ("framing=close", [("head", 200, "close", None), *FRAMES, END], "complete"),
        ("framing=length", [("head", 200, "length", 27), *FRAMES, END], "complete"),
        ("framing=length;die=1", [("head", 200, "length", 27), FRAMES[0], ("cut", "fin")], "cut"),
        ("hints", ["hints", HEAD, *FRAMES, END], "complete"),
        ("trailers", [HEAD, *FRAMES, ("end", [("x-upstream-trailer", "yes")])], "complete"),
        ("join=2", [HEAD, FRAMES[0] + FRAMES[1], FRAMES[2], END], "complete"),
        ("die=-1", [("cut", "fin")], "cut"),
        ("die=0;cut=rst", [HEAD, ("cut", "rst")], "cut"),
        ("die=2;cut=bad_chunk", [HEAD, *FRAMES[:2], ("cut", "bad_chunk")], "cut"),
        ("die=99", [HEAD, *FRAMES, END], "complete"),
        ("cut=fin", [HEAD, *FRAMES, ("cut", "fin")], "cut"),
        ("cut=half_head", [("cut", "half_head")], "cut"),
        ("die=1;cut=graceful", [HEAD, FRAMES[0], ("cut", "graceful"), *FRAMES[1:], END], "complete"),
        ("cut=late_reset", [HEAD, *FRAMES, END, ("cut", "late_reset")], "complete"),
    ],
)
def test_what_each_word_does(words, said, outcome):
    wire, exchange = told(words)
    assert (wire.said, exchange.outcome) == (said, outcome)
    assert exchange.sent == b"".join(piece for piece in said if isinstance(piece, bytes))


def test_an_answer_that_is_no_stream_has_a_length():
    assert told(streamed=False)[0].said[0] == ("head", 200, "length", 27)


def test_silence():
    wire, exchange = told("die=1;cut=silence", stop_when=("cut", "silence"))
    assert wire.said == [HEAD, FRAMES[0], ("cut", "silence")]
    assert exchange.outcome is None


def test_a_held_answer_goes_on_when_it_is_released():
    wire, exchange = Notes(), Exchange("POST", "/", [])
    answer = Answer(200, [], FRAMES, True, Behaviour(hold=1))

    async def run():
        work = asyncio.ensure_future(conduct(answer, exchange, wire))
        while len(wire.said) < 2:
            await asyncio.sleep(0)
        held = list(wire.said)
        exchange.released.set()
        await work
        return held

    assert asyncio.run(run()) == [HEAD, FRAMES[0]]
    assert wire.said == [HEAD, *FRAMES, END]


@pytest.mark.parametrize(
    ("accept", "words", "coding"),
    [
        (None, "encoding=gzip", "gzip"),
        ("gzip, deflate", "encoding=gzip", "gzip"),
        ("br;q=1.0, GZIP", "encoding=gzip", "gzip"),
        ("*", "encoding=gzip", "gzip"),
        ("identity", "encoding=gzip", None),
        ("identity", "encoding=gzip;stubborn", "gzip"),
        ("gzip", "encoding=gzip+br", None),
    ],
)
def test_a_coding_is_used_where_the_client_accepts_it(accept, words, coding):
    wire, exchange = told(words, accept=accept)
    assert wire.headers.get("content-encoding") == coding
    body = zlib.decompress(exchange.sent, 31) if coding else bytes(exchange.sent)
    assert body == b"".join(FRAMES)


def test_a_compressor_can_be_left_unfinished():
    decoder = zlib.decompressobj(31)
    assert decoder.decompress(bytes(told("encoding=gzip;unfinished")[1].sent)) == b"".join(FRAMES)
    assert not decoder.eof


def test_an_answer_without_a_type():
    assert told("untyped")[0].headers == {}


@given(st.binary(max_size=2000), st.integers(-1, 9), st.integers(0, 5))
def test_any_slicing_keeps_the_bytes_and_never_sends_an_empty_piece(body, size, seed):
    pieces = list(sliced([body[:50], b"", body[50:]], Behaviour(slice=size, seed=seed)))
    assert b"".join(pieces) == body
    assert all(pieces)
    if size > 0:
        assert max(map(len, pieces), default=0) <= size


def test_random_pieces_cut_where_it_hurts_and_are_the_same_for_the_same_seed():
    body = 'data: "größer 日本語 🙂"\r\n\r\n'.encode() * 20
    pieces = list(random_pieces(body, 1))
    assert pieces == list(random_pieces(body, 1)) != list(random_pieces(body, 2))
    assert any(piece.endswith(b"\r") for piece in pieces)
    assert any(piece[0] & 0xC0 == 0x80 for piece in pieces)
    assert len({len(piece) for piece in pieces}) > 5


def test_crlf_and_company():
    assert next(joined(FRAMES, Behaviour(crlf=True, join=2))) == b"data: 1\r\n\r\ndata: 2\r\n\r\n"
    assert list(encoded(iter(FRAMES), [])) == FRAMES
