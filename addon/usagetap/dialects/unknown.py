"""What a host of `usage_hosts` says under a path that no dialect knows: a recognisable `usage` object, and little else.

It exists so that a new provider shows up instead of vanishing. The object is looked for where every known provider has
it, and kept as it came in `usage_raw`; how such a stream ends is told only by the words that several providers share.
"""

from __future__ import annotations

import re
from typing import Any

from usagetap.dialects.base import Dialect, Json, Weight, integer, mapping, observe_error, observe_identity, text
from usagetap.dialects.gemini import gemini_usage
from usagetap.dialects.openai_plain import observe_plain_usage
from usagetap.model import Observation, Request, Usage

_TELLS = re.compile(
    rb'"(?:usage|usageMetadata|token_usage)"\s*:\s*\{|"error"\s*:\s*(?!null)\S|"(?:finish|stop)_reason"\s*:\s*"'
    rb'|"type"\s*:\s*"[\w.]*(?:completed|done|stop)"|"done"\s*:\s*true'
)
_LAST_TYPE = re.compile(r"(?:.*[._])?(?:completed|done|stop)")
_COUNTS = frozenset(
    {"prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens"}
    | {"promptTokenCount", "candidatesTokenCount", "inputTokens", "outputTokens"}
)


class Unknown(Dialect):
    """Any POST; asked for by the user's `usage_hosts` only."""

    name = "unknown"

    def matches(self, request: Request) -> bool:
        return request.method == "POST"

    def weigh(self, frame: bytes) -> Weight:
        return Weight.PARSE if _TELLS.search(frame) else Weight.NOTHING

    def observe(self, seen: Observation, payload: Any) -> None:
        observe_error(seen, payload)
        if not isinstance(payload, dict):
            return
        inner: Json = next(
            (payload[name] for name in ("response", "message", "data") if _usage_of(mapping(payload.get(name)))), {}
        )
        for source in (payload, inner):
            observe_identity(seen, source)
            usage = _usage_of(source)
            if usage:
                _observe_usage(seen, usage)
        _observe_end(seen, payload)


def _usage_of(payload: Json) -> Json:
    """The first object that stands where usage stands and counts tokens."""
    for name in ("usage", "usageMetadata", "token_usage"):
        usage = mapping(payload.get(name))
        if not _COUNTS.isdisjoint(usage):
            return usage
    return {}


def _observe_usage(seen: Observation, usage: Json) -> None:
    if "promptTokenCount" in usage or "candidatesTokenCount" in usage:
        seen.usage, seen.usage_raw = gemini_usage(usage), usage
    elif "inputTokens" in usage or "outputTokens" in usage:
        told = Usage(
            integer(usage.get("inputTokens")), integer(usage.get("outputTokens")), integer(usage.get("totalTokens"))
        )
        seen.usage.merge(told)
        seen.usage_raw = usage
    else:
        observe_plain_usage(seen, usage)


def _observe_end(seen: Observation, payload: Json) -> None:
    choices = payload.get("choices")
    choice = mapping(choices[0]) if isinstance(choices, list) and choices else {}
    reason = next(
        (
            text(source.get(name))
            for source in (choice, payload)
            for name in ("finish_reason", "stop_reason")
            if source.get(name)
        ),
        None,
    )
    if reason is not None:
        seen.finish_reasons[0] = reason
    if payload.get("done") is True or _LAST_TYPE.fullmatch(text(payload.get("type")) or ""):
        seen.terminal = True
