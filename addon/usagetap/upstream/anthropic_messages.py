"""Anthropic Messages, streamed and whole (docs.anthropic.com/en/api/messages-streaming).

Anthropic's `input_tokens` leaves cached tokens out, unlike ours. `message_start` tells the input and a placeholder of
the output; `message_delta` repeats the input and brings the final output.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from typing import Any

from usagetap.upstream.chunks import (
    Chunk,
    Finish,
    Reasoning,
    Text,
    ToolCall,
    UsageChunk,
    error_words,
    gather,
)
from usagetap.upstream.formats import compact, frames, sse, without_none

Event = dict[str, Any]


class MessageFormat:
    """The events of one message. `opening` is what is known of usage when the message starts."""

    def __init__(self, *, model: str, opening: UsageChunk | None = None, message_id: str | None = None) -> None:
        self._model = model
        self._id = message_id or new_id()
        self._opening = opening
        self._usage: UsageChunk | None = None
        self._reason: str | None = None
        self._calls = 0
        self._index = -1
        self._open: type | None = None
        """What kind of chunk the open content block takes."""

    def start(self) -> list[Event]:
        """`message_start` and the first `ping`."""
        opening = {"message": message(self._model, self._id, [], None, _opening_usage(self._opening))}
        return [{"type": "message_start", **opening}, {"type": "ping"}]

    def feed(self, chunk: Chunk) -> list[Event]:
        """Content blocks; finish and usage wait for `message_delta`."""
        match chunk:
            case UsageChunk():
                self._usage = chunk
            case Finish(reason):
                self._reason = reason
            case Text(text):
                block = {"type": "text", "text": ""}
                return [*self._block(Text, block), self._delta({"type": "text_delta", "text": text})]
            case Reasoning(text):
                block = {"type": "thinking", "thinking": "", "signature": ""}
                return [*self._block(Reasoning, block), self._delta({"type": "thinking_delta", "thinking": text})]
            case ToolCall():
                return self._tool_use(chunk)
        return []

    def finish(self) -> list[Event]:
        """The last block's end, `message_delta` with the final usage, `message_stop`."""
        delta = {"stop_reason": self._reason or stop_reason(self._calls), "stop_sequence": None}
        usage = final_usage(self._usage) if self._usage else {"output_tokens": 0}
        return [*self._close(), {"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]

    def fail(self, error: Exception) -> list[Event]:
        """An `error` event; nothing follows it."""
        return [error_body(error)]

    def _block(self, kind: type, block: Event) -> list[Event]:
        if self._open is kind:
            return []
        closed = self._close()
        self._open = kind
        self._index += 1
        return [*closed, {"type": "content_block_start", "index": self._index, "content_block": block}]

    def _tool_use(self, call: ToolCall) -> list[Event]:
        self._calls += 1
        started = self._block(ToolCall, {"type": "tool_use", "id": call.id, "name": call.name, "input": {}})
        delta = self._delta({"type": "input_json_delta", "partial_json": compact(dict(call.arguments))})
        return [*started, delta, *self._close()]

    def _delta(self, delta: Event) -> Event:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _close(self) -> list[Event]:
        if self._open is None:
            return []
        signed = [self._delta({"type": "signature_delta", "signature": "c2lnbmVk"})] if self._open is Reasoning else []
        self._open = None
        return [*signed, {"type": "content_block_stop", "index": self._index}]


def format_messages(
    chunks: Iterable[Chunk], *, model: str, opening: UsageChunk | None = None, send_stop: bool = True
) -> Iterator[bytes]:
    """Format generated chunks as an Anthropic stream, one item per event, ending in `message_stop`."""
    for event in frames(MessageFormat(model=model, opening=opening), chunks):
        if send_stop or event["type"] != "message_stop":
            yield sse(event, event["type"])


def whole_message(chunks: Iterable[Chunk], *, model: str) -> dict[str, Any]:
    """The message of a request that did not stream. An exception from `chunks` comes through."""
    whole = gather(chunks)
    turn = whole.turn(0)
    content: list[Event] = []
    if turn.reasoning:
        content.append({"type": "thinking", "thinking": turn.reasoning, "signature": "c2lnbmVk"})
    if turn.text:
        content.append({"type": "text", "text": turn.text})
    content += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": dict(call.arguments)}
        for call in turn.tool_calls
    ]
    usage = final_usage(whole.usage) if whole.usage else {"input_tokens": 0, "output_tokens": 0}
    return message(model, new_id(), content, turn.reason or stop_reason(len(turn.tool_calls)), usage)


def message(model: str, id: str, content: list[Event], stop_reason: str | None, usage: Event) -> dict[str, Any]:
    """A message object, begun or whole."""
    named = {"id": id, "type": "message", "role": "assistant", "model": model, "content": content}
    return {**named, "stop_reason": stop_reason, "stop_sequence": None, "usage": usage}


def new_id() -> str:
    """A message id."""
    return "msg_" + secrets.token_hex(12)


def stop_reason(tool_calls: int) -> str:
    """The reason of a message that named none."""
    return "tool_use" if tool_calls else "end_turn"


def final_usage(usage: UsageChunk) -> dict[str, Any]:
    """Anthropic's usage object, in its own arithmetic: input, cache read and cache write apart."""
    read, written = usage.cache_read_input_tokens or 0, usage.cache_write_input_tokens or 0
    details = without_none(thinking_tokens=usage.reasoning_output_tokens or None)
    return {
        "input_tokens": usage.input_tokens - read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": usage.output_tokens,
        **without_none(output_tokens_details=details or None),
    }


def _opening_usage(usage: UsageChunk | None) -> dict[str, Any]:
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 1}
    split = {"ephemeral_5m_input_tokens": usage.cache_write_input_tokens or 0, "ephemeral_1h_input_tokens": 0}
    told = final_usage(usage) | {"output_tokens": 1, "cache_creation": split, "service_tier": "standard"}
    told.pop("output_tokens_details", None)
    return told


def error_body(error: Exception) -> dict[str, Any]:
    """Anthropic's error object, as an event or as a whole body."""
    text, type_, _ = error_words(error)
    named = "api_error" if type_ == "server_error" else type_
    return {"type": "error", "error": {"type": named, "message": text}, "request_id": "req_" + secrets.token_hex(8)}
