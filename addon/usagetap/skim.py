"""Ordinary frames, recognised without being read.

Most frames of a stream are one frame over and over, with another piece of text in it. Once such a frame was parsed and
found to tell nothing, its *shape* is remembered: the bytes before the text, the byte that ends the text, the bytes
after it. A frame of that shape tells nothing either, and two byte comparisons prove it: no parse, no allocation.
Where the name of its event, or its end, says that a frame tells nothing, a run of such frames is proved at once.

Where every frame carries usage and the last one counts (Gemini), the shape ends where the usage begins, and `holds`:
its frames tell nothing but usage, so that only the last one is kept.
"""

from __future__ import annotations

import re
from itertools import cycle
from typing import NamedTuple

SHAPES = 4
"""Shapes remembered per stream: several choices, or text and tool arguments, take turns."""
TEXTS = 6
"""Texts in one frame that may differ from the next one's; OpenRouter repeats its reasoning twice."""

# the strings in which streams carry their text, and random padding (OpenAI: `obfuscation`; Mistral: `p`); an empty one
# stays empty as a rule, so it belongs to what stands still
_TEXT = (
    rb'"(?:content|text|delta|reasoning|reasoning_content|arguments|partial_json|thinking|response|obfuscation|p|value)"'
    rb'\s*:\s*"(?!")'
)
_CREATED = rb'"created"\s*:\s*(?=\d)'
_MOVING = re.compile(_TEXT)
_MOVING_CLOCK = re.compile(_TEXT + b"|" + _CREATED)
_CLOCK = re.compile(_CREATED + rb"(\d+)")
_STRING_END = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+"')
_NUMBER_END = re.compile(rb"\d+,")  # one that ends its object stands still: more keys might end there
# where a one-line frame names its event: in a line before the data (nearly all), behind it (Bedrock Mantle), or first
# in the payload (OpenRouter's Responses)
_EVENT_BEFORE = re.compile(rb"event: ?([^\n]+)\ndata: ?")
_EVENT_BEHIND = re.compile(rb"\nevent: ?([^\n]+)\n\n")
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}]')
_TYPE_FIRST = re.compile(rb'data: ?\{"type": ?"([^"\\]+)",')
# the usage that a frame carries, and what must not stand behind it: shapes end there
_USAGE = re.compile(rb'"usage(?:Metadata)?"\s*:\s*\{')
_TELLS = re.compile(rb'"(?:choices|candidates|promptFeedback|error|finish_reason|finishReason)"')
KEY = b":"
"""What is counted in the usage: one key more may matter. (One byte is counted faster than two.)"""
DIGITS = 3
"""Bytes by which the usage of two frames may differ without being counted: no key is as short."""
_BACKSLASH = 0x5C


class Shape(NamedTuple):
    """A frame whose bytes stand still around its texts: `head`, a text, what `steps` say, `tail`."""

    head: bytes
    stop: bytes
    """What ends the first text."""
    steps: tuple[tuple[bytes, int, bytes, int], ...]
    """Where there is more than one text: the bytes before each further one, their number, what ends it, and how many
    bytes before that it is over: usage is over at its brace, and what ends it is the line's end."""
    tail: bytes
    meet: bytes
    """`tail` and `head`: what stands between the last text of a frame and the first one of the next."""
    holds: int
    """Keys of the usage, where its frames carry usage: the last one is to be read; 0 where they carry none."""

    def run(self, text: bytes, at: int) -> tuple[int, int, int]:
        """Pass over frames of this shape: where the first other one begins, how many, and where the last one began."""
        head, until, steps, tail, meet, holds = self
        startswith, find = text.startswith, text.find
        last, begun, count = at, at + len(head), 0
        end = find(until, begun)
        for still, length, following, back in cycle((*steps, (meet, len(meet), until, 0))):
            if not startswith(still, end):
                end = _behind_escapes(text, end, until)
                if not startswith(tail if still is meet else still, end):
                    break
            if still is meet:
                if holds and text.count(KEY, begun, end) != holds:
                    break
                last, at = at, end + len(tail)
                count += 1
                if not startswith(head, at):
                    break
            begun, until = end + length, following
            end = find(until, begun) - back
        return at, count, last


class OneText(Shape):
    """A frame with one text: nearly all are."""

    __slots__ = ()

    def run(self, text: bytes, at: int) -> tuple[int, int, int]:
        """As of any shape; a search and a comparison are what a frame costs."""
        head, stop, _, tail, meet, _ = self
        startswith, find, meeting = text.startswith, text.find, len(meet)
        met, count = at - len(tail), 0
        end = find(stop, at + len(head))
        while True:
            while startswith(meet, end):
                met = end
                end = find(stop, end + meeting)
                count += 1
            if startswith(tail, end):  # another one's frame follows, or none
                return end + len(tail), count + 1, at
            escaped, end = end, _behind_escapes(text, end, stop)
            if end == escaped:
                return met + len(tail), count, at


