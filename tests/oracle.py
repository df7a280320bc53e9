"""The corpus's oracle against our reading, and where a provider's documentation speaks for us against it.

Each disagreement is proved by a test of its own in `tests/golden/test_against_the_oracle.py`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from usagetap.model import Observation, Request

Exchange = dict[str, Any]


BROKEN_OFF = {
    "23a35f0844d1421713c7",  # Writer's completions: {"value": …} only
    "4d5783f59d41abd9c723",  # one chunk of a stream
    "74d2a02c45302788d62d",  # the same
}
"""Fixtures that end in the middle: no finish reason, no [DONE]."""


def request_of(exchange: Exchange) -> Request:
    """The request as a dialect sees it."""
    parts, asked = urlsplit(exchange["url"]), exchange["request"]
    if isinstance(asked, dict) and "_multipart" in asked:
        asked = asked["_multipart"]
    elif isinstance(asked, dict) and "_text" in asked:
        asked = None
    host, query = (parts.hostname or "").lower(), dict(parse_qsl(parts.query))
    return Request(exchange["method"], host, parts.port or 443, parts.path, query, body=asked)


def body_of(exchange: Exchange) -> bytes:
    """The answer's body as recorded."""
    return exchange["body"].encode() if "body" in exchange else base64.b64decode(exchange["body_b64"])


def told(seen: Observation) -> Exchange:
    """What we have read, by the oracle's names."""
    usage = seen.usage
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "cached_input_tokens": usage.cache_read_input_tokens,
        "cache_write_tokens": usage.cache_write_input_tokens,
        "reasoning_tokens": usage.reasoning_output_tokens,
        "model": seen.response_model,
        "response_id": seen.response_id,
        "finish_reason": seen.finish_reasons.get(0),
        "error": seen.error_type is not None,
        "has_usage": seen.usage_raw is not None,
        "cache_write_5m": usage.cache_write_5m_input_tokens,
        "cache_write_1h": usage.cache_write_1h_input_tokens,
        "tool_use_prompt_tokens": usage.tool_use_input_tokens,
        "service_tier": seen.service_tier,
    }


def differences(seen: Observation, exchange: Exchange) -> dict[str, tuple[Any, Any]]:
    """Where we and the oracle disagree: field -> (ours, the oracle's), which tells one end of several choices'."""
    ours = told(seen)
    if exchange["expect"]["finish_reason"] in seen.finish_reasons.values():
        ours["finish_reason"] = exchange["expect"]["finish_reason"]
    oracle = exchange["expect"]["extras"] | exchange["expect"]
    return {name: (ours[name], oracle[name]) for name in ours if name in oracle and ours[name] != oracle[name]}


@dataclass(frozen=True)
class Disagreement:
    """Fields that we read otherwise than the oracle, in which exchanges, and by whose word."""

    why: str
    source: str
    fields: frozenset[str]
    holds: Callable[[Exchange], bool]


def _disagreement(why: str, source: str, fields: str, holds: Callable[[Exchange], bool]) -> Disagreement:
    return Disagreement(why, source, frozenset(fields.split()), holds)


def bedrock_model(exchange: Exchange) -> str:
    """The model that a Bedrock path names."""
    return str(exchange["url"]).partition("/model/")[2]


def _invoked(exchange: Exchange, *models: str) -> bool:
    return exchange["api"].startswith("bedrock.invoke") and bedrock_model(exchange).startswith(models)


DISAGREEMENTS = {
    "compaction": _disagreement(
        "POST /responses/compact answers with an id and usage, which is billed; the oracle took it for a count.",
        "https://platform.openai.com/docs/api-reference/responses/compact",
        "input_tokens output_tokens total_tokens cached_input_tokens reasoning_tokens response_id has_usage",
        lambda it: it["url"].endswith("/responses/compact"),
    ),
    "gemini_compat_thinking": _disagreement(
        "The total has the thinking, which is billed as output and named nowhere.",
        "https://ai.google.dev/gemini-api/docs/thinking",
        "output_tokens reasoning_tokens",
        lambda it: it["provider"] == "gemini" and it["api"] == "openai.chat",
    ),
    "mistral_audio": _disagreement(
        "prompt_tokens leaves the audio out, the total has it: it went in, too.",
        "https://docs.mistral.ai/capabilities/audio/",
        "input_tokens",
        lambda it: it["provider"] == "mistral" and bool(it["expect"]["extras"].get("input_audio_tokens")),
    ),
    "transcript_segment": _disagreement(
        "The id is the segment's; a transcription has none.",
        "https://platform.openai.com/docs/api-reference/audio/transcript-text-segment-event",
        "response_id",
        lambda it: it["api"] == "openai.transcriptions" and it["stream"],
    ),
    "llamacpp_timings": _disagreement(
        "timings.cache_n is how many tokens of the prompt the server's cache held.",
        "https://github.com/ggml-org/llama.cpp/tree/master/tools/server#timings-and-context-usage",
        "cached_input_tokens",
        lambda it: it["provider"] == "llamacpp",
    ),
    "interaction_in_progress": _disagreement(
        "An interaction has its id from the start, its usage later.",
        "https://ai.google.dev/api/interactions-api",
        "response_id",
        lambda it: it["api"] == "gemini.interactions" and '"status":"in_progress"' in it.get("body", "")[:400],
    ),
    "bedrock_headers": _disagreement(
        "Bedrock counts in headers what the model's own body does not.",
        "https://github.com/cohere-ai/cohere-python/pull/537",  # Cohere's own SDK reads its tokens there
        "input_tokens output_tokens cached_input_tokens cache_write_tokens has_usage",
        lambda it: it["api"] == "bedrock.invoke" and "x-amzn-bedrock-input-token-count" in it["usage_headers"],
    ),
    "bedrock_metrics": _disagreement(
        "A guardrail cut Titan's last event, which has the output; invocationMetrics have it too.",
        "https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-text.html",
        "output_tokens",
        lambda it: it["api"] == "bedrock.invoke-stream" and _invoked(it, "amazon.titan"),
    ),
    "bedrock_cohere_and_j2": _disagreement(
        "They say how they finished, and which generation it was, on Bedrock too.",
        "https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-cohere-command.html",
        "finish_reason response_id",
        lambda it: _invoked(it, "cohere.command", "ai21.j2"),
    ),
    "bedrock_openai_shape": _disagreement(
        "Imported models answer in OpenAI's words, model and finish reason included.",
        "https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-openai.html",
        "finish_reason model",
        lambda it: it["api"] == "bedrock.invoke" and '"choices"' in it.get("body", ""),
    ),
}


def why(exchange: Exchange, field: str) -> str | None:
    """The name of the disagreement that explains a difference in `field`."""
    held = (name for name, each in DISAGREEMENTS.items() if field in each.fields and each.holds(exchange))
    return next(held, None)
