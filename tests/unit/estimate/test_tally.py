from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usagetap.estimate.deltas import TOOL
from usagetap.estimate.tally import OutputTally
from usagetap.estimate.vocabulary import Family, family_of, tokenizer

pytest.importorskip("bpe_openai", reason="the `estimate` extra is not installed")

PLAIN = Family("plain")
texts = st.lists(
    st.text()
    | st.sampled_from(
        ["don't ", "I'll", "  \n\n", "1234567", "日本語のテキスト", "été ", "```py\n    x = {}\n", "🇩🇪👩‍👩‍👧"]
    ),
    max_size=60,
).map("".join)


def cut(text, places):
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[first:last] for first, last in pairwise(edges)]


snippets = st.lists(
    st.sampled_from(["a", "b", "'", "s", "t", " ", "  ", "\n", "\r\n", "1", "23", "é", "日", "/", "!?"])
)


@settings(deadline=None, max_examples=500)
@given(
    texts | snippets.map("".join),
    st.lists(st.integers(0, 10**6), max_size=20),
    st.sampled_from(["o200k_base", "cl100k_base"]),
)
def test_any_split_of_a_text_counts_as_the_text(text, places, encoding):
    whole = tokenizer(encoding)
    tally = OutputTally(whole, PLAIN, "openai_chat")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("usagetap.estimate.tally._RUN", 8)  # counted at every turn: the hardest case
        for piece in cut(text, places):
            tally.feed(piece)
    assert tally.total == whole.count(text)


@settings(deadline=None, max_examples=20)
@given(texts.filter(lambda text: len(text) > 20), st.integers(1, 997))
def test_a_long_text_counts_the_same_in_any_pieces(text, size):
    long = text * (20_000 // len(text) + 1)
    tally = OutputTally(tokenizer("o200k_base"), PLAIN, "openai_chat")
    for start in range(0, len(long), size):
        tally.feed(long[start : start + size])
    assert tally.total == tokenizer("o200k_base").count(long)


@pytest.mark.parametrize("piece", ["word ", "a", " ", "\n", "x1"])
def test_what_is_kept_of_a_stream_without_end_stays_small(piece):
    tally = OutputTally(tokenizer("o200k_base"), PLAIN, "openai_chat")
    for _ in range(300):
        tally.feed(piece * 1000)
    assert sum(map(len, tally._tails.values())) < 100_000
    assert tally.total > 0


def test_a_stranger_cannot_open_strands_without_end():
    tally = OutputTally(tokenizer("o200k_base"), PLAIN, "openai_chat")
    for number in range(10_000):
        tally.feed("hello", ("text", str(number)))
    assert len(tally._tails) <= 65
    assert len(tally._calls) <= 65


def test_strands_are_not_joined():
    tally = OutputTally(tokenizer("o200k_base"), PLAIN, "openai_chat")
    for first, second in (("hel", "lo"), ("lo", " wor"), ("", "ld")):
        tally.feed(first, ("text", "0"))
        tally.feed(second, ("text", "1"))
    both = [tokenizer("o200k_base").count(text) for text in ("hello", "lo world")]
    assert tally.total == sum(both)


def test_nothing_said_is_nothing_counted_not_even_what_is_around_an_answer():
    assert OutputTally(tokenizer("o200k_base"), family_of("gpt-5"), "openai_chat").total == 0


def test_what_is_around_tool_calls_was_measured():
    def total(calls, **options):
        tally = OutputTally(tokenizer("o200k_base"), family_of("gpt-4o"), "openai_chat", **options)
        for number in range(calls):
            tally.feed("get_weather", (TOOL, "name", "0", str(number)))
            tally.feed("{}", (TOOL, "arguments", "0", str(number)))
        return tally.total

    # recorded: get_weather({}) alone was 10 tokens, of which 3 are to be seen
    assert total(1) == 10
    assert total(2) == 2 * 3 + 28
    assert total(1, forced_tool=True) == 1
