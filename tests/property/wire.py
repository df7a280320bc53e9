"""Bodies as they come over the wire: event streams in every spelling the standard allows, cut anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st
from tests.golden.cases import Case, cases, observed

from usagetap.dialects.base import Dialect
from usagetap.framing import Sse
from usagetap.reader import Reader

CASES = [case for case in cases() if not case.websocket]
STREAMS = [
    case
    for case in CASES
    if case.meta.get("content_type", "").startswith("text/event-stream") and case.meta["status"] < 400
]

type Wish = list[float]
"""Where to cut, as parts of the whole: the body itself is not known when it is drawn."""

WISHES = st.lists(st.floats(0, 1), max_size=12)


def split(body: bytes, wish: Iterable[float]) -> list[bytes]:
    """`body` in pieces; some may be empty, as they may be on the wire."""
    places = [0, *sorted(int(part * len(body)) for part in wish), len(body)]
    return [body[start:end] for start, end in pairwise(places)]


def byte_by_byte(body: bytes) -> list[bytes]:
    return [body[at : at + 1] for at in range(len(body))]


def frame_by_frame(body: bytes) -> list[bytes]:
    """As servers write: one event a chunk."""
    sse = Sse(len(body) + 1)
    pieces, at = [], 0
    while at < len(body):
        _, end = sse.take(body, at)
        pieces.append(body[at:end])
        at = end
    return pieces


# -- event streams


@dataclass(frozen=True)
class Spelling:
    """How one event is written."""

    line_end: str = "\n"
    space: str = " "
    comment: str = ""
    several_lines: bool = False
    extra: str = ""
    """A field behind the data."""


_SPELLINGS = st.builds(
    Spelling,
    line_end=st.sampled_from(["\n", "\n", "\r\n", "\r"]),
    space=st.sampled_from([" ", " ", ""]),
    comment=st.sampled_from(["", "", "", ": keep-alive", ":"]),
    several_lines=st.booleans(),
    extra=st.sampled_from(["", "", "id: 7", "retry: 10", "unknown field"]),
)
_PLAIN = st.just(Spelling())


def event(name: str | None, payload: str, how: Spelling) -> bytes:
    """One event, from its first line to its blank line."""
    lines = [how.comment] if how.comment else []
    if name:
        lines.append(f"event:{how.space}{name}")
    lines += [f"data:{how.space}{line}" for line in _over_lines(payload, how)]
    lines += [how.extra] if how.extra else []
    return (how.line_end.join([*lines, "", ""])).encode("utf-8", "surrogatepass")


def _over_lines(payload: str, how: Spelling) -> list[str]:
    if not how.several_lines:
        return [payload]
    try:
        return json.dumps(json.loads(payload), indent=1).split("\n")
    except ValueError:
        return [payload]


_TEXT_KEYS = ("content", "text", "delta", "partial_json", "thinking", "arguments", "reasoning_content")


@dataclass(frozen=True)
class Told:
    """One event of a recorded stream."""

    name: str | None
    payload: Any

    def spelled(self, text: str | None, *, ascii_only: bool) -> str:
        """The payload with `text` for its own text."""
        if isinstance(self.payload, str):
            return self.payload
        payload = self.payload if text is None else _with_text(self.payload, text)
        return json.dumps(payload, ensure_ascii=ascii_only, separators=(",", ":"))


def _with_text(payload: Any, text: str) -> Any:
    if isinstance(payload, list):
        return [_with_text(each, text) for each in payload]
    if not isinstance(payload, dict):
        return payload
    return {
        key: text if key in _TEXT_KEYS and isinstance(value, str) else _with_text(value, text)
        for key, value in payload.items()
    }


def told_by(case: Case) -> list[Told]:
    """The events of a capture; `[DONE]` and what is no JSON as text."""
    sse = Sse(1 << 24)
    found = []
    for frame in [*sse.feed(case.body), *sse.finish()]:
        payload = sse.payload(frame)
        name = next((line[6:].strip().decode() for line in frame.splitlines() if line.startswith(b"event:")), None)
        try:
            found.append(Told(name, json.loads(payload or b"")))
        except ValueError:
            if payload is not None and b"\n" not in payload and b"\r" not in payload:
                found.append(Told(name, payload.decode("utf-8", "replace")))
    return found


_RECORDED = [(case, told_by(case)) for case in STREAMS]
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ['"', "\\", '\\"', "\n\ndata: [DONE]\n\n", '"usage":{', '","finish_reason":"stop', "x" * 300, "é漢🎉"]
)


@st.composite
def event_streams(draw: st.DrawFn) -> tuple[Case, bytes]:
    """A capture (for its request and dialect) and a body made of its events: repeated, reordered, spelled anew."""
    case, told = draw(st.sampled_from([each for each in _RECORDED if each[1]]))
    chosen = draw(st.lists(st.sampled_from(told), max_size=6)) if draw(st.booleans()) else told
    spellings = draw(st.sampled_from([_PLAIN, _SPELLINGS]))
    one_spelling = draw(_SPELLINGS | st.none())
    ascii_only = draw(st.booleans())
    parts = [draw(st.sampled_from([b"", b"", b"", b"\xef\xbb\xbf", b"\n", b": hi\n\n"]))]
    for each in chosen:
        for _ in range(draw(st.sampled_from([1, 1, 1, 2, 5]))):
            text = draw(st.none() | _TEXTS)
            how = one_spelling or draw(spellings)
            parts.append(event(each.name, each.spelled(text, ascii_only=ascii_only), how))
        parts.append(
            draw(st.sampled_from([b"", b"", b"", b"", b": ping\n\n", b"\r\n", b'error: {"message":"x"}\r\n\r\n']))
        )
    body = b"".join(parts)
    return case, draw(st.sampled_from([body, body, body.rstrip(b"\r\n"), body[:-1]]))


# -- what a reader has found


def read(reader: Reader, chunks: Sequence[bytes], *, through_tap: bool, complete: bool = True) -> Reader:
    """`reader` at the end of the body."""
    feed = reader.tap(_raise) if through_tap else reader.feed
    for chunk in chunks:
        feed(chunk)
    reader.finish(complete=complete)
    return reader


def found(reader: Reader) -> dict[str, Any]:
    """All that a reader tells, but for the number of chunks."""
    return {
        **observed(reader.seen),
        "transport": reader.transport,
        "frames": reader.frames,
        "body_bytes": reader.body_bytes,
        "truncated": reader.truncated,
        "broken": reader.broken,
        "opaque": reader.opaque,
    }


def reader_for(dialect: Dialect, content_type: str = "text/event-stream", **more: Any) -> Reader:
    """A reader of a stream."""
    return Reader(dialect, content_type=content_type, stream=True, **more)


def _raise(error: Exception) -> None:
    raise error
