"""OpenAI Chat Completions and legacy Completions, streamed and whole.

Shapes as in openai-python's `types/chat/chat_completion_chunk.py` and `types/completion.py`. With
`stream_options.include_usage`, OpenAI puts `"usage":null` on every chunk and the numbers on one more chunk with empty
`choices`; without it, the key does not occur (platform.openai.com/docs/api-reference/chat/create).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from usagetap.upstream.chunks import (
    Chunk,
    Chunks,
    Finish,
    Reasoning,
    Text,
    ToolCall,
    Turn,
    UsageChunk,
    error_words,
    gather,
)
from usagetap.upstream.formats import async_frames, compact, frames, sse, without_none

DONE = sse("[DONE]")


class ChatFormat:
    """`chat.completion.chunk` frames. One id and one creation time for the whole stream."""

    object = "chat.completion.chunk"
    id_prefix = "chatcmpl-"

    def __init__(
        self,
        *,
        model: str,
        include_usage: bool = False,
        response_id: str | None = None,
        created: int | None = None,
        send_done: bool = True,
    ) -> None:
        self.include_usage = include_usage
        self.send_done = send_done
        self._envelope = {
            "id": response_id or self.id_prefix + secrets.token_hex(12),
            "object": self.object,
            "created": int(time.time()) if created is None else created,
            "model": model,
        }
        self._calls: dict[int, int] = {}
        """Per choice that has begun: how many tool calls it made."""
        self._finished: set[int] = set()
        self._usage: UsageChunk | None = None

    def start(self) -> list[bytes]:
        """Nothing: the first frame is due with the first chunk."""
        return []

    def feed(self, chunk: Chunk) -> list[bytes]:
        """The chunk's frame, after the frame that opens its choice; usage waits for the end."""
        if isinstance(chunk, UsageChunk):
            self._usage = chunk
            return []
        opening = self._open(chunk.choice)
        if isinstance(chunk, Finish):
            return [*opening, self._close(chunk.choice, chunk.reason)]
        return [*opening, self._frame(self._choice(chunk))]

    def finish(self) -> list[bytes]:
        """Finish reasons that are still missing, the usage frame if it was asked for and is known, `[DONE]`."""
        last = self._open(0) if not self._calls else []
        last += [self._close(choice, None) for choice in sorted(self._calls) if choice not in self._finished]
        if self.include_usage and self._usage is not None:
            last.append(sse({**self._envelope, "choices": [], "usage": openai_usage(self._usage)}))
        return [*last, DONE] if self.send_done else last

    def fail(self, error: Exception) -> list[bytes]:
        """An `error` frame; the stream then ends without `[DONE]`."""
        return [sse(error_body(error))]

    def _open(self, choice: int) -> list[bytes]:
        """The frame that names the role, once per choice."""
        if choice in self._calls:
            return []
        self._calls[choice] = 0
        return [self._frame(self._delta(choice, {"role": "assistant", "content": ""}))]

    def _close(self, choice: int, reason: str | None) -> bytes:
        self._finished.add(choice)
        return self._frame(self._delta(choice, {}, reason or finish_reason(self._calls[choice])))

    def _choice(self, chunk: Text | Reasoning | ToolCall) -> dict[str, Any]:
        match chunk:
            case Text(text, choice):
                return self._delta(choice, {"content": text})
            case Reasoning(text, choice):
                # OpenAI hides it; DeepSeek's name, which vLLM, xAI and OpenRouter took over
                return self._delta(choice, {"reasoning_content": text})
            case ToolCall():
                index = self._calls[chunk.choice]
                self._calls[chunk.choice] += 1
                return self._delta(chunk.choice, {"tool_calls": [{"index": index, **tool_call(chunk)}]})

    @staticmethod
    def _delta(choice: int, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {"index": choice, "delta": delta, "logprobs": None, "finish_reason": reason}

    def _frame(self, choice: dict[str, Any]) -> bytes:
        payload = {**self._envelope, "choices": [choice]}
        return sse({**payload, "usage": None} if self.include_usage else payload)


class CompletionFormat(ChatFormat):
    """Legacy `text_completion` frames: text alone, without roles, thinking or tools."""

    object = "text_completion"
    id_prefix = "cmpl-"

    def _open(self, choice: int) -> list[bytes]:
        self._calls.setdefault(choice, 0)
        return []

    def _choice(self, chunk: Text | Reasoning | ToolCall) -> dict[str, Any]:
        if not isinstance(chunk, Text):
            raise TypeError(f"a text completion has no place for {type(chunk).__name__}")
        return self._delta(chunk.choice, {"content": chunk.text})

    @staticmethod
    def _delta(choice: int, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {"text": delta.get("content", ""), "index": choice, "logprobs": None, "finish_reason": reason}


def format_chat(chunks: Iterable[Chunk], *, model: str, include_usage: bool = False, **more: Any) -> Iterator[bytes]:
    """Format generated chunks as an OpenAI chat stream, one item per SSE frame, ending in `data: [DONE]`.

    `include_usage` is what the request said in `stream_options`. An exception from `chunks` becomes an `error` frame
    and no `[DONE]`. `more`: `response_id`, `created` (seconds since the epoch), `send_done`.
    """
    return frames(ChatFormat(model=model, include_usage=include_usage, **more), chunks)


def format_chat_async(chunks: Chunks, *, model: str, include_usage: bool = False, **more: Any) -> AsyncIterator[bytes]:
    """`format_chat` for an async (or sync) iterable of chunks."""
    return async_frames(ChatFormat(model=model, include_usage=include_usage, **more), chunks)


def format_completion(
    chunks: Iterable[Chunk], *, model: str, include_usage: bool = False, **more: Any
) -> Iterator[bytes]:
    """`format_chat` for the legacy Completions API."""
    return frames(CompletionFormat(model=model, include_usage=include_usage, **more), chunks)


def chat_completion(chunks: Iterable[Chunk], *, model: str, response_id: str | None = None) -> dict[str, Any]:
    """The whole answer of a request that did not stream. An exception from `chunks` comes through."""

    def choice(turn: Turn) -> dict[str, Any]:
        calls = [tool_call(call) for call in turn.tool_calls]
        message = {"role": "assistant", "content": turn.text or (None if calls else ""), "refusal": None}
        extra = without_none(reasoning_content=turn.reasoning or None, tool_calls=calls or None)
        return {"message": message | extra}

    return _whole(chunks, "chat.completion", model, response_id or "chatcmpl-" + secrets.token_hex(12), choice)


def text_completion(chunks: Iterable[Chunk], *, model: str, response_id: str | None = None) -> dict[str, Any]:
    """`chat_completion` for the legacy Completions API."""

    def choice(turn: Turn) -> dict[str, Any]:
        if turn.tool_calls or turn.thoughts:
            raise TypeError("a text completion has no place for tool calls or thinking")
        return {"text": turn.text}

    return _whole(chunks, "text_completion", model, response_id or "cmpl-" + secrets.token_hex(12), choice)


def _whole(chunks: Iterable[Chunk], object: str, model: str, response_id: str, choice: Any) -> dict[str, Any]:
    whole = gather(chunks)
    choices = [
        {"index": index, **choice(turn), "logprobs": None}
        | {"finish_reason": turn.reason or finish_reason(len(turn.tool_calls))}
        for index, turn in sorted(whole.turns.items())
    ]
    envelope = {"id": response_id, "object": object, "created": int(time.time()), "model": model, "choices": choices}
    return envelope | without_none(usage=openai_usage(whole.usage) if whole.usage else None)


def finish_reason(tool_calls: int) -> str:
    """The reason of a choice that named none, from how many tool calls it made."""
    return "tool_calls" if tool_calls else "stop"


def tool_call(call: ToolCall) -> dict[str, Any]:
    """A tool call as messages and deltas carry it: its arguments as one JSON string."""
    function = {"name": call.name, "arguments": compact(dict(call.arguments))}
    return {"id": call.id, "type": "function", "function": function}


def openai_usage(usage: UsageChunk) -> dict[str, Any]:
    """OpenAI's `CompletionUsage`; cached and reasoning tokens are subsets there as here."""
    prompt = without_none(
        cached_tokens=usage.cache_read_input_tokens, cache_write_tokens=usage.cache_write_input_tokens
    )
    completion = without_none(reasoning_tokens=usage.reasoning_output_tokens)
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        **without_none(prompt_tokens_details=prompt or None, completion_tokens_details=completion or None),
    }


def error_body(error: Exception) -> dict[str, Any]:
    """OpenAI's error object, in a frame or as a whole body."""
    message, type_, code = error_words(error)
    return {"error": {"message": message, "type": type_, "param": None, "code": code}}
