"""Bedrock's InvokeModel: who is believed when the vendor's body and Bedrock itself both count."""

from __future__ import annotations

from typing import Any

import pytest

from usagetap.dialects import detect
from usagetap.dialects.base import Weight
from usagetap.dialects.bedrock_invoke import BedrockInvoke
from usagetap.model import Observation, Request

HEADERS = {
    "x-amzn-bedrock-input-token-count": "3",
    "x-amzn-bedrock-output-token-count": "44",
    "x-amzn-bedrock-cache-read-input-token-count": "10",
}
METRICS = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 16, "outputTokenCount": 97}}


def fold(*payloads: Any, headers: dict[str, str] | None = None) -> Observation:
    seen = Observation()
    BedrockInvoke().observe_headers(seen, headers or {})
    for payload in payloads:
        BedrockInvoke().observe(seen, payload)
    return seen


@pytest.mark.parametrize(
    ("model", "body", "operation"),
    [
        ("anthropic.claude-3-haiku", {"messages": []}, "chat"),
        ("meta.llama3", {"prompt": ""}, "text_completion"),
        ("amazon.titan-text-express-v1", {"inputText": "", "textGenerationConfig": {}}, "text_completion"),
        ("amazon.titan-embed-text-v2:0", {"inputText": ""}, "embeddings"),
        ("cohere.embed-v4:0", {"texts": [], "input_type": "x"}, "embeddings"),
    ],
)
def test_the_operation_is_told_by_the_body(model: str, body: dict[str, Any], operation: str) -> None:
    asked = Request("POST", "bedrock-runtime.us-east-1.amazonaws.com", 443, f"/model/{model}/invoke", body=body)
    dialect = detect(asked)
    assert isinstance(dialect, BedrockInvoke)
    assert dialect.operation(asked) == operation
    assert dialect.model(asked) == model
    assert not dialect.streams(asked)


def test_headers_count_where_the_body_does_not() -> None:
    seen = fold({"generation_id": "g", "text": "Eight.", "finish_reason": "COMPLETE"}, headers=HEADERS)
    assert (seen.usage.input_tokens, seen.usage.output_tokens) == (13, 44)
    assert seen.usage.cache_read_input_tokens == 10
    assert seen.usage_raw == {name: int(value) for name, value in HEADERS.items()}
    assert (seen.response_id, seen.finish_reasons) == ("g", {0: "COMPLETE"})


def test_the_body_is_believed_where_both_count() -> None:
    usage = {"input_tokens": 4, "cache_read_input_tokens": 11, "output_tokens": 45}
    seen = fold({"type": "message", "id": "m", "stop_reason": "end_turn", "usage": usage}, headers=HEADERS)
    assert (seen.usage.input_tokens, seen.usage.output_tokens) == (15, 45)
    assert seen.usage_raw == usage


def test_headers_fill_what_the_body_leaves_out() -> None:
    seen = fold({"output": {}, "stopReason": "end_turn", "usage": {"inputTokens": 30}}, headers=HEADERS)
    assert (seen.usage.input_tokens, seen.usage.output_tokens) == (30, 44)
    assert seen.usage.cache_read_input_tokens is None  # it is part of the header's input, not of the body's


@pytest.mark.parametrize("headers", [{}, {"x-amzn-bedrock-input-token-count": "none"}])
def test_nobody_counts(headers: dict[str, str]) -> None:
    seen = fold({"text": "Eight."}, headers=headers)
    assert seen.usage_raw is None
    assert not seen.usage.known


def test_metrics_never_lower_what_claude_said() -> None:
    seen = fold(
        {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 16, "output_tokens": 1}}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 133}},
        {"type": "message_stop", **METRICS},
    )
    assert (seen.usage.input_tokens, seen.usage.output_tokens) == (16, 133)
    assert seen.usage_raw == {"input_tokens": 16, "output_tokens": 133, **METRICS}
    assert seen.terminal


def test_metrics_count_where_the_vendor_does_not() -> None:
    seen = fold({"is_finished": False, "text": " In"}, {"finish_reason": "MAX_TOKENS", "is_finished": True, **METRICS})
    assert (seen.usage.input_tokens, seen.usage.output_tokens) == (16, 97)
    assert seen.finish_reasons == {0: "MAX_TOKENS"}


def test_titan_adds_its_results_and_counts_in_floats() -> None:
    results = [{"tokenCount": 12.0, "completionReason": "FINISH"}, {"tokenCount": 5, "completionReason": "LENGTH"}]
    seen = fold({"inputTextTokenCount": 28.0, "results": results})
    assert (seen.usage.input_tokens, seen.usage.output_tokens) == (28, 17)
    assert seen.finish_reasons == {0: "FINISH", 1: "LENGTH"}


def test_llama_keeps_the_input_of_its_first_event() -> None:
    seen = fold(
        {"generation": "a", "prompt_token_count": 9, "generation_token_count": 1, "stop_reason": None},
        {"generation": "b", "prompt_token_count": None, "generation_token_count": 2, "stop_reason": "stop"},
    )
    assert (seen.usage.input_tokens, seen.usage.output_tokens) == (9, 2)


@pytest.mark.parametrize(
    ("frame", "weight"),
    [
        (b'{"type":"content_block_delta","index":0}', Weight.NOTHING),
        (b'{"contentBlockDelta":{"delta":{"text":"It"}}}', Weight.NOTHING),
        (b'{"index":0,"is_finished":false,"text":" In"}', Weight.NOTHING),
        (b'{"generation":"a","prompt_token_count":null,"generation_token_count":2,"stop_reason":null}', Weight.NOTHING),
        (b'{"generation":"a","prompt_token_count":9,"generation_token_count":1,"stop_reason":null}', Weight.PARSE),
        (b'{"type":"message_stop","amazon-bedrock-invocationMetrics":{}}', Weight.PARSE),
        (b'{"outputText":"a","index":0}', Weight.PARSE),
        (b'{"choices":[{"delta":{"content":"a"},"finish_reason":null,"stop_reason":null}]}', Weight.NOTHING),
        (b'{"choices":[{"delta":{},"finish_reason":"stop","stop_reason":null}]}', Weight.PARSE),
        (b'{"choices":[{"delta":{},"finish_reason":null}],"usage":{"prompt_tokens":3}}', Weight.PARSE),
        (b'{"type":"message_start","message":{"stop_reason":null,"usage":{}}}', Weight.PARSE),
        (b'{"text":"","is_finished":false,"error":"overloaded"}', Weight.PARSE),
    ],
)
def test_only_text_weighs_nothing(frame: bytes, weight: Weight) -> None:
    assert BedrockInvoke().weigh(frame) is weight
