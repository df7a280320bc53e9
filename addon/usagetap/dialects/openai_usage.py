"""Usage in OpenAI's words, which most of the field repeats and adds to."""

from __future__ import annotations

from usagetap.dialects.base import Json, first_integer, integer
from usagetap.model import Usage


def openai_usage(usage: Json) -> Usage:
    """A `usage` object in OpenAI's words, old (`prompt_tokens`) or new (`input_tokens`), and all additions."""
    into = _details(usage, "prompt_tokens", "input_tokens", "input_token", "prompt_token")
    out = _details(usage, "completion_tokens", "output_tokens", "output_token", "completion_token")
    told = Usage(
        input_tokens=first_integer(usage, "prompt_tokens", "input_tokens"),
        output_tokens=first_integer(usage, "completion_tokens", "output_tokens"),
        total_tokens=integer(usage.get("total_tokens")),
        cache_read_input_tokens=_cache_read(usage, into),
        cache_write_input_tokens=_either(into.get("cache_write_tokens"), usage.get("cache_creation_input_tokens")),
        reasoning_output_tokens=_either(out.get("reasoning_tokens"), usage.get("reasoning_tokens")),
        audio_input_tokens=_either(into.get("audio_tokens"), usage.get("audio_prompt_tokens")),
        audio_output_tokens=integer(out.get("audio_tokens")),
        image_input_tokens=integer(into.get("image_tokens")),
        image_output_tokens=integer(out.get("image_tokens")),
        tool_use_input_tokens=integer(usage.get("connector_tokens")),  # Mistral's: beside the prompt, as Gemini's
    )
    _take_in(told, bare=usage.keys() <= _BARE)
    return told


def with_siblings(usage: Json, holder: Json, *names: str) -> Json:
    """`usage` and the objects beside it that count what it leaves out, where they count anything.

    What hosted tools used of other models (`tool_usage`), who drew an SVG (`svg_usage`): openai-python 3.52,
    `types/responses/response.py` and `types/images_response.py`.
    """
    return usage | {name: holder[name] for name in names if _counts(holder.get(name))}


def _counts(value: object, depth: int = 3) -> bool:
    if isinstance(value, dict):
        return depth > 0 and any(_counts(inner, depth - 1) for inner in value.values())
    return bool(integer(value))


def _take_in(told: Usage, *, bare: bool) -> None:
    """Add what stands outside the sums to what it is part of: recognised by arithmetic, not by host.

    Reasoning: xAI's chat API says completion + reasoning = total (recorded 41 times of 41). Audio: Mistral's prompt +
    audio + completion = total (https://docs.mistral.ai/capabilities/audio/). Gemini's OpenAI endpoint is `bare`: it has
    prompt, completion and total only, and what the total has beyond them is thinking, billed as output
    (https://ai.google.dev/gemini-api/docs/thinking; recorded: 35 + 12, total 109).

    A total that is as small as the parts proves nothing: Vercel's gateway leaves Gemini's thinking out of both, and
    there the provider's numbers stand as they are, reasoning larger than the output.
    """
    if told.input_tokens is None or told.output_tokens is None or told.total_tokens is None:
        return
    outside = told.total_tokens - told.input_tokens - told.output_tokens
    if outside <= 0:
        return
    if bare:
        told.reasoning_output_tokens = outside
    if outside == told.reasoning_output_tokens:
        told.output_tokens += outside
    elif outside == told.audio_input_tokens:
        told.input_tokens += outside


_BARE = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})


def _details(usage: Json, *names: str) -> Json:
    """The first detail object that is there and no null (Realtime and Writer say `…_token_details`)."""
    found = (usage.get(f"{name}_details") for name in names)
    return next((each for each in found if isinstance(each, dict)), {})


def _cache_read(usage: Json, into: Json) -> int | None:
    """Cached input under its many names: OpenAI, DeepSeek, Moonshot and Together, Mistral, Databricks and Vercel."""
    inside = integer(into.get("cached_tokens"))
    if inside is not None:
        return inside
    return first_integer(
        usage, "prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens", "cache_read_input_tokens"
    )


def _either(first: object, second: object) -> int | None:
    """The first of two places in which a count stands."""
    count = integer(first)
    return integer(second) if count is None else count
