"""Frames out of bytes, whatever the cut: SSE, NDJSON, a JSON array, one whole document.

Each framing has `feed(chunk)` and `finish()`, both giving complete frames as raw bytes, and `payload(frame)`, the JSON
text in a frame (`None` where it has none). Memory is bounded by `limit`: a longer frame is skipped, and `oversized`
says so. Time is linear: bytes are searched once, and a frame in many chunks is joined once. (AWS event stream:
`eventstream.py`.)
"""

from __future__ import annotations

import re
from typing import Protocol

# A line ends with CR, LF or CRLF (https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream);
# a frame ends with an empty line. CRLF is one line end, never two.
BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n?|\n)")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_CR = 0x0D
_BOM = b"\xef\xbb\xbf"


class Framing(Protocol):
    """How frames are told apart in a body."""

    oversized: bool
    broken: str | None
    """Why nothing more can be told apart (AWS event stream: a wrong CRC)."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The frames that `chunk` completes."""

    def finish(self) -> list[bytes]:
        """What is left at the end of the body, as the last frame."""

    def payload(self, frame: bytes) -> bytes | None:
        """The JSON text in `frame`; `None` where it has none (a comment, a keep-alive)."""


class _Holding:
    """What the framings below share: what is held of an unfinished frame, and its bound."""

    def __init__(self, limit: int) -> None:
        self.oversized = False
        self.broken: str | None = None
        self._limit = limit
        self._held = bytearray()
        self._skipping = False

    def finish(self) -> list[bytes]:
        rest, self._held = bytes(self._held), bytearray()
        return [rest] if rest.strip() and not self._skipping else []

    def payload(self, frame: bytes) -> bytes | None:
        return frame


