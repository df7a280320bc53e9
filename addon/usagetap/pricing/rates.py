"""Arithmetic of a price: disjoint counts of what is billed, times the rate of each kind. Decimal throughout.

Where a kind has no rate of its own it is billed at a more general one, and a note says so: a price that ignored a
modality must never look like one that did not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from usagetap.model import Usage


class Tiered(NamedTuple):
    """A rate that depends on the size of the whole input: crossing a step reprices everything (the "cliff")."""

    base: Decimal
    steps: tuple[tuple[int, Decimal], ...]
    """Ascending `(more than this many input tokens, rate)`."""

    def at(self, input_tokens: int) -> Decimal:
        """The rate for a request whose whole input is `input_tokens`."""
        rate = self.base
        for start, stepped in self.steps:
            if input_tokens > start:
                rate = stepped
        return rate


Rate = Decimal | Tiered

#: every kind of thing that can have a rate, and how many of it the rate is for
UNIT: dict[str, int] = {
    "input": 1_000_000,
    "cache_read": 1_000_000,
    "cache_write": 1_000_000,
    "cache_write_5m": 1_000_000,
    "cache_write_1h": 1_000_000,
    "output": 1_000_000,
    "reasoning": 1_000_000,
    "audio_in": 1_000_000,
    "audio_out": 1_000_000,
    "audio_cache_read": 1_000_000,
    "image_in": 1_000_000,
    "image_out": 1_000_000,
    "image_cache_read": 1_000_000,
    "request": 1,
    "web_search": 1,
    "audio_second": 1,
}

#: where a kind without a rate is billed instead, and what the note says (`None`: that is how the provider bills it)
INSTEAD: dict[str, tuple[str, str | None]] = {
    "cache_read": ("input", "cache reads at the input rate"),
    "cache_write": ("input", "cache writes at the input rate"),
    "cache_write_5m": ("cache_write", None),
    "cache_write_1h": ("cache_write", "1 h cache writes at the 5 min rate"),
    "reasoning": ("output", None),
    "audio_in": ("input", "audio input at the text rate"),
    "audio_out": ("output", "audio output at the text rate"),
    "audio_cache_read": ("cache_read", "cached audio at the text rate"),
    "image_in": ("input", "image input at the text rate"),
    "image_out": ("output", "image output at the text rate"),
    "image_cache_read": ("cache_read", "cached images at the text rate"),
}


@dataclass(frozen=True, slots=True)
class Rates:
    """What one model costs: a rate per kind (for `UNIT[kind]` of it) in one currency unit."""

    rate: Mapping[str, Rate]
    currency: str = "USD"
    anthropic: bool = False
    """Anthropic's rule holds where the one-hour cache write has no rate: twice the input rate."""

    def of(self, kind: str) -> tuple[Rate | None, str | None]:
        """The rate for `kind`, and a note if it is another kind's; `None` where there is none at all."""
        if kind in self.rate:
            return self.rate[kind], None
        if kind == "cache_write_1h" and self.anthropic and "input" in self.rate:
            # https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing
            return _times(self.rate["input"], 2), "1 h cache writes at twice the input rate"
        if kind not in INSTEAD:
            return None, None
        other, note = INSTEAD[kind]
        rate, deeper = self.of(other)
        return rate, "; ".join(filter(None, (note, deeper))) or None


def _times(rate: Rate, factor: int) -> Rate:
    if isinstance(rate, Tiered):
        return Tiered(rate.base * factor, tuple((start, stepped * factor) for start, stepped in rate.steps))
    return rate * factor


@dataclass(slots=True)
class Counts:
    """Disjoint counts by kind: nothing is in two of them."""

    of: dict[str, int | Decimal] = field(default_factory=dict)
    input_tokens: int = 0
    """The whole input, which decides the tier."""
    notes: list[str] = field(default_factory=list)

    def divide(self, whole: int, parts: list[tuple[str, int]], rest: str) -> None:
        """Take `parts` out of `whole`, one after the other, and count what is left as `rest`.

        Parts that exceed their whole are cut down to it and noted: providers do send them (an OpenRouter error turn
        had 11 reasoning tokens in an output of 10).
        """
        for kind, count in parts:
            taken = min(max(count, 0), whole)
            if taken < count:
                self.notes.append(f"more {kind} than the whole that it is part of")
            self.add(kind, taken)
            whole -= taken
        self.add(rest, whole)

    def add(self, kind: str, count: int | Decimal) -> None:
        """Count `count` more of `kind`."""
        if count:
            self.of[kind] = self.of.get(kind, 0) + count


@dataclass(frozen=True, slots=True)
class Bill:
    """What counts cost at some rates. `cost` is `None` if none of what was counted has a rate."""

    cost: Decimal | None
    notes: tuple[str, ...] = ()


def split(usage: Usage, cached: Mapping[str, int] | None = None) -> Counts:
    """Turn overlapping usage (cached inside input, reasoning inside output) into disjoint counts.

    `cached` says how much of the cache read was `audio` and `image`, where the provider told.
    """
    # Gemini bills the prompts of its own tools as input (https://ai.google.dev/gemini-api/docs/tokens)
    tools = usage.tool_use_input_tokens or 0
    whole = (usage.input_tokens or 0) + tools
    counts = Counts(input_tokens=whole)
    counts.divide(whole, _input_parts(usage, whole, cached, counts), "input")
    output = [
        ("audio_out", usage.audio_output_tokens or 0),
        ("image_out", usage.image_output_tokens or 0),
        ("reasoning", usage.reasoning_output_tokens or 0),
    ]
    counts.divide(usage.output_tokens or 0, output, "output")
    return counts


def _input_parts(usage: Usage, whole: int, cached: Mapping[str, int] | None, counts: Counts) -> list[tuple[str, int]]:
    read, audio, image = (
        count or 0 for count in (usage.cache_read_input_tokens, usage.audio_input_tokens, usage.image_input_tokens)
    )
    if cached is None:
        # nobody told what the cached part was: as little audio as the numbers allow, and a word about it
        cached = {"audio": max(0, read + audio - whole)}
        if read and audio:
            counts.notes.append("cached audio not told apart from cached text")
    audio_read = min(cached.get("audio", 0), audio, read)
    image_read = min(cached.get("image", 0), image, read - audio_read)
    written_5m = usage.cache_write_5m_input_tokens or 0
    written_1h = usage.cache_write_1h_input_tokens or 0
    written = max((usage.cache_write_input_tokens or 0) - written_5m - written_1h, 0)
    return [
        ("audio_cache_read", audio_read),
        ("image_cache_read", image_read),
        ("cache_read", read - audio_read - image_read),
        ("cache_write_5m", written_5m),
        ("cache_write_1h", written_1h),
        ("cache_write", written),
        ("audio_in", audio - audio_read),
        ("image_in", image - image_read),
    ]


def bill(counts: Counts, rates: Rates) -> Bill:
    """Price `counts` at `rates`. What has no rate at all is left out and named in the notes."""
    total, priced = Decimal(0), False
    notes = list(counts.notes)
    for kind, count in {**counts.of, **({"request": 1} if "request" in rates.rate else {})}.items():
        rate, note = rates.of(kind)
        if rate is None:
            notes.append(f"{kind} has no rate")
            continue
        if note:
            notes.append(note)
        each = rate.at(counts.input_tokens) if isinstance(rate, Tiered) else rate
        total += count * each / UNIT[kind]
        priced = True
    if not counts.of and rates.rate:
        priced = True
    return Bill(total if priced else None, tuple(dict.fromkeys(notes)))
