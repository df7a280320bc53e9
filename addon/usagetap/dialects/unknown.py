"""What a host of `usage_hosts` says under a path that no dialect knows: a recognisable `usage` object, and little else.

It exists so that a new provider shows up instead of vanishing. The object is looked for where known providers have it,
is told by their words for its counts, and is kept as it came in `usage_raw`; how such a stream ends is told only by the
words that several providers share.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from usagetap.dialects.anthropic import anthropic_usage
from usagetap.dialects.base import (
    Dialect,
    Json,
    Weight,
    finish_reason,
    integer,
    mapping,
    observe_error,
    observe_identity,
    text,
)
from usagetap.dialects.bedrock_converse import converse_usage
from usagetap.dialects.cohere import cohere_usage
from usagetap.dialects.gemini import gemini_usage
from usagetap.dialects.gemini_interactions import interactions_usage
from usagetap.dialects.openai_plain import observe_plain_usage
from usagetap.dialects.openai_usage import openai_usage
from usagetap.model import Observation, Request, Transport, Usage

_TELLS = re.compile(
    rb'"(?:usage|usageMetadata|token_usage|meta|metadata)"\s*:\s*\{|"(?:prompt_)?eval_count"|"error"\s*:\s*(?!null)\S'
    rb'|"(?:finish|stop)_?[rR]eason"\s*:\s*"|"type"\s*:\s*"[\w.-]*(?:completed|done|stop|end)"|"done"\s*:\s*true'
)
_LAST_TYPE = re.compile(r"(?:.*[._-])?(?:completed|done|stop|end)")
_HOLDERS = ("response", "message", "interaction", "delta", "data", "result", "output", "metadata")
_USAGES = ("usage", "usageMetadata", "token_usage", "meta")
_REASONS = ("finish_reason", "stop_reason", "finishReason", "stopReason")


class Unknown(Dialect):
    """Any POST; asked for by the user's `usage_hosts` only."""

    name = "unknown"
    transport_hint: ClassVar[Transport | None] = "ndjson"

    def matches(self, request: Request) -> bool:
        return request.method == "POST"

    def weigh(self, frame: bytes) -> Weight:
        return Weight.PARSE if _TELLS.search(frame) else Weight.NOTHING

    def observe(self, seen: Observation, payload: Any) -> None:
        if isinstance(payload, list):
            for part in payload:
                self.observe(seen, part)
            return
        observe_error(seen, payload)
        if not isinstance(payload, dict):
            return
        counted = False
        for holder in _holders(payload):
            observe_identity(seen, holder)
            reason = next((finish_reason(holder[name]) for name in _REASONS if holder.get(name)), None)
            if reason is not None:
                seen.finish_reasons[0] = reason
            counted = counted or _observe_usage(seen, holder)
        if payload.get("done") is True or _LAST_TYPE.fullmatch(text(payload.get("type")) or ""):
            seen.terminal = True


def _holders(payload: Json) -> Iterator[Json]:
    """The payload and the objects in it in which providers put usage, id and end."""
    yield payload
    for name in _HOLDERS:
        yield mapping(payload.get(name))
    for name in ("choices", "candidates"):
        listed = payload.get(name)
        yield mapping(listed[0]) if isinstance(listed, list) and listed else {}


def _observe_usage(seen: Observation, holder: Json) -> bool:
    """Take the first object that counts tokens in anybody's words; true if there was one."""
    for usage in (*(mapping(holder.get(name)) for name in _USAGES), _counters(holder)):
        for words, translate in _WORDS:
            told = Usage() if words.isdisjoint(usage) else translate(usage)
            if not told.known:
                continue
            if translate is openai_usage:
                observe_plain_usage(seen, usage)
            elif translate is gemini_usage:  # its last object counts as a whole
                seen.usage, seen.usage_raw = told, usage
            else:
                seen.usage.merge(told)
                seen.usage_raw = usage
            return True
    return False


def _counters(holder: Json) -> Json:
    """Ollama's counts, which stand in the answer itself."""
    return {name: holder[name] for name in ("prompt_eval_count", "eval_count") if name in holder}


def _ollama_usage(usage: Json) -> Usage:
    return Usage(integer(usage.get("prompt_eval_count")), integer(usage.get("eval_count")))


def _camel_usage(usage: Json) -> Usage:
    """The words of Vercel's AI SDK, which gateways of its users repeat."""
    counts = (integer(usage.get(name)) for name in ("promptTokens", "completionTokens", "totalTokens"))
    return Usage(*counts)


_WORDS: tuple[tuple[frozenset[str], Callable[[Json], Usage]], ...] = (
    (frozenset({"promptTokenCount", "candidatesTokenCount"}), gemini_usage),
    (frozenset({"total_input_tokens", "total_output_tokens"}), interactions_usage),
    (frozenset({"inputTokens", "outputTokens"}), converse_usage),
    (frozenset({"promptTokens", "completionTokens"}), _camel_usage),
    (frozenset({"prompt_eval_count", "eval_count"}), _ollama_usage),
    (frozenset({"billed_units", "tokens"}), cohere_usage),
    (frozenset({"prompt_tokens", "completion_tokens"}), openai_usage),  # others' names for the cache may stand beside
    (frozenset({"cache_read_input_tokens", "cache_creation_input_tokens"}), anthropic_usage),
    (frozenset({"input_tokens", "output_tokens", "total_tokens"}), openai_usage),
)
