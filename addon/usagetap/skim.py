"""Ordinary frames, recognised without being read.

Most frames of a stream are one frame over and over, with another piece of text in it. Once such a frame was parsed and
found to tell nothing, its *shape* is remembered: the bytes before the text, the byte that ends the text, the bytes after
it. A frame of that shape tells nothing either, and three byte comparisons prove it: no parse, no allocation.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

SHAPES = 4
"""Shapes remembered per stream: several choices, or text and tool arguments, take turns."""

# the strings in which streams carry their text; what stands before one of them and behind it is the shape
_TEXT = re.compile(
    rb'"(?:content|text|delta|reasoning|reasoning_content|arguments|partial_json|thinking|response)"\s*:\s*"'
)
# random padding behind the text, other on each frame (OpenAI: `obfuscation`; Mistral: `p`)
_PADDING = re.compile(rb'"(?:obfuscation|p)"\s*:\s*"')
# where a frame names its event: in a line before the data (nearly all), behind it (Bedrock Mantle), or first in the
# payload (OpenRouter's Responses)
_EVENT_BEFORE = re.compile(rb"event: ?([^\n]+)\n(?=data:)")
_EVENT_BEHIND = re.compile(rb"\nevent: ?([^\n]+)\n\n")
_TYPE_FIRST = re.compile(rb'data: ?\{"type": ?"([^"\\]+)",')


class Shape(NamedTuple):
    """`head`, text without `stop`, `tail`; where there is a `pad_end`, then padding without a quote and `pad_end`.

    The lengths stand beside the bytes: the tap has no time to ask for them.
    """

    head: bytes
    head_length: int
    stop: bytes
    tail: bytes
    tail_length: int
    pad_end: bytes
    pad_end_length: int


def _shape(head: bytes, stop: bytes, tail: bytes, pad_end: bytes = b"") -> Shape:
    return Shape(head, len(head), stop, tail, len(tail), pad_end, len(pad_end))


NO_SHAPE = _shape(b"\0no frame begins like this", b"\0", b"\0")


def shape_of(frame: bytes, dull_event: re.Pattern[bytes] | None) -> Shape | None:
    """The shape of an SSE frame (with its blank line) that was found to tell nothing; `None` where it has none.

    `dull_event` matches the names of events that never tell anything, whatever their payload: for those the name is
    shape enough.
    """
    if not frame.endswith(b"\n\n") or b"\r" in frame:
        return None
    if dull_event is not None and (shape := _event_shape(frame, dull_event)) is not None:
        return shape
    found = _TEXT.search(frame)
    if found is None:
        return None
    quote = frame.find(b'"', found.end())
    if quote < 0 or b"\\" in frame[found.end() : quote]:
        return None
    head, tail = frame[: found.end()], frame[quote:]
    padding = _PADDING.search(tail)
    if padding is None:
        return _shape(head, b'"', tail)
    close = tail.find(b'"', padding.end())
    return _shape(head, b'"', tail[: padding.end()], tail[close:]) if close >= 0 else None


def _event_shape(frame: bytes, dull_event: re.Pattern[bytes]) -> Shape | None:
    """The shape of a frame whose event name alone says that it tells nothing."""
    lines = frame.count(b"\n")
    if (event := _EVENT_BEFORE.match(frame)) and dull_event.fullmatch(event[1]):
        return _shape(event[0], b"\n", b"\n\n") if lines == 3 else None
    if (event := _TYPE_FIRST.match(frame)) and dull_event.fullmatch(event[1]):
        return _shape(event[0], b"\n", b"\n\n") if lines == 2 else None
    if (event := _EVENT_BEHIND.search(frame)) and dull_event.fullmatch(event[1]) and frame.startswith(b"data: "):
        return _shape(b"data: ", b"\n", event[0]) if lines == 3 else None
    return None


class Skim:
    """The shapes of one stream; `shape` is the one that was met last.

    `on_open` is told which shape a chunk may have that begins a frame: none while an unfinished frame is held.
    """

    def __init__(self) -> None:
        self.shape = NO_SHAPE
        self.on_open: Callable[[Shape], None] = _ignore
        self._open = NO_SHAPE
        self._others: list[Shape] = []

    def learn(self, shape: Shape) -> None:
        """Remember `shape`, and forget the one unused for longest."""
        if self.shape is not NO_SHAPE:
            self._others.insert(0, self.shape)
            del self._others[SHAPES - 1 :]
        self.shape = shape

    def shut(self) -> None:
        """A frame has begun and not ended: whatever a chunk looks like, it is not a frame of its own."""
        self._tell(NO_SHAPE)

    def unshut(self) -> None:
        """The next chunk begins a frame."""
        self._tell(self.shape)

    def _tell(self, shape: Shape) -> None:
        if shape is not self._open:
            self._open = shape
            self.on_open(shape)

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
    head, head_length, stop, tail, tail_length, pad_end, pad_end_length = shape
    startswith, find = chunk.startswith, chunk.find
    count = 0
    while startswith(head, at):
        after = find(stop, at + head_length)
        if after < 0 or not startswith(tail, after):
            break
        after += tail_length
        if pad_end_length:
            after = find(b'"', after)
            if after < 0 or not startswith(pad_end, after):
                break
            after += pad_end_length
        at = after
        count += 1
    return at, count


def _ignore(shape: Shape) -> None:
    """Nobody asks."""
