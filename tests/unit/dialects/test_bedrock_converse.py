"""Bedrock's Converse: the model in the path, the cache beside the input, exceptions in the stream."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.dialects import detect
from usagetap.dialects.bedrock_converse import BedrockConverse, bedrock_path, converse_usage
from usagetap.model import Observation, Request


def request(path: str, method: str = "POST") -> Request:
    return Request(method, "bedrock-runtime.eu-west-1.amazonaws.com", 443, path, body={"messages": []})


ARN = "arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.amazon.nova-pro-v1%3A0"


@pytest.mark.parametrize(
    ("path", "model", "stream"),
    [
        ("/model/us.anthropic.claude-sonnet-4-5-v1%3A0/converse", "us.anthropic.claude-sonnet-4-5-v1:0", False),
        ("/model/us.anthropic.claude-sonnet-4-5-v1:0/converse-stream", "us.anthropic.claude-sonnet-4-5-v1:0", True),
        ("/bedrock/model/amazon.nova-lite-v1/converse", "amazon.nova-lite-v1", False),
        (
            f"/model/{ARN}/converse-stream",
            "arn:aws:bedrock:us-east-1:1:inference-profile/us.amazon.nova-pro-v1:0",
            True,
        ),
        (
            "/model/arn:aws:bedrock:us-east-1::foundation-model/amazon.titan-tg1-large/converse",
            "arn:aws:bedrock:us-east-1::foundation-model/amazon.titan-tg1-large",
            False,
        ),
    ],
)
def test_the_path_names_model_and_stream(path: str, model: str, stream: bool) -> None:
    dialect = detect(request(path))
    assert isinstance(dialect, BedrockConverse)
    assert dialect.name == "bedrock_converse"
    assert dialect.model(request(path)) == model
    assert dialect.streams(request(path)) is stream


@pytest.mark.parametrize("path", ["/model/x/count-tokens", "/model/x", "/model/x/invoke-async", "/guardrail/x/apply"])
def test_a_count_is_no_answer(path: str) -> None:
    assert detect(request(path)) is None
    assert bedrock_path(request("/model/x/converse", "GET")) is None


@given(st.integers(0, 10**6), st.none() | st.integers(0, 10**6), st.none() | st.integers(0, 10**6))
def test_the_input_is_all_that_went_in(fresh: int, read: int | None, written: int | None) -> None:
    told = converse_usage({"inputTokens": fresh, "cacheReadInputTokens": read, "cacheWriteInputTokenCount": written})
    assert told.input_tokens == fresh + (read or 0) + (written or 0)
    assert (told.cache_read_input_tokens, told.cache_write_input_tokens) == (read, written)


STOP = {"messageStop": {"stopReason": "end_turn"}}
METADATA = {"metadata": {"usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}}}


@pytest.mark.parametrize("events", [[STOP, METADATA], [METADATA, STOP]])
def test_a_stream_is_over_when_stop_and_usage_were_seen(events: list[dict[str, Any]]) -> None:
    seen = Observation()
    BedrockConverse().observe(seen, events[0])
    assert not seen.terminal
    BedrockConverse().observe(seen, events[1])
    assert seen.terminal
    assert seen.finish_reasons == {0: "end_turn"}
    assert seen.usage.total_tokens == 7


def test_an_exception_keeps_what_was_counted() -> None:
    seen = Observation()
    BedrockConverse().observe(seen, METADATA)
    BedrockConverse().observe(seen, {"exception": {"message": "slow down"}, "type": "throttlingException"})
    assert (seen.error_type, seen.error_message) == ("throttlingException", "slow down")
    assert seen.usage.output_tokens == 4
    assert not seen.terminal