class Sse(_Holding):
    """Server-sent events. A frame here is raw: from its first byte to the end of its blank line."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._carriage = False  # a CR was seen: lines need the slower search from then on

    @property
    def pending(self) -> bool:
        """Whether an unfinished frame is held."""
        return bool(self._held)

    @property
    def held(self) -> int:
        """Bytes of the unfinished frame."""
        return len(self._held)

    def feed(self, chunk: bytes) -> list[bytes]:
        frames = []
        at = 0
        while at < len(chunk):
            frame, at = self.take(chunk, at)
            if frame:
                frames.append(frame)
        return frames

    def take(self, chunk: bytes, at: int) -> tuple[bytes, int]:
        """The frame that ends first in `chunk` from `at` on, and where the next one begins.

        `b""` and the end of the chunk where none ends; `b""` and its end for one that was too long.
        """
        self._carriage = self._carriage or chunk.find(b"\r") >= 0
        end = self._end_with_cr(chunk, at) if self._carriage else self._end(chunk, at)
        if end is None or (end == len(chunk) and end > at and chunk[-1] == _CR):  # an LF may belong to it
            self._hold(chunk[at:])
            return b"", len(chunk)
        frame = bytes(self._held) + chunk[at:end] if self._held else chunk[at:end]
        if self._skipping or len(frame) > self._limit:
            frame, self._skipping, self.oversized = b"", False, True
        self._held.clear()
        return frame, end

    def _end(self, chunk: bytes, at: int) -> int | None:
        """Behind the next blank line; it may have begun in what is held."""
        if self._held and self._held[-1] == 0x0A and chunk.startswith(b"\n", at):
            return at + 1
        found = chunk.find(b"\n\n", at)
        return None if found < 0 else found + 2

    def _end_with_cr(self, chunk: bytes, at: int) -> int | None:
        begun = bytes(self._held[-3:])
        if not begun:
            return _blank_line_end(chunk, at)
        end = _blank_line_end(begun + chunk[at:], 0)
        return None if end is None else at + end - len(begun)

    def _hold(self, rest: bytes) -> None:
        self._held += rest
        if len(self._held) > self._limit or self._skipping:
            self.oversized = self._skipping = True
            del self._held[:-3]

    def payload(self, frame: bytes) -> bytes | None:
        if frame.startswith(b"data: ") and frame.find(b"\n") == len(frame) - 2 and frame.find(b"\r") < 0:
            return frame[6:-2]  # the usual frame: one line
        lines = []
        for line in _LINE_END.split(frame.removeprefix(_BOM)):
            name, _, value = line.partition(b":")
            if name == b"data":
                lines.append(value.removeprefix(b" "))
            elif name == b"error":
                # llama.cpp before PR #16109 writes a stream's error as a field of its own: `error: {"code":500,…}`
                lines.append(b'{"error":' + value + b"}")
        return b"\n".join(lines) if lines else None


def _blank_line_end(chunk: bytes, at: int) -> int | None:
    """Where the first blank line from `at` on ends: what `BLANK_LINE` finds, by hopping from line end to line end.

    (A search for two line ends in a row stops at every byte of a line.)
    """
    while (feed := chunk.find(b"\n", at)) >= 0:
        carriage = chunk.find(b"\r", at, feed)
        if carriage not in (-1, feed - 1):
            break
        at = feed + 1
        if chunk.startswith(b"\n", at):
            return at + 1
        if chunk.startswith(b"\r", at):
            return at + (2 if chunk.startswith(b"\n", at + 1) else 1)
    blank = BLANK_LINE.search(chunk, at) if chunk.find(b"\r", at) >= 0 else None  # some lines end with a lone CR
    return None if blank is None else blank.end()


class Ndjson(_Holding):
    """One JSON text a line."""

    def feed(self, chunk: bytes) -> list[bytes]:
        end = chunk.rfind(b"\n")
        if end < 0:
            self._hold(chunk)
            return []
        lines = (bytes(self._held) + chunk[:end]).split(b"\n")
        if self._skipping:
            self._skipping = False
            del lines[0]  # the end of the line that was too long
        self._held.clear()
        self._hold(chunk[end + 1 :])
        self.oversized = self.oversized or any(len(line) > self._limit for line in lines)
        return [line for line in lines if len(line) <= self._limit and line.strip()]

    def _hold(self, rest: bytes) -> None:
        if not self._skipping:
            self._held += rest
            if len(self._held) > self._limit:
                self.oversized = self._skipping = True
                self._held.clear()


class JsonArray(_Holding):
    """The elements of a top-level JSON array as they arrive (Gemini without `alt=sse`: pretty-printed, piece by
    piece).
    """

    _TOKEN = re.compile(rb'[\[\]{}"]')
    _IN_STRING = re.compile(rb'[\\"]')

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._scanned = 0
        self._depth = 0
        self._start = -1  # where the element begins in _held
        self._in_string = False
        self._escaped = False

    def feed(self, chunk: bytes) -> list[bytes]:
        self._held += chunk
        frames: list[bytes] = []
        while (at := self._next()) is not None:
            self._step(at, frames)
        self._drop_seen()
        return frames

    def _next(self) -> int | None:
        """Where the next bracket or quote outside a string is; `None` at the end of what has arrived."""
        if self._in_string and not self._leave_string():
            return None
        found = self._TOKEN.search(self._held, self._scanned)
        self._scanned = found.end() if found else len(self._held)
        return found.start() if found else None

    def _leave_string(self) -> bool:
        """Move behind the closing quote; an escape that the cut split is remembered."""
        while self._scanned < len(self._held):
            if self._escaped:
                self._escaped = False
                self._scanned += 1
                continue
            found = self._IN_STRING.search(self._held, self._scanned)
            if found is None:
                break
            self._scanned = found.end()
            if found[0] == b'"':
                self._in_string = False
                return True
            self._escaped = True
        else:
            return False
        self._scanned = len(self._held)
        return False

    def _step(self, at: int, frames: list[bytes]) -> None:
        token = self._held[at]
        if token == 0x22:
            self._in_string = True
        elif token in b"[{":
            self._depth += 1
            if self._depth == 2 and token == 0x7B:
                self._start = at
        else:
            self._depth -= 1
            if self._depth == 1 and self._start >= 0:
                frame, self._start = bytes(self._held[self._start : at + 1]), -1
                if len(frame) > self._limit:
                    self.oversized = True
                else:
                    frames.append(frame)

    def _drop_seen(self) -> None:
        """Forget what no frame needs; an element over the limit is forgotten and passed over."""
        if self._start >= 0 and len(self._held) - self._start > self._limit:
            self.oversized = True
            self._start = -1
        done = self._scanned if self._start < 0 else self._start
        del self._held[:done]
        self._scanned -= done
        self._start = 0 if self._start >= 0 else -1

    def finish(self) -> list[bytes]:
        self._held.clear()
        return []


class Document(_Holding):
    """The whole body is one frame."""

    def feed(self, chunk: bytes) -> list[bytes]:
        if not self.oversized:
            self._held += chunk
            if len(self._held) > self._limit:
                self.oversized = True
                self._held.clear()
        return []

    def payload(self, frame: bytes) -> bytes | None:
        return frame.removeprefix(_BOM)
