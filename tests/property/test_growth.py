"""Four times the bytes cost about four times the CPU, whatever they are and however they come: never their square.

The better of several runs, by the thread's own CPU clock; a quadratic core would need sixteen times as much.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from usagetap.dialects import DIALECTS, UNKNOWN
from usagetap.encoding import encode
from usagetap.reader import Reader
from usagetap.rewrite import Stripper

SMALL = 24_000
TIMES = 4
AT_MOST = 9.0

SHAPES: dict[str, tuple[bytes, bytes]] = {
    "one endless line": (b"data: ", b"x"),
    "an endless comment": (b": ", b"hi "),
    "tiny frames": (b"", b"data:{}\n\n"),
    "deltas": (b"", b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'),
    "a usage object in each": (b"", b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'),
    "one frame of many lines": (b"", b"data: x\n"),
    "blank lines": (b"", b"\n"),
    "carriage returns": (b"", b"\r"),
    "an array of objects": (b"[", b"{},"),
    "deep": (b"", b"["),
    "deep objects": (b"", b'{"a":'),
    "one endless string": (b'{"choices":[{"text":"', b'\\"\\\\'),
    "a document without end": (b'{"choices":[', b'{"a":1},'),
    "a document of usage": (b'{"a":[', b'"usage":{},'),
    "lines": (b"", b'{"done":false}\n'),
    "an event stream of nothing": (b"", b"\x00\x00\x00\x10\x00\x00\x00\x00"),
    "blanks": (b"", b" "),
}
KINDS = ("text/event-stream", "application/json", "application/x-ndjson", "application/vnd.amazon.eventstream")
CHAT = next(dialect for dialect in DIALECTS if dialect.name == "openai_chat")


def shaped(name: str, size: int) -> bytes:
    begin, rest = SHAPES[name]
    return begin + rest * (size // len(rest))


def cost(run: Callable[[bytes], object], body: bytes) -> float:
    """Nanoseconds of CPU, the better of two."""
    taken = []
    for _ in range(2):
        began = time.thread_time_ns()
        run(body)
        taken.append(time.thread_time_ns() - began)
    return min(taken)


def grows(run: Callable[[bytes], object], make: Callable[[int], bytes]) -> None:
    small, large = (cost(run, make(size)) for size in (SMALL, SMALL * TIMES))
    if large > AT_MOST * small:  # once more: others use the machine too
        small, large = max(small, cost(run, make(SMALL))), min(large, cost(run, make(SMALL * TIMES)))
    assert large <= AT_MOST * small + 3_000_000, f"{large / small:.1f} times the cost of {TIMES} times the bytes"


def reading(kind: str, piece: int, coding: str | None = None) -> Callable[[bytes], object]:
    def read(body: bytes) -> None:
        for dialect in (CHAT,) if coding else (CHAT, UNKNOWN):
            reader = Reader(dialect, content_type=kind, content_encoding=coding, http_status=200, stream=True)
            for at in range(0, len(body), piece):
                reader.feed(body[at : at + piece])
            reader.finish(complete=True)

    return read


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SHAPES)
def test_of_a_reader(name: str, kind: str) -> None:
    """In pieces that are small, but not so small that pieces are all that is measured."""
    grows(reading(kind, 23), lambda size: shaped(name, size))


@pytest.mark.parametrize("name", SHAPES)
def test_of_a_reader_of_a_compressed_body(name: str) -> None:
    grows(reading("text/event-stream", 23, "gzip"), lambda size: encode(shaped(name, size * 2), "gzip"))


@pytest.mark.parametrize("name", SHAPES)
def test_of_the_stripper(name: str) -> None:
    def strip(body: bytes) -> None:
        stripper = Stripper()
        for at in range(0, len(body), 23):
            stripper.feed(body[at : at + 23])
        stripper.release()

    grows(strip, lambda size: shaped(name, size))