class TwoTexts(Shape):
    """A frame with two texts; one is padding as a rule, a time, or usage."""

    __slots__ = ()

    def run(self, text: bytes, at: int) -> tuple[int, int, int]:
        """As of any shape."""
        head, stop, ((still, length, until, back),), tail, meet, holds = self
        startswith, find, meeting = text.startswith, text.find, len(meet)
        last = met = at - len(tail)
        count = width = 0
        end = find(stop, at + len(head))
        while True:
            if not startswith(still, end):
                end = _behind_escapes(text, end, stop)
                if not startswith(still, end):
                    break
            begun = end + length
            end = find(until, begun) - back
            if not (more := startswith(meet, end)):
                end = _behind_escapes(text, end, until)
                if not (more := startswith(meet, end)) and not startswith(tail, end):
                    break
            if holds:
                if not -DIGITS <= end - begun - width <= DIGITS and text.count(KEY, begun, end) != holds:
                    break
                width = end - begun
            last, met = met, end
            count += 1
            if not more:
                break
            end = find(stop, end + meeting)
        return met + len(tail), count, last + len(tail)


def _behind_escapes(text: bytes, end: int, stop: bytes) -> int:
    """The first `stop` from the one at `end` on with no backslash before it.

    Of a text that ends with a backslash the end is missed; such frames are rare, and are read.
    """
    while end > 0 and text[end - 1] == _BACKSLASH:
        end = text.find(stop, end + 1)
    return end


class Named(NamedTuple):
    """A frame of one payload whose `head` and `tail` alone say that it tells nothing, whatever is between them."""

    head: bytes
    tail: bytes
    lines: int
    """Line ends in a frame."""
    holds: int = 0
    """As of a `Shape`: none of its frames has to be read."""

    def run_to_end(self, text: bytes, at: int) -> tuple[int, int]:
        """All frames to the last `tail` at once, if all are of this kind: where they end, how many; else none.

        Wherever `tail` and `head` meet, a frame ends and another begins. Line ends beyond those in `head` and `tail`
        would be another frame's.
        """
        end = text.rfind(self.tail, at)
        if end < 0:
            return at, 0
        end += len(self.tail)
        rest = text[at:end]
        frames = rest.count(self.tail + self.head) + 1
        lines = len(rest) - len(rest.replace(b"\n", b""))  # twice as quick as `count` before Python 3.14
        spelt = rest.count(b"\r") == lines if b"\r" in self.tail else b"\r" not in rest
        return (end, frames) if spelt and lines == frames * self.lines else (at, 0)

    def run(self, text: bytes, at: int) -> tuple[int, int, int]:
        """The same, one by one; and where the last one began."""
        head, tail, _, _ = self
        before = len(tail.partition(b"\n")[0])
        count, last = 0, at
        while text.startswith(head, at):
            begun = at + len(head)
            end = text.find(b"\n", begun) - before
            if end < begun or not text.startswith(tail, end) or text.find(b"\r", begun, end) >= 0:
                break
            last, at = at, end + len(tail)
            count += 1
        return at, count, last


def named_of(frame: bytes, dull_event: re.Pattern[bytes] | None, dull_end: bytes | None) -> Named | None:
    """The shape of a frame (with its blank line) whose event's name, or whose end, says that it tells nothing."""
    lines = frame.count(b"\n")
    end = b"\r\n\r\n" if frame.endswith(b"\r\n\r\n") else b"\n\n"
    if dull_end and frame.endswith(dull_end + end) and frame.startswith(b"data:") and lines == 2:
        return Named(b"data:", dull_end + end, 2)
    if dull_event is None:
        return None
    if (event := _EVENT_BEFORE.match(frame)) and dull_event.fullmatch(event[1]):
        return Named(event[0], b"\n\n", 3) if lines == 3 else None
    if (event := _TYPE_FIRST.match(frame)) and dull_event.fullmatch(event[1]):
        return Named(event[0], end, 2) if lines == 2 else None
    if (event := _EVENT_BEHIND.search(frame)) and dull_event.fullmatch(event[1]) and frame.startswith(b"data: "):
        return Named(b"data: ", event[0], 3) if lines == 3 else None
    return None


def shape_of(frame: bytes, *, clock: bool = False) -> Shape | None:
    """The shape of an SSE frame (with its blank line) that was found to tell nothing; `None` where it has none.

    With `clock`, the time at which it was created (a number) moves as its texts do.
    """
    if not frame.endswith((b"\n\n", b"\r\n\r\n")) or frame.count(b"\n") > 3:
        return None
    before, tail = _around_texts(frame, clock)
    return _shape(before, tail)


