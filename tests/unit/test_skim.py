"""Shapes: what three comparisons prove must be what a parse would have said."""

from __future__ import annotations

import json
import re
from typing import Any, SupportsIndex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.skim import Skim, usage_shape_of

CRLF, LF = b"\r\n\r\n", b"\n\n"


def frame(text: str, count: int = 1, end: bytes = CRLF, **more: object) -> bytes:
    """A frame of Gemini's, or like it."""
    candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0, **more}
    told = {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": count}}
    return b"data: " + json.dumps(told).encode() + end


def learned(first: bytes) -> Skim:
    skim = Skim()
    assert skim.learn(first, usage=True)
    return skim


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5), st.sampled_from([CRLF, LF]))
def test_frames_with_usage_are_passed_over_and_the_last_is_held(texts: list[str], end: bytes) -> None:
    frames = [frame(text, count, end) for count, text in enumerate(texts, 7)]
    skim = learned(frame("first", end=end))
    body = b"".join(frames)
    assert skim.past(body) == (len(body), len(frames))
    assert skim.held is not None
    assert body[slice(*skim.held)] == frames[-1]


def test_what_finishes_or_differs_is_not_passed_over() -> None:
    skim = learned(frame("first"))
    for other in (frame("a", finishReason="STOP"), frame("a", end=LF), b": keep-alive\n\n", frame("a")[:-2]):
        assert skim.past(other) == (0, 0)
        assert skim.held is None
    body = frame("a") + frame("b", finishReason="STOP")
    assert skim.past(body) == (len(frame("a")), 1)
    assert skim.held == (0, len(frame("a")))


def test_what_holds_nothing_leaves_nothing_held() -> None:
    skim = learned(frame("first"))
    plain = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
    assert skim.learn(plain)
    assert skim.past(plain + frame("a") + plain) == (2 * len(plain) + len(frame("a")), 3)
    assert skim.held == (len(plain), len(plain) + len(frame("a")))
    assert skim.past(plain) == (len(plain), 1)
    assert skim.held is None


@pytest.mark.parametrize(
    "odd",
    [
        b'data: {"usage": {"total_tokens": 3}, "choices": [{"delta": {"content": "a"}, "finish_reason": null}]}\n\n',
        b'data: {"choices": [{"delta": {"content": "a"}}], "usage": {"total_tokens": 3}, "error": {"code": 1}}\n\n',
        b'data: {"choices": [{"delta": {"content": ""}}], "usage": {"total_tokens": 3}}\n\n',
        b'data: {"choices": [{"delta": {"content": "a"}}], "usage": null}\n\n',
        b'data: {"choices": [{"delta": {"content": "a"}}],\ndata: "usage": {"total_tokens": 3}}\n\n',
        b'data: {"choices": [{"delta": {"content": "a"}}], "usage": {"total_tokens": 3}}',
    ],
    ids=["usage-first", "error-behind", "no-text", "no-usage", "two-lines", "no-end"],
)
def test_where_more_may_be_told_there_is_no_shape(odd: bytes) -> None:
    assert usage_shape_of(odd) is None


CHAT = b'data: {"created":%d,"choices":[{"delta":{%b},"finish_reason":null}]%b}\n\n'
TEXT, REASONING, PADDING = b'"content":"a"', b'"reasoning":"b"', b',"obfuscation":"c"'


@pytest.mark.parametrize(
    ("first", "usage"),
    [
        (CHAT % (1, TEXT, b""), False),
        (CHAT % (1, TEXT, PADDING), False),
        (CHAT % (1, TEXT + b"," + REASONING, PADDING), False),
        (frame("a"), True),
        (CHAT % (1, TEXT, b',"usage":{"prompt_tokens":1}'), True),
    ],
    ids=["one text", "two", "three", "gemini", "usage"],
)
def test_no_byte_of_what_stands_still_may_be_another(first: bytes, usage: bool) -> None:
    skim = Skim()
    assert skim.learn(first, usage=usage)
    moving = [span for found in re.finditer(rb'": ?"([abc])"', first) for span in range(*found.span(1))]
    counted = re.search(rb'"usage\w*": ?\{', first)  # from there on keys are
    until = counted.end() if counted else len(first)
    for at in range(until):
        other = first[:at] + b"~" + first[at + 1 :]
        passed = at in moving
        assert skim.past(other) == ((len(other), 1) if passed else (0, 0)), other
        assert skim.past(first + other + first)[1] == (3 if passed else 1), other


