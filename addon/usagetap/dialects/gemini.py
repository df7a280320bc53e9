"""Gemini's `generateContent`: AI Studio, Vertex, Code Assist's wrapper, gateways; and the embeddings beside it.

https://ai.google.dev/api/generate-content. The last `usageMetadata` counts, as a whole object: its numbers go down
too, and the last one may lack a field that earlier ones had (recorded: `google_search` turns). Thinking is outside
`candidatesTokenCount`, the prompts of server-side tools are outside `promptTokenCount`. Streams are SSE with CRLF
where the client asks for `alt=sse`, else one JSON array that arrives piece by piece; neither has a terminal event.
Vertex writes enums as numbers where the client asks for `enum-encoding=int`, and so they stay. `countTokens` counts,
and is no response.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar
from urllib.parse import unquote

from usagetap.dialects.base import (
    Dialect,
    Json,
    Weight,
    add,
    finish_reason,
    first_integer,
    integer,
    mapping,
    observe_error,
    observe_identity,
    text,
)
from usagetap.dialects.cost import observe_cost
from usagetap.model import Observation, Request, Transport, Usage

_GENERATE = re.compile(r":(?:generateContent|streamGenerateContent)$")
_EMBED = re.compile(r":(?:embedContent|batchEmbedContents|asyncBatchEmbedContent)$")
_PREDICT_EMBED = re.compile(r"/models/[^/:]*(?:embedding|gecko)[^/:]*:predict$")
_USAGE = re.compile(rb'"usageMetadata"\s*:\s*\{\s*"')
_MODEL = re.compile(r"/([^/:]+):\w+$")
_AUDIO, _IMAGE = ("AUDIO", 4), ("IMAGE", 2)
"""https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rpc/google.cloud.aiplatform.v1#modality"""


class Gemini(Dialect):
    """`…:generateContent` and `…:streamGenerateContent`."""

    name = "gemini"
    transport_hint: ClassVar[Transport | None] = "json_array"

    def matches(self, request: Request) -> bool:
        return request.method == "POST" and _GENERATE.search(_path(request)) is not None

    def operation(self, request: Request) -> str:
        return "generate_content"

    def model(self, request: Request) -> str | None:
        found = _MODEL.search(_path(request))
        in_path = found[1] if found and not found[1].startswith("v1internal") else None
        return in_path or request.text("model")  # Code Assist names it in the body

    def streams(self, request: Request) -> bool:
        return _path(request).endswith(":streamGenerateContent")

    def weigh(self, frame: bytes) -> Weight:
        find = frame.find  # three times as fast as `in`, and this is every frame of a stream
        if find(b'"finishReason"') >= 0 or find(b'"promptFeedback"') >= 0 or find(b'"error"') >= 0:
            return Weight.PARSE
        at = find(b'"usageMetadata"')
        return Weight.LATEST if at >= 0 and _USAGE.match(frame, at) else Weight.NOTHING

    def observe(self, seen: Observation, payload: Any) -> None:
        if isinstance(payload, list):  # a stream's array that came as one document
            for part in payload:
                self.observe(seen, part)
            return
        if observe_error(seen, payload) or not isinstance(payload, dict):
            return
        inner = payload.get("response")
        answer: Json = inner if isinstance(inner, dict) else payload
        observe_identity(seen, answer, model="modelVersion", response_id="responseId")
        seen.response_model = seen.response_model or text(answer.get("model"))
        candidates = answer.get("candidates")
        for position, candidate in enumerate(candidates if isinstance(candidates, list) else []):
            _observe_candidate(seen, position, mapping(candidate))
        blocked = finish_reason(mapping(answer.get("promptFeedback")).get("blockReason"))
        if blocked is not None:
            seen.finish_reasons[0] = f"blockReason:{blocked}"
        usage = mapping(answer.get("usageMetadata"))
        if usage:
            _observe_usage(seen, usage)
        if seen.finished:  # nothing follows a finish reason in 153 of 154 recorded streams
            seen.terminal = True
            seen.usage_final = seen.usage_raw is not None


class GeminiEmbeddings(Dialect):
    """`…:embedContent`, `…:batchEmbedContents`, and Vertex's `:predict` of embedding models."""

    name = "gemini"

    def matches(self, request: Request) -> bool:
        path = _path(request)
        return request.method == "POST" and bool(_EMBED.search(path) or _PREDICT_EMBED.search(path))

    def operation(self, request: Request) -> str:
        return "embeddings"

    def model(self, request: Request) -> str | None:
        found = _MODEL.search(_path(request))
        return found[1] if found else None

    def streams(self, request: Request) -> bool:
        return False

    def observe(self, seen: Observation, payload: Any) -> None:
        if observe_error(seen, payload) or not isinstance(payload, dict):
            return
        usage = mapping(payload.get("usageMetadata"))
        if usage:
            _observe_usage(seen, usage)
            return
        predictions = payload.get("predictions")
        counts = [
            integer(mapping(mapping(mapping(prediction).get("embeddings")).get("statistics")).get("token_count"))
            for prediction in (predictions if isinstance(predictions, list) else [])
        ]
        if add(*counts) is not None:
            seen.usage = Usage(input_tokens=add(*counts))
            seen.usage_raw = {"statistics": [{"token_count": count} for count in counts]}


def gemini_usage(usage: Json) -> Usage:
    """`usageMetadata` in our words."""
    thoughts = integer(usage.get("thoughtsTokenCount"))
    into = usage.get("promptTokensDetails") or usage.get("promptTokenDetails")  # embeddings: in the singular
    out = usage.get("candidatesTokensDetails")
    return Usage(
        input_tokens=integer(usage.get("promptTokenCount")),
        output_tokens=add(integer(usage.get("candidatesTokenCount")), thoughts),
        total_tokens=integer(usage.get("totalTokenCount")),
        cache_read_input_tokens=integer(usage.get("cachedContentTokenCount")),
        reasoning_output_tokens=thoughts,
        audio_input_tokens=_of_modality(into, _AUDIO),
        audio_output_tokens=_of_modality(out, _AUDIO),
        image_input_tokens=_of_modality(into, _IMAGE),
        image_output_tokens=_of_modality(out, _IMAGE),
        tool_use_input_tokens=first_integer(usage, "toolUsePromptTokenCount"),
    )


def _observe_candidate(seen: Observation, position: int, candidate: Json) -> None:
    index = candidate.get("index")
    index = index if isinstance(index, int) and 0 <= index < 1024 else position
    reason = finish_reason(candidate.get("finishReason"))
    if reason is not None:
        seen.finish_reasons[index] = reason
    else:
        seen.finish_reasons.setdefault(index, None)


def _observe_usage(seen: Observation, usage: Json) -> None:
    """The later object replaces the earlier one, with all that it does not say."""
    seen.usage = gemini_usage(usage)
    seen.usage_raw = usage
    seen.service_tier = text(usage.get("serviceTier")) or seen.service_tier
    observe_cost(seen, usage)


def _of_modality(parts: Any, modality: tuple[str, int]) -> int | None:
    if not isinstance(parts, list):
        return None
    found = [mapping(part) for part in parts]
    return add(*(integer(part.get("tokenCount")) for part in found if part.get("modality") in modality))


def _path(request: Request) -> str:
    return unquote(request.path).rstrip("/")
