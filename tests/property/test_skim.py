"""A frame that the skim passes over never changes the observation.

The oracle is a reader whose skim is disabled: it weighs every frame, and parses those that can matter. The frames are
near ordinary ones: the same frame again and again, as streams send it, with one thing changed in some of them.
"""

from __future__ import annotations

import copy
import json
import re
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.property.wire import WISHES, Wish, found, read, reader_for, split

from usagetap.dialects import DIALECTS
from usagetap.dialects.base import Dialect
from usagetap.reader import Reader
from usagetap.skim import Skim

SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
BY_NAME = {type(dialect).__name__: dialect for dialect in DIALECTS}


class Disabled(Skim):
    """Passes over nothing."""

    def past(self, chunk: bytes, at: int = 0) -> tuple[int, int]:
        return at, 0

    def learn(self, frame: bytes, *, usage: bool = False) -> bool:
        learned = super().learn(frame, usage=usage)
        self._shapes.clear()
        return learned


def learning_for_ever(dialect: Dialect) -> Reader:
    """Looks at every frame that a shape could be made of; usually only at the first few such."""
    reader = reader_for(dialect)
    reader._learned = -1_000_000
    return reader


def without_skim(dialect: Dialect) -> Reader:
    reader = learning_for_ever(dialect)
    reader._skim = Disabled(dialect.dull_event, dialect.dull_end)
    return reader


# -- ordinary frames, of every kind that a shape can be made of

CHAT = {
    "id": "c",
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}],
    "usage": None,
}
TWO_TEXTS = {
    "id": "c",
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}],
    "obfuscation": "x7",
}
WITH_USAGE = CHAT | {"usage": {"prompt_tokens": 3, "completion_tokens": 1}}
GEMINI = {
    "candidates": [{"content": {"parts": [{"text": "Hi"}], "role": "model"}}],
    "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 1},
    "modelVersion": "g",
    "responseId": "r",
}
ANTHROPIC = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}
RESPONSES = {"type": "response.output_text.delta", "item_id": "i", "delta": "Hi", "sequence_number": 1}
COHERE = {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hi"}}}}
TICKING = CHAT | {"created": 1}
TGI = {"index": 1, "token": {"id": 220, "text": "Hi", "logprob": -0.5}, "generated_text": None, "details": None}
ORDINARY: list[tuple[str, str | None, dict[str, Any]]] = [
    ("OpenAIChat", None, CHAT),
    ("OpenAIChat", None, TWO_TEXTS),
    ("OpenAIChat", None, TWO_TEXTS | {"p": "x"}),
    ("OpenAIChat", None, WITH_USAGE),
    ("OpenAIChat", None, TICKING),
    ("OpenAIChat", None, TICKING | WITH_USAGE),
    ("TextGeneration", None, TGI),
    ("OpenAICompletions", None, {"id": "c", "model": "m", "choices": [{"index": 0, "text": "Hi"}]}),
    ("Gemini", None, GEMINI),
    ("Anthropic", "content_block_delta", ANTHROPIC),
    ("Anthropic", None, ANTHROPIC),
    ("OpenAIResponses", "response.output_text.delta", RESPONSES),
    ("OpenAIResponses", None, RESPONSES),
    ("Cohere", "content-delta", COHERE),
]
#: what may matter, wherever it stands
TELLING: dict[str, list[Any]] = {
    # keys may come, and all may go; that one takes another's place from frame to frame is not looked for
    "usage": [
        None,
        {},
        {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
        {"input_tokens": 5, "output_tokens": 6},
    ],
    "usageMetadata": [{"promptTokenCount": 9, "totalTokenCount": 11}, None],
    "finish_reason": ["stop", None, "", "so"],  # "so" is as long as null
    "finishReason": ["STOP"],
    "stop_reason": ["end_turn", None],
    "error": [{"type": "overloaded", "message": "no"}, None, "no", {}],
    "type": ["message_stop", "response.completed", "response.failed", "message-end", "error", "message_delta"],
    "choices": [[], [{"index": 1, "delta": {"content": "B"}}], [{"index": 0, "finish_reason": "stop"}]],
    "promptFeedback": [{"blockReason": "SAFETY"}],
    "response": [{"status": "completed", "usage": {"input_tokens": 1, "output_tokens": 2}}],
    "model": ["other"],
    "id": ["other"],
    "index": [1],
    "message": [{"id": "m", "model": "claude", "usage": {"input_tokens": 8}}],
    "content": ["", "x", 'a","finish_reason":"stop","b":"', '"}]}\n\n', "\\", '\\"', '"'],
    "text": ["", "x", "\\", '"usageMetadata":{', '"}'],
    "padding": ["p" * 70],
    "generated_text": ["Hi", None],
    "details": [{"finish_reason": "length", "generated_tokens": 5}, None],
}


def _places(payload: Any) -> list[Any]:
    """Every object in `payload`."""
    inner = payload.values() if isinstance(payload, dict) else payload if isinstance(payload, list) else []
    return [*([payload] if isinstance(payload, dict) else []), *(place for each in inner for place in _places(each))]


#: where an event's name or a payload's end says that nothing is told, nothing in it can matter; unless it has no name
#: but its type
IN_DULL_EVENTS = ["content", "padding", "text"]


@st.composite
def near(draw: st.DrawFn, payload: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    """`payload` with other text, and maybe something that tells in some place, before or behind what is there."""
    payload = copy.deepcopy(payload)
    for place in _places(payload):
        for key in ("content", "text", "reasoning", "obfuscation"):
            if isinstance(place.get(key), str):
                place[key] = draw(st.sampled_from(["a", "b", " c", "é🎉", 'q"q', "\\", "b\\\\", "x" * 40, "n\n\n", ""]))
    if "created" in payload:
        payload["created"] = draw(st.sampled_from([1, 1, 2, 1780944493, 0, None, {"usage": {"prompt_tokens": 9}}]))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2]))):
        place = draw(st.sampled_from(_places(payload)))
        key = draw(st.sampled_from(keys))
        value = copy.deepcopy(draw(st.sampled_from(TELLING[key])))
        rest = dict(place)
        place.clear()
        place.update({key: value} | rest | {key: value} if draw(st.booleans()) else rest | {key: value})
    return payload