def test_a_clock_that_ticks_is_no_other_frame() -> None:
    skim = Skim()
    assert skim.learn(CHAT % (1, TEXT, b""))
    assert skim.past(CHAT % (2, TEXT, b"")) == (0, 0)
    assert skim.learn(CHAT % (2, TEXT, b""))
    body = b"".join(CHAT % (second, TEXT, b"") for second in range(2, 50))
    assert skim.past(body) == (len(body), 48)
    told = body.replace(b'"created":20', b'"created":20,"usage":{"prompt_tokens":1}')
    assert skim.past(told) == (told.find(b'data: {"created":20'), 18)


def test_a_clock_behind_everything_hides_nothing_behind_it() -> None:
    ticking = b'data: {"choices":[{"delta":{"content":"a"}}],"created":%d}\n\n'
    skim = Skim()
    for second in range(2):
        skim.learn(ticking % second)
    failed = (ticking % 3).replace(b"}\n\n", b',"error":"overloaded"}\n\n')
    assert skim.past(failed) == (0, 0)


@pytest.mark.parametrize("texts", [TEXT, TEXT + b"," + REASONING, TEXT + b"," + REASONING + b',"p":"c"'])
def test_a_key_more_in_the_usage_or_behind_it_is_another_frame(texts: bytes) -> None:
    usage = b',"usage":{"prompt_tokens":9%b},"tier":null%b'
    first, grown, keyed, errs = (
        CHAT % (1, texts, usage % more) for more in ((b"", b""), (b"9", b""), (b',"a":1', b""), (b"", b',"error":1'))
    )
    skim = Skim()
    assert skim.learn(first, usage=True)
    assert skim.past(first + grown + first) == (len(first + grown + first), 3)
    for other in (keyed, errs, first.replace(b'"tier"', b'"fail"')):
        assert skim.past(other) == (0, 0)
        assert skim.past(first + other + first) == (len(first), 1)


class Searched(bytes):
    """Text that counts how many of its bytes are searched, or taken to be searched."""

    work = 0

    def __getitem__(self, which: SupportsIndex | slice) -> Any:  # type: ignore[override]
        Searched.work += len(range(len(self))[which]) if isinstance(which, slice) else 0
        return super().__getitem__(which)

    def count(self, what: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        Searched.work += (len(self) if end is None else end) - start
        return super().count(what, start, end)

    def find(self, what: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        found = super().find(what, start, end)
        Searched.work += (found if found >= 0 else len(self) if end is None else end) - start
        return found


@pytest.mark.parametrize("run", [1, 7, 1_000_000])
def test_twice_the_frames_are_twice_the_search_however_their_kinds_take_turns(run: int) -> None:
    """Two kinds of frames whose names say that they tell nothing, `run` of the one before the other."""
    dull = re.compile(rb"one|two")
    kinds = [b'event: %b\ndata: {"delta":"a"}\n\n' % name for name in (b"one", b"two")]
    skim = Skim(dull)
    for kind in kinds:
        assert skim.learn(kind)

    def work(count: int) -> int:
        Searched.work = 0
        text = Searched(b"".join(kinds[number // run % 2] for number in range(count)))
        skim.mixed = False
        assert skim.past(text) == (len(text), count)
        return Searched.work

    assert 0 < work(2_000) <= 2.5 * work(1_000)


@pytest.mark.parametrize("short", [b'data:{"error":"overloaded"}\n\n', b"data: [DONE]\n\n", b"data:\n\n"])
def test_a_frame_shorter_than_the_end_of_the_ordinary_ones_is_read(short: bytes) -> None:
    frame = b'data:{"token":{"text":"a"},"generated_text":null,"details":null}\n\n'
    skim = Skim(dull_end=b'"generated_text":null,"details":null}')
    assert skim.learn(frame)
    assert skim.past(short) == (0, 0)
    assert skim.past(frame * 3 + short) == (len(frame) * 3, 3)


def test_what_stands_behind_the_usage_must_stand_still() -> None:
    """One key more behind it was learned: another one in its place may be an error's."""
    ordinary, odd = (frame("a") for _ in range(2))
    odd = odd[:-5] + b',"content":""}' + CRLF
    skim = learned(odd)
    assert skim.past(odd) == (len(odd), 1)
    assert skim.past(ordinary[:-5] + b',"type":"error"}' + CRLF) == (0, 0)
