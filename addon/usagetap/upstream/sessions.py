"""What is said on a WebSocket: Responses over WebSocket, OpenAI Realtime, and recorded sessions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from usagetap.upstream import openai_realtime
from usagetap.upstream.behaviour import Behaviour, parse_behaviour, split_model
from usagetap.upstream.chunks import Chunk
from usagetap.upstream.formats import frames
from usagetap.upstream.generate import generate, usage_of
from usagetap.upstream.openai_realtime import Cancelled, RealtimeFormat
from usagetap.upstream.openai_responses import response_events
from usagetap.upstream.ws_server import Message, Turn


class ResponsesSession:
    """Responses over WebSocket: each `response.create` makes one response; different `stream_id`s interleave, the
    same one waits its turn (developers.openai.com/api/docs/guides/websocket-mode)."""

    def __init__(self, how: Behaviour) -> None:
        self._how = how

    def greet(self) -> Turn:
        """Nothing: the client speaks first."""
        return Turn(())

    def receive(self, text: str | bytes) -> Turn:
        """Events of the response; an `error` for what is no `response.create`."""
        try:
            asked = _object(text)
            if asked.get("type") != "response.create":
                raise ValueError(f"Invalid value: {asked.get('type')!r}. Supported values are: 'response.create'.")
            model, words = split_model(str(asked.get("model", "fake-model")))
            how = parse_behaviour(words, self._how)
        except ValueError as error:
            told = {"type": "invalid_request_error", "code": "invalid_value", "message": str(error)}
            return Turn([{"type": "error", "status": 400, "error": told}])
        lane = asked.get("stream_id")
        stream_id = lane if isinstance(lane, str) else None
        return Turn(response_events(generate(how), model=model, stream_id=stream_id), stream_id or "", how)


class RealtimeSession:
    """OpenAI Realtime in text: session, conversation items, responses, cancellation."""

    def __init__(self, model: str, how: Behaviour) -> None:
        self._model = model
        self._how = how
        self._cancelled = False

    def greet(self) -> Turn:
        """`session.created`."""
        return Turn([openai_realtime.session_event("session.created", self._model)])

    def receive(self, text: str | bytes) -> Turn | None:
        """What each of the client's events is answered with."""
        try:
            asked = _object(text)
        except ValueError as error:
            return Turn([openai_realtime.error_event(str(error))])
        match asked.get("type"):
            case "session.update":
                return Turn([openai_realtime.session_event("session.updated", self._model)])
            case "conversation.item.create":
                said = {"object": "realtime.item", "id": "item_client", "status": "completed"}
                item = said | (asked.get("item") or {})
                return Turn([{"type": "conversation.item.added", "previous_item_id": None, "item": item}])
            case "response.create":
                self._cancelled = False
                format = RealtimeFormat(opening=usage_of(self._how))
                told: Iterator[dict[str, Any]] = frames(format, self._until_cancelled())
                return Turn(told, "responses", self._how)
            case "response.cancel":
                self._cancelled = True
                return None
            case "input_audio_buffer.append" | "input_audio_buffer.clear":
                return None
            case kind:
                return Turn([openai_realtime.error_event(f"Invalid value: '{kind}'.")])

    def _until_cancelled(self) -> Iterator[Chunk]:
        for chunk in generate(self._how):
            if self._cancelled:
                raise Cancelled
            yield chunk


class RecordedSession:
    """A recorded session: says what the server said, up to the next message of the client, then waits for that."""

    def __init__(self, messages: Sequence[tuple[bool, Message]]) -> None:
        self._messages = list(messages)
        """Whether the server said it, and what."""

    def greet(self) -> Turn:
        """What the server said before the client's first message."""
        return Turn(self._said())

    def receive(self, text: str | bytes) -> Turn:
        """What the server said after the next message of the client, whatever that is."""
        del self._messages[:1]
        return Turn(self._said())

    def _said(self) -> list[Message]:
        said: list[Message] = []
        while self._messages and self._messages[0][0]:
            said.append(self._messages.pop(0)[1])
        return said


def _object(text: str | bytes) -> dict[str, Any]:
    asked = json.loads(text)
    if not isinstance(asked, dict):
        raise ValueError("a message must be a JSON object")
    return asked
