from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.upstream.behaviour import Behaviour, parse_behaviour, split_model


def test_words_are_laid_over_the_default():
    how = parse_behaviour("chunks=50; delay=0.01 ;crlf;cut=rst", parse_behaviour("die=3;chunks=1"))
    assert how == Behaviour(chunks=50, delay=0.01, crlf=True, cut="rst", die=3)


def test_no_words_change_nothing():
    default = Behaviour(chunks=2)
    assert parse_behaviour(" ; ", default) == default


def test_a_yes_can_be_taken_back_and_a_count_without_a_number_is_one():
    assert parse_behaviour("crlf=0", Behaviour(crlf=True)).crlf is False
    assert parse_behaviour("tools").tools == 1


def test_hyphens_are_underscores():
    assert parse_behaviour("no-usage;cut=bad-chunk;refuse=azure-old") == Behaviour(
        no_usage=True, cut="bad_chunk", refuse="azure_old"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("nonsense=1", "nonsense is not a word"),
        ("chunks=many", "chunks=many is not a number"),
        ("cut=softly", "cut=softly is not known; use one of fin, rst"),
        ("encoding=gzip+rot13", "encoding=rot13 is not known"),
        ("refuse", "refuse needs a value"),
        ("framing=loose", "framing=loose is not known"),
    ],
)
def test_wrong_words_say_what_is_allowed(words, message):
    with pytest.raises(ValueError, match=message):
        parse_behaviour(words)


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("gpt-4o@chunks=3;crlf", ("gpt-4o", "chunks=3;crlf")),
        ("gpt-4o@crlf", ("gpt-4o", "crlf")),
        ("gpt-4o", ("gpt-4o", "")),
        ("claude-sonnet@20250514", ("claude-sonnet@20250514", "")),
        ("claude@20250514@tools=1", ("claude@20250514", "tools=1")),
        ("@cf/meta/llama", ("@cf/meta/llama", "")),
        ("org/model@main", ("org/model@main", "")),
    ],
)
def test_only_our_words_are_split_off_a_models_name(model, parts):
    assert split_model(model) == parts


@given(st.text())
def test_any_name_can_be_split(model):
    name, words = split_model(model)
    assert model in (name, f"{name}@{words}")
