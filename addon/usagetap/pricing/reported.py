"""What matters to a price and has no column: read from the provider's own usage objects (`usage_raw`).

Everything here is total: any JSON gives an answer, the empty one where it says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from usagetap.model import Usage

#: tiers that are the ordinary price, in the words of OpenAI, Anthropic and Google
ORDINARY = frozenset({"", "default", "standard", "auto", "on_demand", "1"})
#: sold by capacity, not by token (Google's and OpenAI's words)
BY_CAPACITY = frozenset({"provisioned_throughput", "provisioned", "scale"})


class Iteration(NamedTuple):
    """One model call inside an Anthropic response, with a model of its own where it had one."""

    kind: str
    model: str | None
    usage: Usage


def objects(raw: Any) -> Iterator[dict[str, Any]]:
    """The usage objects in `usage_raw`: itself, or the members of a list or dict of them."""
    if isinstance(raw, dict):
        yield raw
        yield from (value for value in raw.values() if isinstance(value, dict))
    elif isinstance(raw, list):
        for value in raw:
            yield from objects(value)


def last(raw: Any, *path: str) -> Any:
    """The last value that is not null under `path` in any of the usage objects."""
    found = None
    for usage in objects(raw):
        value: Any = usage
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        found = value if value is not None else found
    return found


def count(value: Any) -> int:
    """A token count as an int: providers send floats too (Titan, Cohere); anything else is 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        return 0
    return int(value)


def tier(service_tier: str | None, raw: Any) -> str:
    """The tier as served, in lower case: the row's, else Gemini's `trafficType` (`ON_DEMAND_FLEX`)."""
    word = service_tier or last(raw, "trafficType")
    word = str(word or "").lower()
    return word.removeprefix("on_demand_") if word.startswith("on_demand_") else word


def cached_modalities(raw: Any) -> dict[str, int] | None:
    """How much of the cache read was audio and images; `None` if nobody told.

    OpenAI Realtime: `input_token_details.cached_tokens_details.audio_tokens`; Gemini: `cacheTokensDetails`.
    """
    for name in ("input_token_details", "input_tokens_details", "prompt_tokens_details"):
        details = last(raw, name, "cached_tokens_details")
        if isinstance(details, dict):
            return {kind: count(details.get(f"{kind}_tokens")) for kind in ("audio", "image")}
    details = last(raw, "cacheTokensDetails")
    if isinstance(details, list):
        told = {"audio": 0, "image": 0}
        for part in details:
            kind = str(part.get("modality")).lower() if isinstance(part, dict) else ""
            if kind in told:
                told[kind] += count(part.get("tokenCount"))
        return told
    return None


def web_searches(raw: Any) -> int:
    """Searches that Anthropic made itself and bills apart (`server_tool_use.web_search_requests`)."""
    return count(last(raw, "server_tool_use", "web_search_requests"))


def audio_seconds(raw: Any) -> Decimal:
    """Seconds of audio in: Whisper's `{"type": "duration", "seconds"}`, Mistral's `prompt_audio_seconds`."""
    seconds = last(raw, "seconds") if last(raw, "type") == "duration" else last(raw, "prompt_audio_seconds")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e9:
        return Decimal(0)
    return Decimal(str(seconds))


def iterations(raw: Any) -> list[Iteration]:
    """Anthropic's `usage.iterations`: `message`, `compaction`, `advisor_message`, `fallback_message`.

    The top level is the sum of the `message` iterations only; compaction and advisor come on top of it
    (anthropic-sdk-python, `beta_usage.py`).
    """
    found = last(raw, "iterations")
    if not isinstance(found, list):
        return []
    return [
        Iteration(str(part.get("type")), model if isinstance(model := part.get("model"), str) else None, _usage(part))
        for part in found
        if isinstance(part, dict)
    ]


def _usage(part: dict[str, Any]) -> Usage:
    read, write = count(part.get("cache_read_input_tokens")), count(part.get("cache_creation_input_tokens"))
    creation = part.get("cache_creation")
    creation = creation if isinstance(creation, dict) else {}
    return Usage(
        input_tokens=count(part.get("input_tokens")) + read + write,
        output_tokens=count(part.get("output_tokens")),
        cache_read_input_tokens=read,
        cache_write_input_tokens=write,
        cache_write_5m_input_tokens=count(creation.get("ephemeral_5m_input_tokens")),
        cache_write_1h_input_tokens=count(creation.get("ephemeral_1h_input_tokens")),
    )
