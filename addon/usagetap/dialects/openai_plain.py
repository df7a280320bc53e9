"""What OpenAI's endpoints share that answer once: a model, an id, a `usage` object at the top."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from usagetap.dialects.base import (
    Dialect,
    Json,
    mapping,
    model_in_path,
    observe_error,
    observe_identity,
    text,
)
from usagetap.dialects.cost import observe_cost, observe_header
from usagetap.dialects.openai_usage import openai_usage, with_siblings
from usagetap.model import Observation, Request


class OpenAIPlain(Dialect):
    """A dialect whose events, where it streams, have a `type`, and whose usage stands beside it."""

    terminal_types: ClassVar[frozenset[str]] = frozenset()
    """The `type` of the event that ends a stream."""
    finish_ends = False

    def model(self, request: Request) -> str | None:
        return request.text("model") or model_in_path(request.path)

    def observe(self, seen: Observation, payload: Any) -> None:
        observe_error(seen, payload)
        if not isinstance(payload, dict):
            return
        kind = payload.get("type")
        if kind is None:  # in events `id` is a segment's or an item's
            observe_identity(seen, payload)
        elif isinstance(kind, str) and kind in self.terminal_types:
            seen.response_model = seen.response_model or text(payload.get("model"))
            seen.terminal = True
        seen.service_tier = text(payload.get("service_tier")) or seen.service_tier
        usage = mapping(payload.get("usage"))
        if usage:
            observe_plain_usage(seen, usage)
            seen.usage_raw = with_siblings(usage, payload, "svg_usage")
            seen.usage_final = kind is None or seen.terminal

    def observe_headers(self, seen: Observation, headers: Mapping[str, str]) -> None:
        observe_header(seen, headers)


def observe_plain_usage(seen: Observation, usage: Json) -> None:
    """Fold a usage object in which a total alone is what went in (Voyage, Jina: nothing comes out of an embedding)."""
    told = openai_usage(usage)
    if told.input_tokens is None and told.output_tokens is None:
        told.input_tokens = told.total_tokens
    seen.usage.merge(told)
    seen.usage_raw = usage
    seen.service_tier = text(usage.get("service_tier")) or seen.service_tier
    observe_cost(seen, usage)
