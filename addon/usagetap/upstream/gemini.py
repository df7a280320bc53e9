"""Gemini `generateContent` and `streamGenerateContent` (ai.google.dev/api/generate-content).

A stream is SSE with CR LF where `alt=sse` asks for it, else a JSON array that arrives piece by piece. Every chunk
carries `usageMetadata`, the last one the whole truth. Google's `candidatesTokenCount` leaves the thoughts out.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator
from typing import Any

from usagetap.upstream.chunks import Chunk, Finish, Reasoning, Text, ToolCall, UsageChunk, error_words, gather
from usagetap.upstream.formats import frames, sse, without_none

Payload = dict[str, Any]

#: google.rpc.Code names by HTTP status (cloud.google.com/apis/design/errors)
STATUS_NAMES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
STATUS_NAMES |= {429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}


class ContentFormat:
    """The `GenerateContentResponse`s of a stream. `opening` is what is known of usage from the start."""

    def __init__(self, *, model: str, opening: UsageChunk | None = None, response_id: str | None = None) -> None:
        self._named = {"modelVersion": model, "responseId": response_id or secrets.token_urlsafe(16)}
        self._opening = opening
        self._usage: UsageChunk | None = None
        self._reasons: dict[int, str | None] = {}

    def start(self) -> list[Payload]:
        """Nothing: the first payload is due with the first chunk."""
        return []

    def feed(self, chunk: Chunk) -> list[Payload]:
        """One payload per part; finish and usage wait for the last payload."""
        match chunk:
            case UsageChunk():
                self._usage = chunk
            case Finish(reason, choice):
                self._reasons[choice] = reason
            case Text() | Reasoning() | ToolCall():
                self._reasons.setdefault(chunk.choice, None)
                return [self._payload([candidate(chunk.choice, [part(chunk)])], _opening_usage(self._opening))]
        return []

    def finish(self) -> list[Payload]:
        """The last payload: a finish reason for each candidate, and the usage."""
        reasons = self._reasons or {0: None}
        candidates = [candidate(choice, [{"text": ""}], reason or "STOP") for choice, reason in sorted(reasons.items())]
        return [self._payload(candidates, usage_metadata(self._usage) if self._usage else None)]

    def fail(self, error: Exception) -> list[Payload]:
        """Google's error object in place of a payload."""
        return [error_body(error)]

    def _payload(self, candidates: list[Payload], usage: Payload | None) -> Payload:
        return {"candidates": candidates, **without_none(usageMetadata=usage), **self._named}


def content_stream(chunks: Iterable[Chunk], *, model: str, opening: UsageChunk | None = None) -> Iterator[Payload]:
    """Format generated chunks as the payloads of a stream."""
    return frames(ContentFormat(model=model, opening=opening), chunks)


def as_sse(payloads: Iterable[Payload]) -> Iterator[bytes]:
    """Payloads as `alt=sse` has them: data alone, lines ended by CR LF, no `[DONE]`."""
    return (sse(payload).replace(b"\n", b"\r\n") for payload in payloads)


def as_array(payloads: Iterable[Payload]) -> Iterator[bytes]:
    """Payloads as one pretty-printed JSON array, an element at a time."""
    before = "["
    for payload in payloads:
        yield (before + json.dumps(payload, indent=2, ensure_ascii=False) + "\n").encode()
        before = ",\r\n"
    yield b"]" if before != "[" else b"[]"


def whole_content(chunks: Iterable[Chunk], *, model: str) -> Payload:
    """The answer of `generateContent`. An exception from `chunks` comes through."""
    whole = gather(chunks)
    candidates = []
    for index, turn in sorted(whole.turns.items()):
        pieces: list[Chunk] = [Reasoning(turn.reasoning)] if turn.reasoning else []
        pieces += [Text(turn.text)] if turn.text else []
        parts = [part(piece) for piece in (*pieces, *turn.tool_calls)]
        candidates.append(candidate(index, parts, turn.reason or "STOP"))
    usage = usage_metadata(whole.usage) if whole.usage else None
    named = {"modelVersion": model, "responseId": secrets.token_urlsafe(16)}
    return {"candidates": candidates, **without_none(usageMetadata=usage), **named}


def candidate(index: int, parts: list[Payload], reason: str | None = None) -> Payload:
    """One candidate, unfinished without a reason."""
    return {"content": {"parts": parts, "role": "model"}, **without_none(finishReason=reason), "index": index}


def part(chunk: Chunk) -> Payload:
    """A piece of content; what is none raises TypeError."""
    match chunk:
        case Text(text):
            return {"text": text}
        case Reasoning(text):
            return {"text": text, "thought": True}
        case ToolCall():
            return {"functionCall": {"id": chunk.id, "name": chunk.name, "args": dict(chunk.arguments)}}
    raise TypeError(f"{type(chunk).__name__} is no part of a content")


def usage_metadata(usage: UsageChunk) -> Payload:
    """Google's `UsageMetadata`: thoughts beside the candidates' tokens, not among them."""
    thoughts = usage.reasoning_output_tokens or 0
    details = [{"modality": "TEXT", "tokenCount": usage.input_tokens}]
    return {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": usage.output_tokens - thoughts,
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
        **without_none(cachedContentTokenCount=usage.cache_read_input_tokens or None),
        "promptTokensDetails": details,
        **without_none(thoughtsTokenCount=thoughts or None),
    }


def _opening_usage(usage: UsageChunk | None) -> Payload | None:
    if usage is None:
        return None
    count = usage.input_tokens
    return {"promptTokenCount": count, "candidatesTokenCount": 1, "totalTokenCount": count + 1}


def error_body(error: Exception, status: int = 500) -> Payload:
    """Google's error object, in a stream or as a whole body."""
    message, _, _ = error_words(error)
    return {"error": {"code": status, "message": message, "status": STATUS_NAMES.get(status, "UNKNOWN")}}
