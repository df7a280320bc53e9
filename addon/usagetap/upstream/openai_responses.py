"""OpenAI Responses: the events of a stream (SSE and WebSocket carry the same ones); the last one has the whole object.

Shapes as in openai-python's `types/responses/`. Usage stands in the terminal event alone; there is no `[DONE]`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator
from typing import Any

from usagetap.upstream.chunks import Chunk, Finish, Reasoning, Text, ToolCall, UsageChunk, error_words
from usagetap.upstream.formats import compact, frames, sse, without_none

Event = dict[str, Any]

#: reasons that make a response `incomplete` (types/responses/response.py, IncompleteDetails)
INCOMPLETE = ("max_output_tokens", "content_filter")


class ResponseFormat:
    """The events of one response. `stream_id` is echoed on each of them (Responses over WebSocket)."""

    def __init__(self, *, model: str, response_id: str | None = None, stream_id: str | None = None) -> None:
        self._stream_id = stream_id
        self._number = -1
        self._usage: UsageChunk | None = None
        self._reason: str | None = None
        self._output: list[Event] = []
        self._said: list[str] = []
        """The pieces of the open item's text."""
        self._open: type | None = None
        """What kind of chunk the last item of the output still takes."""
        self._response: Event = {
            "id": response_id or "resp_" + secrets.token_hex(16),
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": model,
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
        }

    def start(self) -> list[Event]:
        """`response.created` and `response.in_progress`, without usage."""
        return [self._event(name, response=self.response()) for name in ("response.created", "response.in_progress")]

    def feed(self, chunk: Chunk) -> list[Event]:
        """Output items; finish and usage wait for the terminal event."""
        match chunk:
            case UsageChunk():
                self._usage = chunk
            case Finish(reason):
                self._reason = reason
            case Text(text):
                return [*self._begin(Text), self._text_delta(text)]
            case Reasoning(text):
                return [*self._begin(Reasoning), self._summary_delta(text)]
            case ToolCall():
                return self._call(chunk)
        return []

    def finish(self) -> list[Event]:
        """The last item's end and `response.completed` or `response.incomplete`, with usage."""
        closed = self._close()
        incomplete = self._reason in INCOMPLETE
        details = {"reason": self._reason} if incomplete else None
        status = "incomplete" if incomplete else "completed"
        return [*closed, self._terminal(status, incomplete_details=details)]

    def fail(self, error: Exception) -> list[Event]:
        """`error`, then `response.failed`."""
        message, type_, code = error_words(error)
        told = {"code": code or type_, "message": message}
        return [self._event("error", **told, param=None), self._terminal("failed", error=told)]

    def response(self, **changes: Any) -> Event:
        """The response object as it stands."""
        usage = response_usage(self._usage) if self._usage else None
        return {**self._response, "output": list(self._output), "usage": usage, **changes}

    def _terminal(self, status: str, **changes: Any) -> Event:
        return self._event(f"response.{status}", response=self.response(status=status, **changes))

    def _event(self, name: str, /, **fields: Any) -> Event:
        self._number += 1
        stream = without_none(stream_id=self._stream_id)
        return {"type": name, "sequence_number": self._number, **stream, **fields}

    @property
    def _item(self) -> Event:
        return self._output[-1]

    def _place(self) -> Event:
        """Where a part's events happen."""
        index = {"summary_index": 0} if self._item["type"] == "reasoning" else {"content_index": 0}
        return {"item_id": self._item["id"], "output_index": len(self._output) - 1, **index}

    def _added(self, item: Event) -> Event:
        self._output.append(item)
        return self._event("response.output_item.added", output_index=len(self._output) - 1, item=dict(item))

    def _done(self) -> Event:
        self._item["status"] = "completed"
        return self._event("response.output_item.done", output_index=len(self._output) - 1, item=self._item)

    def _begin(self, kind: type) -> list[Event]:
        if self._open is kind:
            return []
        closed = self._close()
        self._open = kind
        if kind is Text:
            item = {"type": "message", "role": "assistant", "content": [], "status": "in_progress"}
            added = self._added({"id": "msg_" + secrets.token_hex(12), **item})
            self._item["content"] = [{"type": "output_text", "annotations": [], "text": ""}]
            part = self._event("response.content_part.added", **self._place(), part=dict(self._item["content"][0]))
        else:
            added = self._added({"id": "rs_" + secrets.token_hex(12), "type": "reasoning", "summary": []})
            self._item["summary"] = [{"type": "summary_text", "text": ""}]
            begun = dict(self._item["summary"][0])
            part = self._event("response.reasoning_summary_part.added", **self._place(), part=begun)
        return [*closed, added, part]

    def _text_delta(self, text: str) -> Event:
        self._said.append(text)
        return self._event("response.output_text.delta", **self._place(), delta=text, logprobs=[])

    def _summary_delta(self, text: str) -> Event:
        self._said.append(text)
        return self._event("response.reasoning_summary_text.delta", **self._place(), delta=text)

    def _close(self) -> list[Event]:
        if self._open is None:
            return []
        name, part_name = "output_text", "content_part"
        part = self._item.get("content", [None])[0]
        if self._open is Reasoning:
            name, part_name = "reasoning_summary_text", "reasoning_summary_part"
            part = self._item["summary"][0]
        self._open = None
        part["text"] = "".join(self._said)
        self._said.clear()
        place = self._place()
        logprobs: Event = {"logprobs": []} if name == "output_text" else {}
        return [
            self._event(f"response.{name}.done", **place, text=part["text"], **logprobs),
            self._event(f"response.{part_name}.done", **place, part=part),
            self._done(),
        ]

    def _call(self, call: ToolCall) -> list[Event]:
        closed = self._close()
        item = {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": ""}
        added = self._added({"id": "fc_" + secrets.token_hex(12), **item, "status": "in_progress"})
        place = {"item_id": self._item["id"], "output_index": len(self._output) - 1}
        arguments = compact(dict(call.arguments))
        self._item["arguments"] = arguments
        delta = self._event("response.function_call_arguments.delta", **place, delta=arguments)
        done = self._event("response.function_call_arguments.done", **place, name=call.name, arguments=arguments)
        return [*closed, added, delta, done, self._done()]


def response_events(chunks: Iterable[Chunk], *, model: str, stream_id: str | None = None) -> Iterator[Event]:
    """Format generated chunks as the events of a response, ending in its terminal event."""
    return frames(ResponseFormat(model=model, stream_id=stream_id), chunks)


def response_frames(events: Iterable[Event], *, send_terminal: bool = True) -> Iterator[bytes]:
    """Events as server-sent events."""
    for event in events:
        if send_terminal or event["type"] not in TERMINAL:
            yield sse(event, event["type"])


TERMINAL = ("response.completed", "response.incomplete", "response.failed")


def response_usage(usage: UsageChunk) -> dict[str, Any]:
    """OpenAI's `ResponseUsage`."""
    told = without_none(cache_write_tokens=usage.cache_write_input_tokens)
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cache_read_input_tokens or 0, **told},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_output_tokens or 0},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
