"""Ordinary frames, recognised without being read.

Most frames of a stream are one frame over and over, with another piece of text in it. Once such a frame was parsed and
found to tell nothing, its *shape* is remembered: the bytes before the text, the byte that ends the text, the bytes
after it. A frame of that shape tells nothing either, and three byte comparisons prove it: no parse, no allocation.
Where the name of its event says that a frame tells nothing, a run of such frames is proved at once.

Where every frame carries usage and the last one counts (Gemini), the shape ends where the usage begins, and `holds`:
its frames tell nothing but usage, so that only the last one is kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

SHAPES = 4
"""Shapes remembered per stream: several choices, or text and tool arguments, take turns."""
TEXTS = 6
"""Texts in one frame that may differ from the next one's; OpenRouter repeats its reasoning twice."""

# the strings in which streams carry their text, and random padding (OpenAI: `obfuscation`; Mistral: `p`); an empty one
# stays empty as a rule, so it belongs to what stands still
_TEXT = re.compile(
    rb'"(?:content|text|delta|reasoning|reasoning_content|arguments|partial_json|thinking|response|obfuscation|p|value)"'
    rb'\s*:\s*"(?!")'
)
_STRING_END = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+"')
# where a one-line frame names its event: in a line before the data (nearly all), behind it (Bedrock Mantle), or first
# in the payload (OpenRouter's Responses)
_EVENT_BEFORE = re.compile(rb"event: ?([^\n]+)\ndata: ?")
_EVENT_BEHIND = re.compile(rb"\nevent: ?([^\n]+)\n\n")
# the usage that a frame carries, and what must not stand behind it: shapes end there
_USAGE = re.compile(rb'"usage(?:Metadata)?"\s*:\s*\{')
_TELLS = re.compile(rb'"(?:choices|candidates|promptFeedback|error|finish_reason|finishReason)"')
KEY = b":"
"""What is counted behind the usage: one key more may be an error's. (One byte is counted faster than two.)"""
_TYPE_FIRST = re.compile(rb'data: ?\{"type": ?"([^"\\]+)",')


class Shape(NamedTuple):
    """`head`, text without `stop`, `tail`; where there is more than one text, `between` has the bytes between them,
    their number, and what the text behind them ends with.
    """

    head: bytes
    head_length: int
    stop: bytes
    between: tuple[tuple[bytes, int, bytes], ...]
    tail: bytes
    tail_length: int
    lines: int
    """Line ends in a frame whose `head` alone says that it is ordinary; 0 where the tail must be looked at."""
    holds: int
    """Keys from the usage on, where its frames carry usage: the last one is to be read; 0 where they carry none."""

    def alone(self, text: bytes, at: int, end: int) -> int:
        """How many frames `text[at:end]`, which begins with `head` and ends with `tail`, is, if all are of this shape;
        else 0.

        Wherever `tail` and `head` meet, a frame ends and another begins. Line ends beyond those in `head` and `tail`
        would be another frame's.
        """
        frames = text.count(self.tail + self.head, at, end) + 1
        lines = text.count(b"\n", at, end)
        crlf = self.tail_length == len(b"\r\n\r\n")
        spelt = text.count(b"\r", at, end) == lines if crlf else text.find(b"\r", at, end) < 0
        return frames if spelt and lines == frames * self.lines else 0


def _shape(
    head: bytes,
    stop: bytes,
    tail: bytes,
    between: Sequence[tuple[bytes, bytes]] = (),
    lines: int = 0,
    holds: int = 0,
) -> Shape:
    measured = tuple((still, len(still), until) for still, until in between)
    return Shape(head, len(head), stop, measured, tail, len(tail), lines, holds)


def shape_of(frame: bytes, dull_event: re.Pattern[bytes] | None) -> Shape | None:
    """The shape of an SSE frame (with its blank line) that was found to tell nothing; `None` where it has none.

    `dull_event` matches the names of events that never tell anything, whatever their payload: for those the name is
    shape enough.
    """
    if not frame.endswith((b"\n\n", b"\r\n\r\n")) or frame.count(b"\n") > 3:
        return None
    if dull_event is not None and (shape := _event_shape(frame, dull_event)) is not None:
        return shape
    still = _around_texts(frame)
    if not 2 <= len(still) <= TEXTS + 1:
        return None
    return _shape(still[0], b'"', still[-1], [(each, b'"') for each in still[1:-1]])


def usage_shape_of(frame: bytes) -> Shape | None:
    """The shape of an SSE frame that was found to tell nothing but its usage; `None` where it has none."""
    usage = list(_USAGE.finditer(frame))
    tail = b"\r\n\r\n" if frame.endswith(b"\r\n\r\n") else b"\n\n"
    if not usage or not frame.endswith(tail) or frame.count(b"\n") != 2 or _TELLS.search(frame, usage[-1].end()):
        return None
    still = _around_texts(frame[: usage[-1].end()])
    if not 2 <= len(still) <= TEXTS + 1:
        return None
    between = [*((each, b'"') for each in still[1:-1]), (still[-1], tail[:1])]
    keys = frame.count(KEY, usage[-1].end())
    return _shape(still[0], b'"', tail, between, holds=keys) if keys else None


