from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usagetap.estimate import Estimator
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


def total_of(model, payloads, request=None, dialect="openai_chat"):
    tally = Estimator().tally(model, dialect, request)
    for payload in payloads:
        tally.observe(payload)
    return tally.total


def calling(*calls, choice=0):
    for number, (name, arguments) in enumerate(calls):
        call = {"index": number, "function": {"name": name, "arguments": arguments}}
        yield {"choices": [{"index": choice, "delta": {"tool_calls": [call]}}]}


def saying(text, part="content"):
    yield {"choices": [{"index": 0, "delta": {part: text}}]}


def test_what_is_around_tool_calls_was_measured():
    # recorded: get_weather({}) alone was 10 tokens, of which 3 are to be seen
    assert total_of("gpt-4o", calling(("get_weather", "{}"))) == 10
    assert total_of("gpt-4o", calling(("get_weather", "{}"), ("get_weather", "{}"))) == 2 * 3 + 30
    # the same with the channels of later models
    assert total_of("gpt-5.4", calling(("get_weather", "{}"))) == 13
    assert total_of("gpt-5", calling(("get_weather", "{}"))) == 19


def test_a_tool_that_the_request_names_is_called_without_its_name():
    request = {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}}
    assert total_of("gpt-4o", calling(("get_weather", "{}")), request) == 1
    assert total_of("gpt-5", calling(("get_weather", "{}")), request) == 19, "models that think write it"


def test_each_choice_makes_calls_of_its_own():
    one = total_of("gpt-4o", calling(("add", "{}"), ("multiply", "{}")))
    both = [*calling(("add", "{}"), ("multiply", "{}")), *calling(("add", "{}"), ("multiply", "{}"), choice=1)]
    assert total_of("gpt-4o", both) == 2 * one


def test_parallel_calls_are_counted_as_written_not_as_shown():
    # recorded: 50 tokens, shown with spaces that the model did not write
    shown = total_of("gpt-4o", calling(("add", '{"a": 2, "b": 3}'), ("multiply", '{"a": 2, "b": 3}')))
    assert shown == 50
    assert shown == total_of("gpt-4o", calling(("add", '{"a":2,"b":3}'), ("multiply", '{"a":2,"b":3}')))


SCHEMA = {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}
TOOLS = {"tools": [{"type": "function", "function": {"name": "f"}}]}


@pytest.mark.parametrize(
    ("model", "request_", "marks"),
    [
        ("gpt-4o", {}, 0),
        ("gpt-4o", TOOLS, 1),
        ("gpt-4o", SCHEMA, 0),
        ("gpt-4o", SCHEMA | TOOLS, 5),
        ("gpt-5.4", {}, 3),
        ("gpt-5.4", TOOLS, 3),
        ("gpt-5.4", SCHEMA, 7),
        ("gpt-5-mini", {}, 9),
        ("gpt-5-mini", SCHEMA, 12),
    ],
)
def test_the_marks_before_an_answer_in_words(model, request_, marks):
    assert total_of(model, saying("Paris."), request_) == 2 + marks


def test_a_refusal_is_opened_like_an_answer_that_could_have_been_a_call():
    assert total_of("gpt-4o", saying("No", "refusal"), SCHEMA) == 2


def test_the_end_of_a_turn_is_counted_by_the_responses_api_once_it_is_there():
    delta = {"type": "response.output_text.delta", "output_index": 0, "delta": "Paris."}
    thinking = {"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning"}}
    end = {"type": "response.completed", "response": {}}
    assert total_of("gpt-4o", [delta], dialect="openai_responses") == 2
    assert total_of("gpt-4o", [delta, end], dialect="openai_responses") == 3
    assert total_of("gpt-5.4", [delta, end], dialect="openai_responses") == 6
    assert total_of("gpt-5", [thinking, delta, end], dialect="openai_responses") == 8


@pytest.mark.parametrize("request_", [None, 1, {"text": 1, "tool_choice": [], "response_format": "x", "tools": 3}])
def test_any_request_is_fine(request_):
    assert total_of("gpt-4o", saying("Paris."), request_) >= 2
