"""Anthropic's messages: whole, and by content blocks."""

from __future__ import annotations

from collections.abc import Callable

from usagetap.assembly.answer import Choice, add, add_arguments, items, word
from usagetap.assembly.openai import part
from usagetap.dialects.base import Json, mapping


def _whole_message(choice: Choice, message: Json) -> None:
    for block in items(message.get("content")):
        part(choice, block)
    choice.finish_reason = word(message.get("stop_reason")) or choice.finish_reason


def _block_start(choice: Choice, payload: Json) -> None:
    block = mapping(payload.get("content_block"))
    if str(block.get("type", "")).endswith("tool_use"):
        call = choice.call(payload.get("index", 0))
        call.name, call.call_id = str(block.get("name") or ""), str(block.get("id") or "")
        if block.get("input"):
            add_arguments(call, block["input"])
    else:
        part(choice, block)


def _block_delta(choice: Choice, payload: Json) -> None:
    delta = mapping(payload.get("delta"))
    add(choice.text, delta.get("text"))
    add(choice.reasoning, delta.get("thinking"))
    if "partial_json" in delta:
        add_arguments(choice.call(payload.get("index", 0)), delta["partial_json"])


def _message_delta(choice: Choice, payload: Json) -> None:
    choice.finish_reason = word(mapping(payload.get("delta")).get("stop_reason")) or choice.finish_reason


def event(choice: Choice, kind: str, payload: Json) -> bool:
    """Take an event in, or a whole message; false if it is none of Anthropic's."""
    take = _EVENTS.get(kind)
    if take is not None:
        take(choice, payload)
    return take is not None or kind in ("message_start", "message_stop", "content_block_stop", "ping")


_EVENTS: dict[str, Callable[[Choice, Json], None]] = {
    "message": _whole_message,
    "content_block_start": _block_start,
    "content_block_delta": _block_delta,
    "message_delta": _message_delta,
}