def _around_texts(frame: bytes) -> list[bytes]:
    """What stands still: the bytes before, between and behind the texts of `frame`."""
    still = []
    at = 0
    for text in _TEXT.finditer(frame):
        end = _STRING_END.match(frame, text.end())
        if text.start() < at or end is None:
            continue
        still.append(frame[at : text.end()])
        at = end.end() - 1
    return [*still, frame[at:]]


def _event_shape(frame: bytes, dull_event: re.Pattern[bytes]) -> Shape | None:
    """The shape of a frame whose event name alone says that it tells nothing."""
    lines = frame.count(b"\n")
    if (event := _EVENT_BEFORE.match(frame)) and dull_event.fullmatch(event[1]):
        return _shape(event[0], b"\n", b"\n\n", lines=3) if lines == 3 else None
    if (event := _TYPE_FIRST.match(frame)) and dull_event.fullmatch(event[1]):
        end = b"\r\n\r\n" if frame.endswith(b"\r\n\r\n") else b"\n\n"
        return _shape(event[0], end[:1], end, lines=2) if lines == 2 else None
    if (event := _EVENT_BEHIND.search(frame)) and dull_event.fullmatch(event[1]) and frame.startswith(b"data: "):
        return _shape(b"data: ", b"\n", event[0]) if lines == 3 else None
    return None


class Skim:
    """The shapes of one stream, the one that was met last before the others."""

    def __init__(self) -> None:
        self._shapes: list[Shape] = []
        self.held: tuple[int, int] | None = None
        """Where the last frame that holds usage was, of those that `past` passed over."""
        self.mixed = False
        """A run that was tried to the end of the text had other frames in it: in this text it is not tried again."""

    def learn(self, shape: Shape) -> None:
        """Remember `shape`, and forget the one unused for longest."""
        if shape not in self._shapes:
            self._shapes.insert(0, shape)
            del self._shapes[SHAPES:]

    def past(self, text: bytes, at: int = 0) -> tuple[int, int]:
        """Where the first frame from `at` on that may tell something begins, and how many were passed over."""
        passed, more = 0, True
        self.held = None
        while more:
            more = False
            for index, shape in enumerate(self._shapes):
                if text.startswith(shape.head, at):
                    at, count = self._run(shape, text, at)
                    if count:
                        passed, more = passed + count, True
                        if index:
                            self._shapes.insert(0, self._shapes.pop(index))
                        break
        return at, passed

    def _run(self, shape: Shape, text: bytes, at: int) -> tuple[int, int]:
        if shape.lines:
            if not self.mixed:
                end, count = _run_to_end(shape, text, at)
                if count:
                    return end, count
                self.mixed = True
            return _run_named(shape, text, at)
        after, count, last = _run(shape, text, at)
        if count and shape.holds:
            self.held = last, after
        return after, count


def _run(shape: Shape, text: bytes, at: int) -> tuple[int, int, int]:
    """Pass over frames of one shape; where the first one that is not begins, how many, where the last one began."""
    head, head_length, stop, between, tail, tail_length, _, holds = shape
    middle, middle_length, until = between[0] if between else (b"", 0, stop)
    careful = len(between) > 1
    startswith, find = text.startswith, text.find
    count, last = 0, at
    while startswith(head, at):
        begun = at + head_length
        end = find(stop, begun)
        if middle_length:
            begun = end + middle_length
            end = find(until, begun) if startswith(middle, end) else -1
        if careful or not startswith(tail, end) or (holds and text.count(KEY, begun, end) != holds):
            end = _tail_of(shape, text, at)
            if end < 0:
                break
        last, at = at, end + tail_length
        count += 1
    return at, count, last


def _tail_of(shape: Shape, text: bytes, at: int) -> int:
    """Where the tail of the frame that begins at `at` is, also with escaped quotes in its texts; -1 for none."""
    begun = at + shape.head_length
    end = _text_end(text, begun, shape.stop)
    for still, length, until in shape.between:
        if not text.startswith(still, end):
            return -1
        begun = end + length
        end = _text_end(text, begun, until)
    if not text.startswith(shape.tail, end) or (shape.holds and text.count(KEY, begun, end) != shape.holds):
        return -1
    return end


def _text_end(text: bytes, at: int, stop: bytes) -> int:
    """Where the first `stop` from `at` on is; a quote must be the one that ends the JSON string there. -1 for none."""
    end = text.find(stop, at)
    if stop != b'"' or end < 1 or text[end - 1] != 0x5C:
        return end
    found = _STRING_END.match(text, at)
    return found.end() - 1 if found else -1


def _run_to_end(shape: Shape, text: bytes, at: int) -> tuple[int, int]:
    """The same where the head is proof enough, for all frames to the last blank line at once; else none."""
    end = text.rfind(shape.tail, at) + shape.tail_length
    frames = shape.alone(text, at, end) if end > at else 0
    return (end, frames) if frames else (at, 0)


def _run_named(shape: Shape, text: bytes, at: int) -> tuple[int, int]:
    """The same, one by one."""
    passed = 0
    while text.startswith(shape.head, at):
        end = text.find(shape.stop, at + shape.head_length)
        if end < 0 or not text.startswith(shape.tail, end) or text.find(b"\r", at, end) >= 0:
            break
        at = end + shape.tail_length
        passed += 1
    return at, passed
