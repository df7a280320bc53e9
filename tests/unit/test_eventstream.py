"""The AWS event stream framing: whatever the cut, whatever is broken."""

from __future__ import annotations

import base64
import itertools
import struct
import zlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.eventstream import EventStream

LIMIT = 1 << 20


def header(name: str, value: bytes, kind: int = 7) -> bytes:
    """One header as it is on the wire; `kind` is the type of its value (7: string)."""
    size = len(value).to_bytes(2, "big") if kind in (6, 7) else b""
    return bytes([len(name)]) + name.encode() + bytes([kind]) + size + value


def message(payload: bytes, headers: bytes = b"") -> bytes:
    """A message with both its CRCs."""
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    body = prelude + zlib.crc32(prelude).to_bytes(4, "big") + headers + payload
    return body + zlib.crc32(body).to_bytes(4, "big")


def event(kind: str, payload: object) -> bytes:
    """An event of type `kind`, with the headers that Bedrock sends."""
    headers = header(":event-type", kind.encode()) + header(":content-type", b"application/json")
    return message(orjson.dumps(payload), headers + header(":message-type", b"event"))


def chunk(payload: object) -> bytes:
    """What InvokeModelWithResponseStream wraps a model's own JSON in."""
    return event("chunk", {"bytes": base64.b64encode(orjson.dumps(payload)).decode(), "p": "abcdef"})


EVENTS = [
    event("messageStart", {"role": "assistant", "p": "abc"}),
    chunk({"type": "message_stop"}),
    event("metadata", {"usage": {"inputTokens": 3}}),
]
FRAMES = [
    {"messageStart": {"role": "assistant", "p": "abc"}},
    {"type": "message_stop"},
    {"metadata": {"usage": {"inputTokens": 3}}},
]


def read(*pieces: bytes, limit: int = LIMIT) -> tuple[list[object], EventStream]:
    """The frames of `pieces`, as JSON, and the framing itself."""
    stream = EventStream(limit)
    frames = [frame for piece in pieces for frame in stream.feed(piece)]
    return [orjson.loads(stream.payload(frame) or b"") for frame in [*frames, *stream.finish()]], stream


@given(st.lists(st.integers(0, sum(map(len, EVENTS)))))
def test_any_split_gives_the_same_frames(cuts: list[int]) -> None:
    body = b"".join(EVENTS)
    edges = [0, *sorted(cuts), len(body)]
    frames, stream = read(*(body[start:end] for start, end in itertools.pairwise(edges)))
    assert frames == FRAMES
    assert stream.broken is None
    assert not stream.oversized


def test_byte_by_byte() -> None:
    frames, _ = read(*(bytes([byte]) for byte in b"".join(EVENTS)))
    assert frames == FRAMES


@given(st.binary(max_size=200), st.integers(0, 199))
def test_any_bytes_leave_it_standing(garbage: bytes, cut: int) -> None:
    stream = EventStream(LIMIT)
    for piece in (garbage[:cut], garbage[cut:]):
        stream.feed(piece)
    assert stream.finish() == []


@given(st.integers(0, len(EVENTS[1]) - 1), st.integers(1, 255), st.integers(0, len(b"".join(EVENTS))))
def test_a_flipped_bit_is_noticed_and_what_came_before_it_is_kept(at: int, flip: int, cut: int) -> None:
    broken = bytearray(EVENTS[1])
    broken[at] ^= flip
    body = EVENTS[0] + bytes(broken) + EVENTS[2]
    frames, stream = read(body[:cut], body[cut:])
    assert frames == FRAMES[:1]
    assert stream.broken is not None
    assert stream.broken.startswith("broken event stream: ")


def test_nothing_is_read_after_a_broken_message() -> None:
    frames, stream = read(b"not an event stream", *EVENTS)
    assert frames == []
    assert stream.broken == "broken event stream: wrong CRC of a length"


def test_a_cut_message_is_no_frame() -> None:
    frames, stream = read(EVENTS[0] + EVENTS[1][:-1])
    assert frames == FRAMES[:1]
    assert stream.broken is None


@pytest.mark.parametrize("cut", [1, 30, 500, 10_000])
def test_a_message_over_the_limit_is_passed_over_without_being_held(cut: int) -> None:
    body = EVENTS[0] + event("chunk", {"bytes": "A" * 5000}) + EVENTS[2]
    stream = EventStream(400)
    frames = []
    for start in range(0, len(body), cut):
        frames += stream.feed(body[start : start + cut])
        assert len(stream._held) <= 400
    assert [orjson.loads(frame) for frame in frames] == [FRAMES[0], FRAMES[2]]
    assert stream.oversized
    assert stream.broken is None


@pytest.mark.parametrize("total", [0, 15, 16 + 200, (24 << 20) + (128 << 10) + 17, 0xFFFFFFFF])
def test_an_impossible_length_is_broken(total: int) -> None:
    prelude = struct.pack(">II", total, 201)
    _, stream = read(prelude + zlib.crc32(prelude).to_bytes(4, "big") + bytes(40))
    assert stream.broken == "broken event stream: impossible length"


def test_an_exception_tells_its_type() -> None:
    kind = header(":message-type", b"exception") + header(":exception-type", b"throttlingException")
    frames, _ = read(message(b'{"message":"Too many requests"}', kind))
    assert frames == [{"exception": {"message": "Too many requests"}, "type": "throttlingException"}]


def test_an_error_has_its_code_and_message_in_headers() -> None:
    kind = header(":message-type", b"error") + header(":error-code", b"InternalError")
    frames, _ = read(message(b"", kind + header(":error-message", b"try again")))
    assert frames == [{"exception": {"message": "try again"}, "type": "InternalError"}]


@pytest.mark.parametrize(("kind", "size"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (6, 7), (8, 8), (9, 16)])
def test_headers_of_every_type_are_stepped_over(kind: int, size: int) -> None:
    headers = header("x", bytes(size), kind) + header(":event-type", b"metadata")
    frames, _ = read(message(b"{}", headers))
    assert frames == [{"metadata": {}}]


@pytest.mark.parametrize("block", [b"\x05ab", header("x", b"", 10), header("x", b"abc")[:-1], b"\x01x\x07\xff"])
def test_headers_that_do_not_fit_are_broken(block: bytes) -> None:
    _, stream = read(message(b"{}", block))
    assert stream.broken == "broken event stream: impossible headers"


@pytest.mark.parametrize("payload", [{"p": "abc"}, {"bytes": "not base64!"}, {"bytes": 5}, [], None])
def test_a_chunk_without_base64_is_left_as_it_is(payload: object) -> None:
    frames, stream = read(event("chunk", payload))
    assert stream.broken is None
    assert frames in ([{"chunk": payload}], [])


def test_an_event_without_payload_is_null() -> None:
    frames, _ = read(message(b"", header(":event-type", b"messageStop")))
    assert frames == [{"messageStop": None}]


def test_a_keep_alive_without_headers_is_no_harm() -> None:
    frames, stream = read(message(b""), EVENTS[0])
    assert frames == [{"": None}, FRAMES[0]]
    assert stream.broken is None