@st.composite
def streams(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """A dialect's class, and the frames of one stream."""
    name, event, payload = draw(st.sampled_from(ORDINARY))
    keys = sorted(TELLING)
    if BY_NAME[name].dull_event is not None or BY_NAME[name].dull_end is not None:
        keys = IN_DULL_EVENTS + ([] if event or BY_NAME[name].dull_end else ["type"])
    separators = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    end = draw(st.sampled_from(["\n\n", "\n\n", "\r\n\r\n"]))
    ascii_only = draw(st.booleans())

    def written(each: dict[str, Any]) -> bytes:
        line = f"event: {event}{end[: len(end) // 2]}" if event else ""
        return f"{line}data: {json.dumps(each, separators=separators, ensure_ascii=ascii_only)}{end}".encode()

    frames = [written(payload)] * 2
    for _ in range(draw(st.integers(1, 8))):
        frames.append(written(draw(near(payload, keys))))
        frames += [written(payload)] * draw(st.integers(0, 1))
    frames += draw(st.sampled_from([[], [b"data: [DONE]" + end.encode()]]))
    return name, frames


@given(streams(), WISHES)
@settings(SLOW, max_examples=500)
def test_what_is_passed_over_never_changes_the_observation(stream: tuple[str, list[bytes]], wish: Wish) -> None:
    name, frames = stream
    body = b"".join(frames)
    truth = found(read(without_skim(BY_NAME[name]), [body], through_tap=False))
    for chunks in (
        frames,
        [body],
        split(body, wish),
        [b"".join(frames[at : at + 2]) for at in range(0, len(frames), 2)],
    ):
        assert found(read(reader_for(BY_NAME[name]), chunks, through_tap=True)) == truth


@st.composite
def torn(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """A stream some of whose frames are no frames any more; but not those with usage, of which the last one counts."""
    name, frames = draw(streams())
    may_tear = [at for at in range(2, len(frames)) if not re.search(rb'usage(?:Metadata)?": ?\{', frames[at])]
    for _ in range(draw(st.integers(1, 3)) if may_tear else 0):
        which = draw(st.sampled_from(may_tear))
        frame = frames[which]
        at, until = sorted(draw(st.tuples(*[st.integers(0, len(frame))] * 2)))
        frames[which] = frame[:at] + draw(st.sampled_from(TEARS)) + frame[draw(st.sampled_from([at, until])) :]
    return name, frames


# No raw line end among them: JSON has none inside a string, and to look for one would cost every frame a search.
TEARS = [b"", b'"', b"\\", b"}", b"]", b'","', b"data: ", b"event: x"]


@given(torn(), WISHES)
@settings(SLOW, max_examples=200)
def test_nor_where_frames_are_torn(stream: tuple[str, list[bytes]], wish: Wish) -> None:
    name, frames = stream
    body = b"".join(frames)
    truth = found(read(without_skim(BY_NAME[name]), [body], through_tap=False))
    for chunks in (frames, [body], split(body, wish)):
        # what is torn makes more shapes than are learned from; and then a choice that is new may go unnoticed
        assert found(read(learning_for_ever(BY_NAME[name]), chunks, through_tap=True)) == truth
