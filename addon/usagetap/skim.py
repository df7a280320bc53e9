"""Ordinary frames, recognised without being read.

Most frames of a stream are one frame over and over, with another piece of text in it. Once such a frame was parsed and
found to tell nothing, its *shape* is remembered: the bytes before the text, the byte that ends the text, the bytes after
it. A frame of that shape tells nothing either, and three byte comparisons prove it: no parse, no allocation.
"""

from __future__ import annotations

import re
from typing import NamedTuple

SHAPES = 4
"""Shapes remembered per stream: several choices, or text and tool arguments, take turns."""

# the strings in which streams carry their text; what stands before one of them and behind it is the shape
_TEXT = re.compile(
    rb'"(?:content|text|delta|reasoning|reasoning_content|arguments|partial_json|thinking|response)"\s*:\s*"'
)
# random padding behind the text, other on each frame (OpenAI: `obfuscation`; Mistral: `p`)
_PADDING = re.compile(rb'"(?:obfuscation|p)"\s*:\s*"')
_EVENT = re.compile(rb"event: ?([^\r\n]+)\n(?=data:)")


class Shape(NamedTuple):
    """`head`, text without `stop`, `tail`; where `padded`, then text without a quote and `end`."""

    head: bytes
    stop: bytes
    tail: bytes
    padded: bool
    end: bytes


NO_SHAPE = Shape(b"\0no frame begins like this", b"\0", b"\0", False, b"")


def shape_of(frame: bytes, dull_event: re.Pattern[bytes] | None) -> Shape | None:
    """The shape of an SSE frame (with its blank line) that was found to tell nothing; `None` where it has none.

    `dull_event` matches the names of events that never tell anything, whatever their payload: for those the name is
    shape enough.
    """
    if not frame.endswith(b"\n\n") or b"\r" in frame:
        return None
    event = _EVENT.match(frame)
    if event and dull_event and dull_event.fullmatch(event[1]) and frame.count(b"\n") == 3:
        return Shape(event[0], b"\n", b"\n\n", False, b"")
    found = _TEXT.search(frame)
    if found is None:
        return None
    quote = frame.find(b'"', found.end())
    if quote < 0 or b"\\" in frame[found.end() : quote]:
        return None
    head, tail = frame[: found.end()], frame[quote:]
    padding = _PADDING.search(tail)
    if padding is None:
        return Shape(head, b'"', tail, False, b"")
    close = tail.find(b'"', padding.end())
    return Shape(head, b'"', tail[: padding.end()], True, tail[close:])


class Skim:
    """The shapes of one stream; `shape` is the one that was met last, `open` the same while a new frame may begin."""

    def __init__(self) -> None:
        self.shape = self.open = NO_SHAPE
        self._others: list[Shape] = []

    def learn(self, shape: Shape) -> None:
        """Remember `shape`, and forget the one unused for longest."""
        if self.shape is not NO_SHAPE:
            self._others.insert(0, self.shape)
            del self._others[SHAPES - 1 :]
        self.shape = shape

    def shut(self) -> None:
        """A frame has begun and not ended: whatever a chunk looks like, it is not a frame of its own."""
        self.open = NO_SHAPE

    def unshut(self) -> None:
        """The next chunk begins a frame."""
        self.open = self.shape

    def past(self, chunk: bytes, at: int = 0) -> tuple[int, int]:
        """Where the first frame from `at` on that may tell something begins, and how many were passed over."""
        passed = 0
        while True:
            at, count = _run(self.shape, chunk, at)
            passed += count
            for index, shape in enumerate(self._others):
                if chunk.startswith(shape.head, at):
                    later, count = _run(shape, chunk, at)
                    if count:
                        self._others[index], self.shape = self.shape, shape
                        at, passed = later, passed + count
                        break
            else:
                return at, passed


def _run(shape: Shape, chunk: bytes, at: int) -> tuple[int, int]:
    """Pass over frames of one shape."""
    head, stop, tail, padded, end = shape
    head_length, tail_length, end_length = len(head), len(tail), len(end)
    startswith, find = chunk.startswith, chunk.find
    count = 0
    while startswith(head, at):
        stopped = find(stop, at + head_length)
        if stopped < 0 or not startswith(tail, stopped):
            break
        after = stopped + tail_length
        if padded:
            after = find(b'"', after)
            if after < 0 or not startswith(end, after):
                break
            after += end_length
        at = after
        count += 1
    return at, count
