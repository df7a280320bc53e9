"""Hostile upstreams through a real mitmdump: every byte passes, memory stays, and the row says what could be known."""

from __future__ import annotations

import gzip
import http.client
import itertools
import json
import random
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pytest
from tests.client import CHAT, STREAM
from tests.feed import SSE_HEAD, Digest, Feed, chunked, running_feed
from tests.proxy import Mitmdump, errors_in, running_mitmdump

MIB = 1 << 20
ROOM = 100 * MIB
"""What one hostile stream may add: an unfinished frame of 16 MiB in a few copies, and what the allocator keeps."""

FRAME = b'data: {"id":"r","model":"m","choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n'
FINISH = b'data: {"id":"r","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = (
    b'data: {"id":"r","model":"m","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9,"total_tokens":16}}\n\n'
)
END = FINISH + USAGE + b"data: [DONE]\n\n"


@dataclass
class Stream:
    """One hostile stream: its pieces, and what the row must say."""

    pieces: Callable[[], Iterable[bytes]]
    row: dict[str, object] = field(default_factory=dict)
    head: bytes = SSE_HEAD


def repeated(piece: bytes, count: int) -> Iterator[bytes]:
    return itertools.repeat(piece, count)


def then_the_end(*pieces: Iterable[bytes]) -> Iterator[bytes]:
    return itertools.chain(*pieces, [END])


def bomb() -> Iterator[bytes]:
    """Some 400 KiB that become 400 MiB."""
    packer = zlib.compressobj(9, wbits=31)
    yield packer.compress(FRAME % b"a") + packer.flush(zlib.Z_SYNC_FLUSH)
    for _ in range(400):
        yield packer.compress(bytes(MIB)) + packer.flush(zlib.Z_SYNC_FLUSH)
    yield packer.flush()


def zstd_bomb() -> Iterator[bytes]:
    import zstandard

    packer = zstandard.ZstdCompressor(level=19).compressobj()
    yield packer.compress(FRAME % b"a") + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    for _ in range(400):
        yield packer.compress(bytes(MIB)) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    yield packer.flush()


def drip() -> Iterator[bytes]:
    body = FRAME % b"slow" * 40 + END
    return (body[at : at + 1] for at in range(len(body)))


def noise() -> Iterator[bytes]:
    chance = random.Random(1)
    return (chance.randbytes(4096) for _ in range(2000))


OK = {"end_reason": "complete", "input_tokens": 7, "output_tokens": 9}
BLIND = {"input_tokens": None, "truncated": 1}
NESTED = b"[" * 1_000_000

STREAMS: dict[str, Stream] = {
    "slow drip": Stream(drip, OK),
    "a million tiny frames": Stream(lambda: then_the_end(repeated(b"data: {}\n\n" * 1000, 1000)), OK),
    "a million empty frames": Stream(lambda: then_the_end(repeated(b"\n" * 1000, 1000)), OK),
    "bare fields without number": Stream(lambda: then_the_end(repeated(b"data\n\n" * 1000, 300)), OK),
    "a frame of 16 MiB": Stream(
        lambda: then_the_end([b'data: {"choices":[{"delta":{"content":"'], repeated(b"a" * 65536, 255), [b'"}}]}\n\n']),
        OK,
    ),
    "a frame over the limit": Stream(
        lambda: then_the_end([b'data: {"x":"'], repeated(b"a" * 65536, 1000), [b'"}\n\n']), OK | {"truncated": 1}
    ),
    "an endless comment": Stream(lambda: itertools.chain([b": "], repeated(b"x" * 65536, 1000)), BLIND),
    "comments for ever": Stream(lambda: then_the_end(repeated(b": keep-alive\n\n" * 1000, 500)), OK | {"frames": 3}),
    "a payload of many lines": Stream(lambda: then_the_end(repeated(b"data: a\n" * 1000, 200), [b"\n"]), OK),
    "deep JSON": Stream(lambda: then_the_end([FRAME % b"a", b"data: ", NESTED, b"\n\n"]), OK),
    "deep JSON with usage": Stream(
        lambda: [FRAME % b"a", b'data: {"usage":{"a":' + NESTED + b"\n\n", b"data: [DONE]\n\n"],
        {"end_reason": "no_usage", "input_tokens": None},
    ),
    "huge integers": Stream(
        lambda: [FINISH, USAGE.replace(b":7,", b":" + b"9" * 40 + b","), b"data: [DONE]\n\n"],
        {"end_reason": "complete", "input_tokens": None, "output_tokens": 9},
    ),
    "integers that Python refuses": Stream(
        lambda: [FINISH, USAGE.replace(b":7,", b":" + b"9" * 5000 + b","), b"data: [DONE]\n\n"],
        {"end_reason": "no_usage", "input_tokens": None},
    ),
    "negative, boolean and fractional counts": Stream(
        lambda: [
            FINISH,
            b'data: {"choices":[],"usage":{"prompt_tokens":-5,"completion_tokens":true,"total_tokens":1.5}}\n\n',
            b"data: [DONE]\n\n",
        ],
        {"end_reason": "complete", "input_tokens": None, "output_tokens": None, "total_tokens": None},
    ),
    "invalid UTF-8": Stream(lambda: then_the_end([FRAME % b"\xff\xfe\xc3(\xed\xa0\x80"]), OK),
    "NUL": Stream(lambda: then_the_end([FRAME % b"\0\0", b"\0\0\0\n\n", b"data: \0\n\n"]), OK),
    "names with NUL and escapes": Stream(
        lambda: [
            b'data: {"id":"a\\u0000b\\u001b[31m","model":"m\\ud800\\u202e",'
            b'"choices":[{"index":0,"finish_reason":"x\\u0007"}]}\n\n',
            USAGE,
            b"data: [DONE]\n\n",
        ],
        OK,
    ),
    "a gzip bomb": Stream(bomb, BLIND, SSE_HEAD + b"content-encoding: gzip\r\n"),
    "a zstd bomb": Stream(zstd_bomb, BLIND, SSE_HEAD + b"content-encoding: zstd\r\n"),
    "gzip that is none": Stream(
        lambda: [b"\x1f\x8b\x08nonsense" * 100], BLIND, SSE_HEAD + b"content-encoding: gzip\r\n"
    ),
    "gzip that breaks off": Stream(
        lambda: [gzip.compress(FRAME % b"a" + END)[:-9]], OK, SSE_HEAD + b"content-encoding: gzip\r\n"
    ),
    "a coding that nobody knows": Stream(lambda: [b"?" * 1000], BLIND, SSE_HEAD + b"content-encoding: snappy\r\n"),
    "twenty codings": Stream(
        lambda: [b"?" * 1000], BLIND, SSE_HEAD + b"content-encoding: " + b"gzip, " * 20 + b"br\r\n"
    ),
    "noise": Stream(noise, {"input_tokens": None}),
    "a JSON body without end": Stream(
        lambda: itertools.chain([b'{"choices":['], repeated(b'{"a":"%b"},' % (b"x" * 1000), 40_000)),
        {"input_tokens": None},
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n",
    ),
    "choices without number": Stream(
        lambda: then_the_end(
            b'data: {"choices":[{"index":%d,"delta":{"content":"a"},"finish_reason":null}]}\n\n' % number
            for number in range(20_000)
        ),
        {},
    ),
    "a new shape each time": Stream(
        lambda: then_the_end(
            b'data: {"k%d":1,"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n' % number for number in range(15_000)
        ),
        OK,
    ),
    "usage in every frame": Stream(
        lambda: then_the_end(
            USAGE.replace(b":7,", b":%d," % number).replace(b"[]", b'[{"index":0,"delta":{}}]')
            for number in range(15_000)
        ),
        OK,
    ),
    "errors without number": Stream(
        lambda: (b'data: {"error":{"type":"%d","message":"%b"}}\n\n' % (number, b"x" * 2000) for number in range(5000)),
        {"end_reason": "upstream_error", "error_type": "0"},
    ),
}