def usage_shape_of(frame: bytes, *, clock: bool = False) -> Shape | None:
    """The shape of an SSE frame that was found to tell nothing but its usage; `None` where it has none."""
    usage = list(_USAGE.finditer(frame))
    blank = b"\r\n\r\n" if frame.endswith(b"\r\n\r\n") else b"\n\n"
    if not usage or not frame.endswith(blank) or frame.count(b"\n") != 2 or _TELLS.search(frame, usage[-1].end()):
        return None
    begun = usage[-1].end()
    end = _object_end(frame, begun)
    before, still = _around_texts(frame[:begun], clock)
    keys = frame.count(KEY, begun, end)
    if not before or not keys:
        return None
    # usage may have any braces in it: it is over where the line is, but for what stands behind it
    return _shape([*before, (still, blank[:1])], frame[end:], keys, back=len(frame) - len(blank) - end)


def _object_end(frame: bytes, at: int) -> int:
    """Where the brace is that closes the object whose first one is before `at`."""
    depth = 1
    for token in _TOKEN.finditer(frame, at):
        depth += (token[0] == b"{") - (token[0] == b"}")
        if depth == 0:
            return token.start()
    return len(frame.rstrip())  # none does: no JSON


def _around_texts(frame: bytes, clock: bool) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """What stands still: the bytes before each text of `frame`, with what ends that text; and the bytes behind them."""
    before = []
    at = 0
    for text in (_MOVING_CLOCK if clock else _MOVING).finditer(frame):
        end = (_STRING_END if text[0].endswith(b'"') else _NUMBER_END).match(frame, text.end())
        if text.start() < at or end is None:
            continue
        before.append((frame[at : text.end()], end[0][-1:]))
        at = end.end() - 1
    return before, frame[at:]


def _shape(before: list[tuple[bytes, bytes]], tail: bytes, holds: int = 0, *, back: int = 0) -> Shape | None:
    if not 1 <= len(before) <= TEXTS:
        return None
    (head, stop), *further = before
    kind = Shape if len(further) > 1 else TwoTexts if further else OneText
    steps = [(still, len(still), until, 0) for still, until in further]
    if holds:
        steps[-1] = (*steps[-1][:3], back)
    return kind(head, stop, tuple(steps), tail, tail + head, holds)


class Skim:
    """The shapes of one stream."""

    def __init__(self, dull_event: re.Pattern[bytes] | None = None, dull_end: bytes | None = None) -> None:
        self._shapes: list[Shape | Named] = []
        self._dull_event, self._dull_end = dull_event, dull_end
        self._created: bytes | None = None
        self.held: tuple[int, int] | None = None
        """Where the last frame that holds usage was, of those that `past` passed over."""
        self.mixed = False
        """A run that was tried to the end of the text had other frames in it: in this text it is not tried again."""

    def learn(self, frame: bytes, *, usage: bool = False) -> bool:
        """Remember the shape of `frame`, which tells nothing, or nothing but its `usage`; false if it has none."""
        clock = self._ticks(frame)
        shape: Shape | Named | None
        if usage:
            shape = usage_shape_of(frame, clock=clock)
        else:
            shape = named_of(frame, self._dull_event, self._dull_end) or shape_of(frame, clock=clock)
        if shape is not None and shape not in self._shapes:
            self._shapes.insert(0, shape)
            del self._shapes[SHAPES:]
        return shape is not None

    def _ticks(self, frame: bytes) -> bool:
        """Whether `created` tells each frame's own time (Ollama, xAI, GPUStack), not that of the stream."""
        earlier, created = self._created, _CLOCK.search(frame)
        if created:
            self._created = created[1]
        return earlier is not None and earlier != self._created

    def past(self, text: bytes, at: int = 0) -> tuple[int, int]:
        """Where the first frame from `at` on that may tell something begins, and how many were passed over."""
        shapes, passed, index = self._shapes, 0, 0
        self.held = None
        while index < len(shapes):
            shape = shapes[index]
            if not text.startswith(shape.head, at):
                index += 1
                continue
            begun, count = at, 0
            if type(shape) is Named and not self.mixed:
                at, count = shape.run_to_end(text, at)
                self.mixed = not count
            if not count:
                at, count, begun = shape.run(text, at)
            if not count:
                index += 1
                continue
            if shape.holds:
                self.held = begun, at
            passed += count
            if index and count > 1:  # met in runs: first to be tried
                shapes.insert(0, shapes.pop(index))
            index = 0
        return at, passed
