"""A generated stream as a `Behaviour` describes it: deterministic words of several scripts, tools, usage, an error."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat

from usagetap.upstream.behaviour import Behaviour
from usagetap.upstream.chunks import Chunk, Finish, GenerationError, Reasoning, Text, ToolCall, UsageChunk

#: letters of one to four bytes, so that cuts fall inside characters; quotes and line ends, so that JSON must escape
WORDS = ("Water ", "boils ", "at ", "100 °C, ", "größer ", "日本語 ", "🙂 ", '"so" ', "\n", "it is. ")


def generate(behaviour: Behaviour, choices: int = 1) -> Iterator[Chunk]:
    """Yield what the model says: thinking, text, tool calls, a finish for each choice, and at the end the usage."""
    for number, chunk in enumerate(_spoken(behaviour, choices)):
        if number == behaviour.error:
            break
        yield chunk
    if behaviour.error is not None:
        raise GenerationError("The server had an error while generating. Sorry about that!", type="server_error")
    for choice in range(choices):
        yield Finish(behaviour.finish, choice)
    if not behaviour.no_usage:
        yield usage_of(behaviour, choices)


def _spoken(behaviour: Behaviour, choices: int) -> Iterator[Chunk]:
    for choice in range(choices):
        thoughts = (Reasoning(word, choice) for word in _words(behaviour.reasoning, behaviour.size))
        texts = (Text(word, choice) for word in _words(behaviour.chunks, behaviour.size))
        calls = (
            ToolCall(f"call_{choice}_{number}", "get_weather", {"city": "Zürich", "days": number + 1}, choice)
            for number in range(behaviour.tools)
        )
        yield from chain(thoughts, texts, calls)


def _words(count: int, size: int) -> Iterator[str]:
    if size:
        return repeat("x" * size, count)
    return (WORDS[number % len(WORDS)] for number in range(count))


def usage_of(behaviour: Behaviour, choices: int = 1) -> UsageChunk:
    """The numbers: as told, else one output token per piece."""
    pieces = (behaviour.reasoning + behaviour.chunks + behaviour.tools) * choices
    return UsageChunk(
        input_tokens=behaviour.input,
        output_tokens=pieces if behaviour.output is None else behaviour.output,
        cache_read_input_tokens=behaviour.cached,
        cache_write_input_tokens=behaviour.written,
        reasoning_output_tokens=behaviour.reasoning * choices,
    )