@pytest.fixture(scope="module")
def sent() -> dict[str, Digest]:
    return {}


@pytest.fixture(scope="module")
def feed(sent: dict[str, Digest]) -> Iterator[Feed]:
    def answer(body: bytes) -> Iterator[bytes]:
        name = json.loads(body)["model"]
        stream, passed = STREAMS[name], sent.setdefault(name, Digest())

        def noted() -> Iterator[bytes]:
            for piece in filter(None, stream.pieces()):
                passed.add(piece)
                yield piece

        return chunked(noted(), stream.head)

    with running_feed(answer) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(feed: Feed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mitmdump]:
    with running_mitmdump(tmp_path_factory.mktemp("hostile"), f"reverse:{feed.url}") as running:
        yield running
        assert errors_in(running.log) == []


@pytest.mark.parametrize("name", STREAMS)
def test_a_hostile_stream_passes_whole_and_costs_bounded_memory(
    proxy: Mitmdump, sent: dict[str, Digest], name: str
) -> None:
    before = proxy.rss
    got, peak = Digest(), 0
    line = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)
    body = json.dumps(STREAM | {"model": name})
    line.request("POST", CHAT, body, {"x-usage-tag": name, "content-type": "application/json"})
    answer = line.getresponse()
    while piece := answer.read(1 << 20):
        got.add(piece)
        peak = max(peak, proxy.rss)
    line.close()
    assert got.hex == sent[name].hex
    row = proxy.row(name, timeout=20)
    assert {column: row[column] for column in STREAMS[name].row} == STREAMS[name].row
    assert peak - before < ROOM, f"{(peak - before) / MIB:.0f} MiB"


def test_wrong_lengths(tmp_path_factory: pytest.TempPathFactory) -> None:
    """More than the content-length, less than it, and an answer of nothing: the row tells the end that there was."""
    heads = {
        "longer": SSE_HEAD + b"content-length: %d\r\n\r\n" % len(END) + END + b"data: more\n\n",
        "nothing": SSE_HEAD + b"content-length: 0\r\n\r\n",
    }

    def answer(body: bytes) -> Iterator[bytes]:
        yield heads[json.loads(body)["model"]]

    with (
        running_feed(answer) as feed,
        running_mitmdump(tmp_path_factory.mktemp("lengths"), f"reverse:{feed.url}") as proxy,
    ):
        ends = {}
        for name in heads:
            line = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)
            line.request("POST", CHAT, json.dumps(STREAM | {"model": name}), {"x-usage-tag": name})
            assert line.getresponse().read() == (END if name == "longer" else b"")
            line.close()
            ends[name] = proxy.row(name)["end_reason"]
        assert ends == {"longer": "complete", "nothing": "upstream_disconnected"}
