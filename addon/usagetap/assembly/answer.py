"""What an answer consists of, and the small steps of putting it together."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from usagetap.dialects.base import Json, mapping

_MOST_CHOICES = 128


@dataclass(slots=True)
class ToolCall:
    """A call that the model wants made. `arguments` are pieces of JSON text in the order in which they came."""

    name: str = ""
    call_id: str = ""
    arguments: list[str] = field(default_factory=list)

    @property
    def pretty(self) -> str:
        """The arguments laid out; as they came where they are no JSON (a stream that was cut)."""
        text = "".join(self.arguments)
        try:
            return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            return text


@dataclass(slots=True)
class Choice:
    """One of the answers to a request (there is mostly one)."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    calls: dict[Any, ToolCall] = field(default_factory=dict)
    finish_reason: str | None = None

    def call(self, key: Any) -> ToolCall:
        """The tool call of that index (or id), a new one if there is none."""
        return self.calls.setdefault(key, ToolCall())


@dataclass(slots=True)
class Answer:
    """What a body says."""

    choices: dict[int, Choice] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What is no text: images, vectors, files; a few words each."""
    error: str | None = None

    def choice(self, index: Any = 0) -> Choice:
        """The choice of that index; impossible indices count as the first."""
        usable = isinstance(index, int) and not isinstance(index, bool) and 0 <= index < _MOST_CHOICES
        return self.choices.setdefault(index if usable else 0, Choice())


def items(value: Any) -> list[Any]:
    """`value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def objects(value: Any) -> list[Json]:
    """The members of a list as JSON objects, an empty one in the place of anything else."""
    return [mapping(each) for each in items(value)]


def add(pieces: list[str], value: Any) -> None:
    """One more piece, if `value` is text."""
    if isinstance(value, str) and value:
        pieces.append(value)


def add_arguments(call: ToolCall, value: Any) -> None:
    """A piece of JSON text, or whole arguments as JSON."""
    if isinstance(value, str):
        call.arguments.append(value)
    elif isinstance(value, dict | list):
        call.arguments.append(json.dumps(value, ensure_ascii=False))


def word(value: Any) -> str | None:
    """A provider's word for something (Vertex sends numbers), else `None`."""
    return str(value) if isinstance(value, str | int) and value != "" and not isinstance(value, bool) else None
