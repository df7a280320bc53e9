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


class Reported:
    """What the usage objects of one response say beyond the columns."""

    __slots__ = ("_objects",)

    def __init__(self, raw: Any) -> None:
        """`raw` is a record's `usage_raw`: an object, or a list or dict of them."""
        self._objects = list(_objects(raw))

    def last(self, *path: str) -> Any:
        """The last value that is not null under `path` in any of the objects."""
        found = None
        for usage in self._objects:
            value: Any = usage
            for name in path:
                value = value.get(name) if isinstance(value, dict) else None
            found = value if value is not None else found
        return found

    def tier(self, service_tier: str | None) -> str:
        """The tier as served, in lower case: the row's, else Gemini's `trafficType` (`ON_DEMAND_FLEX`)."""
        word = str(service_tier or self.last("trafficType") or "").lower()
        return word.removeprefix("on_demand_") if word.startswith("on_demand_") else word

    @property
    def cached_modalities(self) -> dict[str, int] | None:
        """How much of the cache read was audio and images; `None` if nobody told.

        OpenAI Realtime: `input_token_details.cached_tokens_details.audio_tokens`; Gemini: `cacheTokensDetails`.
        """
        for name in ("input_token_details", "input_tokens_details", "prompt_tokens_details"):
            details = self.last(name, "cached_tokens_details")
            if isinstance(details, dict):
                return {kind: count(details.get(f"{kind}_tokens")) for kind in ("audio", "image")}
        details = self.last("cacheTokensDetails")
        if not isinstance(details, list):
            return None
        told = {"audio": 0, "image": 0}
        for part in details:
            kind = str(part.get("modality")).lower() if isinstance(part, dict) else ""
            if kind in told:
                told[kind] += count(part.get("tokenCount"))
        return told

    @property
    def web_searches(self) -> int:
        """Searches that Anthropic made itself and bills apart (`server_tool_use.web_search_requests`)."""
        return count(self.last("server_tool_use", "web_search_requests"))

    def billed(self, usage: Usage) -> Usage:
        """`usage`, with what is billed where the provider says so apart from what it counted.

        Cohere's `billed_units` leave out its own preambles and search results: 65 of 508 tokens in one recording.
        https://docs.cohere.com/reference/chat
        """
        units = self.last("billed_units")
        if not isinstance(units, dict) or not {"input_tokens", "output_tokens"} & units.keys():
            return usage
        return Usage(input_tokens=count(units.get("input_tokens")), output_tokens=count(units.get("output_tokens")))

    @property
    def audio_seconds(self) -> Decimal:
        """Seconds of audio in: Whisper's `{"type": "duration", "seconds"}`, Mistral's `prompt_audio_seconds`."""
        seconds = self.last("seconds") if self.last("type") == "duration" else self.last("prompt_audio_seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e9:
            return Decimal(0)
        return Decimal(str(seconds))

    @property
    def iterations(self) -> list[Iteration]:
        """Anthropic's `usage.iterations`: `message`, `compaction`, `advisor_message`, `fallback_message`.

        The top level is the sum of the `message` iterations only; compaction and advisor come on top of it
        (anthropic-sdk-python, `beta_usage.py`).
        """
        found = self.last("iterations")
        if not isinstance(found, list):
            return []
        return [
            Iteration(
                str(part.get("type")), part["model"] if isinstance(part.get("model"), str) else None, _usage(part)
            )
            for part in found
            if isinstance(part, dict)
        ]


def _objects(raw: Any) -> Iterator[dict[str, Any]]:
    if isinstance(raw, dict):
        yield raw
        for value in raw.values():
            if isinstance(value, dict):
                yield value
    elif isinstance(raw, list):
        for value in raw:
            yield from _objects(value)


def count(value: Any) -> int:
    """A token count as an int: providers send floats too (Titan, Cohere); anything else is 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        return 0
    return int(value)


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
