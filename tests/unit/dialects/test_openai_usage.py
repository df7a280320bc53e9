"""OpenAI's words and all additions to them: sums that do not add up, one thing under many names."""

from __future__ import annotations

from typing import Any

import pytest

from usagetap.dialects.openai_usage import openai_usage
from usagetap.model import Usage


def test_reasoning_outside_the_output_is_added_where_the_total_says_so() -> None:
    outside = {"prompt_tokens": 170, "completion_tokens": 1, "total_tokens": 271}
    details = {"completion_tokens_details": {"reasoning_tokens": 100}}
    assert openai_usage(outside | details).output_tokens == 101  # xAI
    assert openai_usage(outside | details | {"total_tokens": 171}).output_tokens == 1
    assert openai_usage({"completion_tokens": 1} | details).output_tokens == 1


def test_audio_outside_the_input_is_added_where_the_total_says_so() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 201, "total_tokens": 585}
    details = {"prompt_tokens_details": {"audio_tokens": 375}}
    assert openai_usage(usage | details).input_tokens == 384  # Mistral
    assert openai_usage(usage | details | {"total_tokens": 210}).input_tokens == 9
    assert openai_usage(usage | {"prompt_audio_seconds": 12}).input_tokens == 9  # nobody says what the rest is


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens_details": {"cached_tokens": 7}},
        {"input_tokens_details": {"cached_tokens": 7}},
        {"input_token_details": {"cached_tokens": 7}},
        {"prompt_token_details": {"cached_tokens": 7}},
        {"prompt_tokens_details": None, "prompt_cache_hit_tokens": 7},
        {"cached_tokens": 7},
        {"num_cached_tokens": 7},
        {"cache_read_input_tokens": 7},
    ],
)
def test_cached_tokens_have_many_names(usage: dict[str, Any]) -> None:
    assert openai_usage(usage).cache_read_input_tokens == 7


def test_what_a_bare_total_has_beyond_the_parts_is_thinking() -> None:
    bare = {"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109}
    assert openai_usage(bare) == Usage(35, 74, 109, reasoning_output_tokens=62)  # Gemini's OpenAI endpoint
    assert openai_usage(bare | {"total_tokens": 47}) == Usage(35, 12, 47)
    assert openai_usage(bare | {"queue_time": 0.1}) == Usage(35, 12, 109)


def test_a_total_that_leaves_the_thinking_out_proves_nothing() -> None:
    usage = {"prompt_tokens": 61, "completion_tokens": 10, "total_tokens": 71}
    told = openai_usage(usage | {"completion_tokens_details": {"reasoning_tokens": 96}})  # Vercel's gateway
    assert (told.output_tokens, told.reasoning_output_tokens, told.total_tokens) == (10, 96, 71)


def test_what_mistral_s_connectors_put_in_is_beside_the_prompt() -> None:
    usage = {"prompt_tokens": 177, "completion_tokens": 134, "total_tokens": 4240, "connector_tokens": 3929}
    assert openai_usage(usage) == Usage(177, 134, 4240, tool_use_input_tokens=3929)
