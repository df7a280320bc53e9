"""What a model generates, as small values: the input of every formatter of this package.

A generated stream is any iterable of these, sync or async. It knows no provider: how a text piece, a tool call or a
usage count looks on the wire is the business of one formatter per dialect.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer. `choice` counts from 0, for requests with `n` > 1."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of the model's thinking, for the dialects that show it."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One complete tool call. `arguments` is the object itself, never its JSON text."""

    id: str
    name: str
    arguments: Mapping[str, Any]
    choice: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.arguments, Mapping):
            raise TypeError(
                f"arguments of tool call {self.name} must be an object, not {type(self.arguments).__name__}"
            )


@dataclass(frozen=True, slots=True)
class Finish:
    """A choice has ended. Without a `reason` the formatter says `tool_calls` or `stop`, in its dialect's words."""

    reason: str | None = None
    choice: int = 0


@dataclass(frozen=True, slots=True)
class UsageChunk:
    """The token counts, by this project's rules: cached tokens are inside `input_tokens`, reasoning inside
    `output_tokens`. `None` is what the provider does not say. The last one of a stream wins."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    reasoning_output_tokens: int | None = None


Chunk = Text | Reasoning | ToolCall | Finish | UsageChunk
Chunks = Iterable[Chunk] | AsyncIterable[Chunk]


class GenerationError(Exception):
    """What a generated stream raises when the provider itself would name the error: `type` goes into the frame."""

    def __init__(self, message: str, *, type: str = "server_error", code: str | None = None) -> None:
        super().__init__(message)
        self.type = type
        self.code = code


def error_words(error: Exception) -> tuple[str, str, str | None]:
    """Message, type and code of any exception as an error frame tells them; never an empty message."""
    message = str(error) or type(error).__name__
    if isinstance(error, GenerationError):
        return message, error.type, error.code
    return message, "server_error", None


@dataclass(slots=True)
class Turn:
    """One choice of a whole answer."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    tool_calls: list[ToolCall] = field(default_factory=list)
    reason: str | None = None

    @property
    def text(self) -> str:
        """All pieces of the answer."""
        return "".join(self.texts)

    @property
    def reasoning(self) -> str:
        """All pieces of the thinking."""
        return "".join(self.thoughts)


@dataclass(slots=True)
class Whole:
    """A generated stream read to its end, for answers that are not streamed."""

    turns: dict[int, Turn] = field(default_factory=dict)
    usage: UsageChunk | None = None

    def turn(self, choice: int) -> Turn:
        """The turn of that choice, made when it is first seen."""
        return self.turns.setdefault(choice, Turn())

    def add(self, chunk: Chunk) -> None:
        """Fold one chunk in."""
        match chunk:
            case Text(text, choice):
                self.turn(choice).texts.append(text)
            case Reasoning(text, choice):
                self.turn(choice).thoughts.append(text)
            case ToolCall():
                self.turn(chunk.choice).tool_calls.append(chunk)
            case Finish(reason, choice):
                self.turn(choice).reason = reason
            case UsageChunk():
                self.usage = chunk


def gather(chunks: Iterable[Chunk]) -> Whole:
    """Read a generated stream to its end; an exception from it comes through. At least one turn comes back."""
    whole = Whole()
    for chunk in chunks:
        whole.add(chunk)
    whole.turn(0)
    return whole
