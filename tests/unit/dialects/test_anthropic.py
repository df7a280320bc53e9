"""Anthropic Messages: whom it recognises, and how start and delta become one usage."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.dialects import detect
from usagetap.dialects.anthropic import Anthropic, AnthropicComplete, anthropic_usage
from usagetap.dialects.base import Weight
from usagetap.model import Observation, Request

ASKED = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": []}
VERTEX = "/v1/projects/p/locations/l/publishers/anthropic/models/"


def request(path: str, body: Any = None, host: str = "gateway.example", **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request("POST", host, 443, path, headers=named, body=body)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", ASKED),
        ("/v1/messages", {"stream": True}),
        ("/anthropic/v1/messages/", ASKED),
        ("/router/v2/anthropic/messages", ASKED),
        (VERTEX + "claude-sonnet-4@20250514:rawPredict", {"messages": []}),
        (VERTEX + "claude-sonnet-4@20250514:streamRawPredict", None),
        ("/v1/models/claude:rawPredict", {"anthropic_version": "vertex-2023-10-16"}),
    ],
)
def test_messages_are_recognised_under_any_prefix(path: str, body: Any) -> None:
    assert isinstance(detect(request(path, body)), Anthropic)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages/count_tokens", ASKED),
        (VERTEX + "count-tokens@20250101:rawPredict", ASKED),
        ("/v1/threads/thread_1/messages", {"role": "user", "content": "hi"}),
        ("/v3/example.org/messages", {"to": "a@example.org", "text": "hi"}),
        ("/v1/messages", {"to": "+41", "type": "text"}),
        ("/v1/messages", None),
        ("/v1/publishers/mistralai/models/mistral-large:rawPredict", {"messages": []}),
        ("/v1/messages/batches/msgbatch_1/results", None),
    ],
)
def test_what_only_looks_like_messages_is_left_alone(path: str, body: Any) -> None:
    assert not isinstance(detect(request(path, body)), Anthropic)


def test_a_body_that_is_no_json_is_told_by_its_header() -> None:
    assert isinstance(detect(request("/v1/messages", anthropic_version="2023-06-01")), Anthropic)


def test_legacy_complete_is_told_by_its_body() -> None:
    body = {"model": "claude-2", "prompt": "", "max_tokens_to_sample": 3}
    dialect = detect(request("/v1/complete", body))
    assert isinstance(dialect, AnthropicComplete)
    assert dialect.operation(request("/v1/complete", body)) == "text_completion"


def test_vertex_names_model_and_stream_in_the_path() -> None:
    asked = request(VERTEX + "claude-sonnet-4@20250514:streamRawPredict", {"messages": []})
    assert Anthropic().model(asked) == "claude-sonnet-4@20250514"
    assert Anthropic().streams(asked)
    assert not Anthropic().streams(request("/v1/messages", ASKED))
    assert Anthropic().streams(request("/v1/messages", {**ASKED, "stream": True}))


@pytest.mark.parametrize(
    ("frame", "weight"),
    [
        (b'data: {"type":"message_start"', Weight.PARSE),
        (b'data: {"type": "message_delta"', Weight.PARSE),
        (b'data: {"type":"message_stop"      }', Weight.PARSE),
        (b'data: {"type":"error"', Weight.PARSE),
        (b'data: {"error": {"message"', Weight.PARSE),
        (b'data: {"type":"ping"}', Weight.NOTHING),
        (b'data: {"type":"content_block_delta","delta":{"text":"\\"type\\":\\"message_stop\\""}}', Weight.NOTHING),
    ],
)
def test_a_frame_is_weighed_by_its_type_never_by_what_the_model_says(frame: bytes, weight: Weight) -> None:
    assert Anthropic().weigh(frame) is weight


COUNT = st.none() | st.integers(0, 10**7)
USAGE = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"), COUNT
    ),
)


def fold(*usages: dict[str, Any]) -> Observation:
    """A start with the first usage, deltas with the others."""
    seen = Observation()
    Anthropic().observe(seen, {"type": "message_start", "message": {"id": "m", "usage": usages[0]}})
    for usage in usages[1:]:
        Anthropic().observe(seen, {"type": "message_delta", "delta": {}, "usage": usage})
    return seen


@given(USAGE, USAGE)
def test_the_delta_wins_per_field_and_null_never_does(start: dict[str, Any], delta: dict[str, Any]) -> None:
    merged = {name: value for usage in (start, delta) for name, value in usage.items() if value is not None}
    assert fold(start, delta).usage == anthropic_usage(merged)


@given(st.integers(0, 10**7), COUNT, COUNT)
def test_the_input_is_all_that_went_in(fresh: int, read: int | None, written: int | None) -> None:
    told = anthropic_usage(
        {"input_tokens": fresh, "cache_read_input_tokens": read, "cache_creation_input_tokens": written}
    )
    assert told.input_tokens == fresh + (read or 0) + (written or 0)
    assert (told.cache_read_input_tokens, told.cache_write_input_tokens) == (read, written)


def test_without_the_fresh_part_the_input_is_unknown() -> None:
    assert anthropic_usage({"cache_read_input_tokens": 5}).input_tokens is None


def test_writes_are_the_sum_of_their_split_where_only_that_is_given() -> None:
    told = anthropic_usage({"cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}})
    assert told.cache_write_input_tokens == 7


def test_an_error_is_kept_with_the_usage_so_far() -> None:
    seen = fold({"input_tokens": 5})
    Anthropic().observe(seen, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    assert (seen.error_type, seen.error_message) == ("overloaded_error", "Overloaded")
    assert seen.usage.input_tokens == 5
    assert not seen.terminal
    assert not seen.usage_final
