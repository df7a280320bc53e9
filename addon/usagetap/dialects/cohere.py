"""Cohere's own API: chat v1 and v2, generate, embed, rerank.

https://docs.cohere.com/reference/chat. `tokens` is what was processed and is what we count, `billed_units` what is
billed (65 against 508 in one recording); images stand beside `input_tokens` there, not in it. v2 streams SSE and ends
with `[DONE]` after `message-end`; v1 streams NDJSON and ends with `stream-end`. No answer names its model.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from usagetap.dialects.base import (
    Dialect,
    Json,
    Weight,
    integer,
    mapping,
    observe_error,
    observe_identity,
    text,
)
from usagetap.dialects.cost import observe_cost
from usagetap.model import Observation, Request, Transport, Usage

_TELLS = re.compile(rb'"(?:type|event_type)"\s*:\s*"(?:message-start|message-end|stream-start|stream-end)"|"error"')
_CHAT = re.compile(r"/v([12])/(?:chat|generate)$")
_EMBED = re.compile(r"/v[12]/embed$")


class Cohere(Dialect):
    """`/v2/chat`, `/v1/chat`, `/v1/generate`."""

    name = "cohere"
    dull_event = re.compile(rb"(?:content|tool-call|citation)-(?:start|delta|end)|tool-plan-delta")
    transport_hint: ClassVar[Transport | None] = "ndjson"

    def matches(self, request: Request) -> bool:
        found = _CHAT.search(request.path.rstrip("/"))
        if request.method != "POST" or found is None:
            return False
        if found[1] == "2":
            return True
        if not isinstance(request.body, dict):
            return "cohere" in request.host
        return "message" in request.body or "prompt" in request.body  # Writer's /v1/chat has OpenAI's messages

    def operation(self, request: Request) -> str:
        return "text_completion" if request.path.rstrip("/").endswith("/generate") else "chat"

    def weigh(self, frame: bytes) -> Weight:
        return Weight.PARSE if _TELLS.search(frame) else Weight.NOTHING

    def observe(self, seen: Observation, payload: Any) -> None:
        if observe_error(seen, payload) or not isinstance(payload, dict):
            return
        kind = payload.get("type") or payload.get("event_type")
        if kind is None:
            _observe_answer(seen, payload)
            seen.terminal = seen.terminal or seen.finished
        elif kind == "message-start":
            observe_identity(seen, payload)
            seen.finish_reasons.setdefault(0, None)
        elif kind == "message-end":
            _observe_answer(seen, mapping(payload.get("delta")))
            seen.terminal = True
        elif kind == "stream-start":
            observe_identity(seen, payload, response_id="generation_id")
        elif kind == "stream-end":
            _observe_answer(seen, {"finish_reason": payload.get("finish_reason"), **mapping(payload.get("response"))})
            seen.terminal = True


class CohereEmbed(Dialect):
    """`/v1/embed`, `/v2/embed`: billed units only."""

    name = "cohere"

    def matches(self, request: Request) -> bool:
        return request.method == "POST" and _EMBED.search(request.path.rstrip("/")) is not None

    def operation(self, request: Request) -> str:
        return "embeddings"

    def observe(self, seen: Observation, payload: Any) -> None:
        if not observe_error(seen, payload) and isinstance(payload, dict):
            _observe_answer(seen, payload)


class CohereRerank(CohereEmbed):
    """Cohere's `/v1/rerank` and `/v2/rerank`, billed by the search (others' `/v1/rerank`: `rerank.py`)."""

    def matches(self, request: Request) -> bool:
        path = request.path.rstrip("/")
        ours = path.endswith("/v2/rerank") or (path.endswith("/rerank") and "cohere" in request.host)
        return request.method == "POST" and ours

    def operation(self, request: Request) -> str:
        return "rerank"


def _observe_answer(seen: Observation, answer: Json) -> None:
    """A whole answer, or what the end of a stream repeats of it: `usage` in v2, `meta` elsewhere."""
    observe_identity(seen, answer, response_id="generation_id")
    observe_identity(seen, answer)
    reason = text(answer.get("finish_reason"))
    if reason is not None:
        seen.finish_reasons[0] = reason[:100]
        if reason.startswith("ERROR"):
            seen.fail(reason[:100], text(answer.get("error")))
    usage = mapping(answer.get("usage"))
    if not usage:
        meta = mapping(answer.get("meta"))
        usage = {name: meta[name] for name in ("billed_units", "tokens", "cached_tokens") if meta.get(name) is not None}
    if usage:
        seen.usage.merge(cohere_usage(usage))
        seen.usage_raw = usage
        seen.usage_final = True
        observe_cost(seen, usage)


def cohere_usage(usage: Json) -> Usage:
    """Cohere's words in ours: what was processed, else what is billed."""
    tokens, billed = mapping(usage.get("tokens")), mapping(usage.get("billed_units"))
    into, out = integer(tokens.get("input_tokens")), integer(tokens.get("output_tokens"))
    return Usage(
        input_tokens=integer(billed.get("input_tokens")) if into is None else into,
        output_tokens=integer(billed.get("output_tokens")) if out is None else out,
        cache_read_input_tokens=integer(usage.get("cached_tokens")),
        reasoning_output_tokens=integer(tokens.get("reasoning_tokens")),
    )
