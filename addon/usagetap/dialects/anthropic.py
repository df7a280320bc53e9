"""Anthropic Messages, by whomever it is served: Anthropic, Vertex, Azure, Copilot, a gateway under any prefix.

https://docs.anthropic.com/en/api/messages-streaming: `message_start` carries the usage of the input and a placeholder
for the output, `message_delta` the cumulative final counts; the two are merged per field, the delta wins (with server
tools the input grows while the answer is made). The 5m/1h split of cache writes and the tier are in the start only.

`usage.iterations` stays whole in `usage_raw`: the top level, and so our columns, is the sum of its `message` entries;
compaction and advisor come on top, at the price of their own model (anthropic-sdk-python, `beta_usage.py`).

Token counts (`…/count_tokens`) answer without a model and batches' results hold many responses: neither is a row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from usagetap.dialects.base import (
    Dialect,
    Json,
    Weight,
    add,
    integer,
    mapping,
    observe_error,
    observe_identity,
    raw_predict,
    text,
    told_by_path,
)
from usagetap.dialects.cost import observe_copilot, observe_cost, observe_header
from usagetap.model import Observation, Request, Usage

# Unescaped quotes cannot stand inside a JSON string: what a model says is never taken for one of these.
_TELLS = re.compile(
    rb'"type"\s*:\s*"(?:message_start|message_delta|message_stop|message|error)"|"error"\s*:\s*(?!null)\S|"copilot_usage"'
)


class Anthropic(Dialect):
    """`…/messages`, and Claude behind Vertex's `rawPredict`."""

    name = "anthropic"
    dull_event = re.compile(rb"content_block_(?:start|delta|stop)|ping")
    finish_ends = False

    def matches(self, request: Request) -> bool:
        if request.method != "POST":
            return False
        path = request.path.rstrip("/")
        served = raw_predict(path)
        if served is not None:
            theirs = "/publishers/anthropic/" in path or request.text("anthropic_version") is not None
            return theirs and not served.startswith("count-tokens")
        if not path.endswith("/messages"):
            return False
        if not isinstance(request.body, dict):
            ours = "anthropic-version" in request.headers or told_by_path(request)
            return ours and path.endswith("/v1/messages")
        # mail and chat services have `…/messages` too, OpenAI's assistants `/threads/{id}/messages`
        known = {"messages"} if not path.endswith("/v1/messages") else {"messages", "model", "stream"}
        return "role" not in request.body and not known.isdisjoint(request.body)

    def model(self, request: Request) -> str | None:
        return request.text("model") or raw_predict(request.path)

    def streams(self, request: Request) -> bool:
        return super().streams(request) or request.path.endswith(":streamRawPredict")

    def weigh(self, frame: bytes) -> Weight:
        return Weight.PARSE if _TELLS.search(frame) else Weight.NOTHING

    def observe(self, seen: Observation, payload: Any) -> None:
        if observe_error(seen, payload) or not isinstance(payload, dict):
            return
        kind = payload.get("type")
        if kind == "message_start":
            _observe_message(seen, mapping(payload.get("message")))
        elif kind == "message_delta":
            _observe_finish(seen, mapping(payload.get("delta")))
            _observe_usage(seen, mapping(payload.get("usage")))
            seen.usage_final = seen.usage_final or bool(payload.get("usage"))
        elif kind == "message_stop":
            seen.terminal = True
        elif kind == "message" or "stop_reason" in payload:
            _observe_message(seen, payload)
        observe_copilot(seen, payload)

    def observe_headers(self, seen: Observation, headers: Mapping[str, str]) -> None:
        observe_header(seen, headers)


class AnthropicComplete(Dialect):
    """Legacy `/v1/complete`: no usage at all, frames with CRLF, the last one has a stop reason."""

    name = "anthropic"
    dull_event = re.compile(rb"ping")

    def matches(self, request: Request) -> bool:
        if request.method != "POST" or not request.path.rstrip("/").endswith("/complete"):
            return False
        return told_by_path(request) or (isinstance(request.body, dict) and "max_tokens_to_sample" in request.body)

    def operation(self, request: Request) -> str:
        return "text_completion"

    def weigh(self, frame: bytes) -> Weight:
        tells = b'"error"' in frame or (b'"stop_reason"' in frame and not _NOT_YET.search(frame))
        return Weight.PARSE if tells else Weight.NOTHING

    def observe(self, seen: Observation, payload: Any) -> None:
        if observe_error(seen, payload) or not isinstance(payload, dict):
            return
        observe_identity(seen, payload)
        _observe_finish(seen, payload)
        seen.terminal = seen.terminal or seen.finished


_NOT_YET = re.compile(rb'"stop_reason"\s*:\s*null')


def _observe_message(seen: Observation, message: Json) -> None:
    """A whole message, or the start of one. A second start (a gateway that tried again) begins the usage anew."""
    observe_identity(seen, message)
    seen.finish_reasons.setdefault(0, None)
    _observe_finish(seen, message)
    usage = mapping(message.get("usage"))
    if usage:
        seen.usage_raw = None
        seen.usage_final = False
        _observe_usage(seen, usage)


def _observe_finish(seen: Observation, holder: Json) -> None:
    reason = text(holder.get("stop_reason"))
    if reason is not None:
        seen.finish_reasons[0] = reason[:100]


def _observe_usage(seen: Observation, usage: Json) -> None:
    """Merge per field: what a later object leaves out, or has as null, stays."""
    if not usage:
        return
    raw = {**mapping(seen.usage_raw), **{name: value for name, value in usage.items() if value is not None}}
    seen.usage_raw = raw
    seen.usage = anthropic_usage(raw)
    seen.service_tier = text(raw.get("service_tier")) or seen.service_tier
    observe_cost(seen, raw)


def anthropic_usage(usage: Json) -> Usage:
    """Anthropic's words in ours: the input is what was neither read from the cache nor written to it, plus these two.

    https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching#tracking-cache-performance
    """
    creation = mapping(usage.get("cache_creation"))
    fresh = integer(usage.get("input_tokens"))
    read = integer(usage.get("cache_read_input_tokens"))
    short = integer(creation.get("ephemeral_5m_input_tokens"))
    long = integer(creation.get("ephemeral_1h_input_tokens"))
    written = integer(usage.get("cache_creation_input_tokens"))
    written = add(short, long) if written is None else written
    return Usage(
        input_tokens=None if fresh is None else add(fresh, read, written),
        output_tokens=integer(usage.get("output_tokens")),
        cache_read_input_tokens=read,
        cache_write_input_tokens=written,
        cache_write_5m_input_tokens=short,
        cache_write_1h_input_tokens=long,
        reasoning_output_tokens=integer(mapping(usage.get("output_tokens_details")).get("thinking_tokens")),
    )
