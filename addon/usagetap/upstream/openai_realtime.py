"""OpenAI Realtime: the server's events of one response (platform.openai.com/docs/api-reference/realtime-server-events).

Usage stands in `response.done`, whether the response was completed, cancelled or failed.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

from usagetap.upstream.chunks import Chunk, Finish, Reasoning, Text, ToolCall, UsageChunk, error_words
from usagetap.upstream.formats import compact

Event = dict[str, Any]


class Cancelled(Exception):
    """The client's `response.cancel`, raised where the next chunk was due."""


class RealtimeFormat:
    """The events of one response in text. Thinking is not shown. `opening` is what is known of usage from the start,
    for responses that are cancelled."""

    def __init__(self, *, opening: UsageChunk | None = None) -> None:
        self._id = "resp_" + secrets.token_hex(10)
        self._opening = opening
        self._deltas = 0
        self._output: list[Event] = []
        self._said: list[str] = []
        """The pieces of the open message's text."""
        self._speaking = False
        self._usage: UsageChunk | None = None
        self._reason: str | None = None

    def start(self) -> list[Event]:
        """`response.created`."""
        return [self._event("response.created", response=self._response("in_progress", None))]

    def feed(self, chunk: Chunk) -> list[Event]:
        """Output items; finish and usage wait for `response.done`."""
        match chunk:
            case UsageChunk():
                self._usage = chunk
            case Finish(reason):
                self._reason = reason
            case Text(text):
                return [*self._speak(), self._delta(text)]
            case ToolCall():
                return self._call(chunk)
            case Reasoning():
                pass
        return []

    def finish(self) -> list[Event]:
        """The last item's end and `response.done`."""
        status = "incomplete" if self._reason in ("max_output_tokens", "content_filter") else "completed"
        details = {"type": status, "reason": self._reason} if status == "incomplete" else None
        return [*self._silence(), self._done(status, details)]

    def fail(self, error: Exception) -> list[Event]:
        """`response.done` with status `failed`, or `cancelled` with the usage so far."""
        if isinstance(error, Cancelled):
            if self._opening:
                self._usage = replace(self._opening, output_tokens=self._deltas)
            return [*self._silence(), self._done("cancelled", {"type": "cancelled", "reason": "client_cancelled"})]
        message, type_, code = error_words(error)
        told = {"type": type_, "code": code, "message": message}
        return [self._done("failed", {"type": "failed", "error": told})]

    def _response(self, status: str, details: Event | None) -> Event:
        usage = realtime_usage(self._usage) if self._usage else None
        named = {"object": "realtime.response", "id": self._id, "status": status, "status_details": details}
        return {**named, "output": list(self._output), "output_modalities": ["text"], "usage": usage, "metadata": None}

    def _done(self, status: str, details: Event | None) -> Event:
        return self._event("response.done", response=self._response(status, details))

    def _event(self, name: str, /, **fields: Any) -> Event:
        return {"type": name, "event_id": "event_" + secrets.token_hex(10), **fields}

    @property
    def _place(self) -> Event:
        return {"response_id": self._id, "output_index": len(self._output) - 1}

    def _item_event(self, name: str, /, **fields: Any) -> Event:
        return self._event(name, **self._place, item_id=self._output[-1]["id"], **fields)

    def _added(self, item: Event) -> Event:
        self._output.append({"id": "item_" + secrets.token_hex(8), "object": "realtime.item", **item})
        return self._event("response.output_item.added", **self._place, item=dict(self._output[-1]))

    def _item_done(self) -> Event:
        self._output[-1]["status"] = "completed"
        return self._event("response.output_item.done", **self._place, item=self._output[-1])

    def _speak(self) -> list[Event]:
        if self._speaking:
            return []
        self._speaking = True
        added = self._added({"type": "message", "role": "assistant", "status": "in_progress", "content": []})
        self._output[-1]["content"] = [{"type": "output_text", "text": ""}]
        part = {"type": "text", "text": ""}
        return [added, self._item_event("response.content_part.added", content_index=0, part=part)]

    def _delta(self, text: str) -> Event:
        self._deltas += 1
        self._said.append(text)
        return self._item_event("response.output_text.delta", content_index=0, delta=text)

    def _silence(self) -> list[Event]:
        if not self._speaking:
            return []
        self._speaking = False
        text = self._output[-1]["content"][0]["text"] = "".join(self._said)
        self._said.clear()
        return [
            self._item_event("response.output_text.done", content_index=0, text=text),
            self._item_event("response.content_part.done", content_index=0, part={"type": "text", "text": text}),
            self._item_done(),
        ]

    def _call(self, call: ToolCall) -> list[Event]:
        silenced = self._silence()
        arguments = compact(dict(call.arguments))
        item = {"type": "function_call", "call_id": call.id, "name": call.name, "status": "in_progress"}
        added = self._added({**item, "arguments": ""})
        self._output[-1]["arguments"] = arguments
        told = {"call_id": call.id, "name": call.name, "arguments": arguments}
        done = self._item_event("response.function_call_arguments.done", **told)
        return [*silenced, added, done, self._item_done()]


def session(model: str) -> Event:
    """The session object of `session.created` and `session.updated`."""
    named = {"object": "realtime.session", "id": "sess_" + secrets.token_hex(10), "model": model}
    return {"type": "realtime", **named, "output_modalities": ["text"], "instructions": "", "tools": []}


def session_event(name: str, model: str) -> Event:
    """`session.created` or `session.updated`."""
    return {"type": name, "event_id": "event_" + secrets.token_hex(10), "session": session(model)}


def error_event(message: str) -> Event:
    """The `error` event that answers what the server does not understand."""
    error = {"type": "invalid_request_error", "code": None, "message": message, "param": None, "event_id": None}
    return {"type": "error", "event_id": "event_" + secrets.token_hex(10), "error": error}


def realtime_usage(usage: UsageChunk) -> Event:
    """Realtime's usage object; cached tokens are a subset of the input."""
    cached = usage.cache_read_input_tokens or 0
    cached_details = {"text_tokens": cached, "audio_tokens": 0, "image_tokens": 0}
    return {
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "input_token_details": {
            "text_tokens": usage.input_tokens,
            "audio_tokens": 0,
            "image_tokens": 0,
            "cached_tokens": cached,
            "cached_tokens_details": cached_details,
        },
        "output_token_details": {"text_tokens": usage.output_tokens, "audio_tokens": 0},
    }
