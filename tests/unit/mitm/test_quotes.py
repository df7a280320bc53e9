"""No run of the request's own words stays in an error's message; every other message stays as it is."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.mitm.quotes import CUT, RUN, without_quotes

PROMPT = "My name is Ada, and my pin is 4711."


def asked(content: object) -> dict[str, object]:
    return {"model": "a-model-with-a-long-name", "messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize(
    ("message", "left"),
    [
        (
            f"Invalid value at 'contents' (TYPE_STRING), \"{PROMPT}\"",
            f"Invalid value at 'contents' (TYPE_STRING), \"{CUT}\"",
        ),
        (f"cannot read: {PROMPT[:20]}", f"cannot read: {CUT}"),
        (f"cannot read: ...{PROMPT[-20:]}, sorry", f"cannot read: ...{CUT}, sorry"),
        (f"{PROMPT}{PROMPT}", CUT),
        ("The model a-model-with-a-long-name does not exist", "The model a-model-with-a-long-name does not exist"),
        ("role must be user", "role must be user"),
        ("", ""),
    ],
)
def test_what_is_quoted_is_cut(message: str, left: str) -> None:
    assert without_quotes(message, asked(PROMPT)) == left
    assert without_quotes(message, asked([{"type": "text", "text": PROMPT}])) == left


@given(st.text(max_size=80), st.text(min_size=RUN, max_size=60), st.text(max_size=80))
def test_a_whole_text_never_stays(before: str, prompt: str, after: str) -> None:
    assert prompt not in without_quotes(before + prompt + after, asked(prompt))


@given(st.text(alphabet="ab ", max_size=200), st.text(alphabet="ab ", max_size=200))
def test_no_run_that_long_stays(message: str, prompt: str) -> None:
    left = without_quotes(message, asked(prompt))
    runs = {prompt[at : at + RUN] for at in range(len(prompt) - RUN + 1)}
    assert not any(run in left for run in runs)


@given(st.text(alphabet="abc", max_size=500), st.text(alphabet="xyz", max_size=500))
def test_what_shares_nothing_stays(message: str, prompt: str) -> None:
    assert without_quotes(message, asked(prompt)) == message


def test_who_makes_it_costly_gets_no_message() -> None:
    calls = 0

    def count(frame: object, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        assert without_quotes("a" * 500, asked("a" * 15 + "b" + "a" * (1 << 20))) == CUT
        assert without_quotes("abcdefgh1" * 50, asked("abcdefgh" * (1 << 17))) == CUT
    finally:
        sys.setprofile(None)
    assert calls < 10_000


@pytest.mark.parametrize("body", [None, 1, "x" * 40, {}, []])
def test_any_body_will_do(body: object) -> None:
    assert without_quotes("a message that quotes nothing", body) == "a message that quotes nothing"
