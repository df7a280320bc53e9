"""Responses over WebSocket and Realtime: `response.create` asks, events with the response's id answer.

https://platform.openai.com/docs/guides/websocket-mode, https://platform.openai.com/docs/guides/realtime-websocket
"""

from __future__ import annotations

import re
from typing import Any

from usagetap.dialects.base import Json, mapping, text
from usagetap.dialects.openai_realtime import TRANSCRIBED, OpenAIRealtime
from usagetap.dialects.openai_responses import OpenAIResponses
from usagetap.model import Request
from usagetap.turns.base import FRAME_LIMIT, Event, Turn, Turns


class _OpenAITurns(Turns):
    """Responses and Realtime: `response.create` asks, `response.created` answers, correlated by response id."""

    assumed = {"type": "response.create"}
    dull = re.compile(rb'\{\s*"type"\s*:\s*"(?:response\.\w+\.[\w.]+|input_audio_buffer\.\w+|conversation\.item\.\w+)"')

    def _find(self, response_id: str | None, stream_id: str | None, *, created: bool) -> Turn | None:
        """The turn of a response; else the oldest still without one, of its stream: a stream's turns run in order.

        An event that begins nothing is rather of the one turn that runs: Copilot names each event's response anew.
        """
        for turn in self._open:
            if response_id is not None and turn.seen.response_id == response_id:
                return turn
        running = self._running(stream_id)
        if not created and len(running) == 1:
            return running[0]
        return self._waiting(stream_id)

    def _running(self, stream_id: str | None) -> list[Turn]:
        return [turn for turn in self._open if turn.seen.response_id and turn.stream_id == stream_id]

    def _waiting(self, stream_id: str | None) -> Turn | None:
        """The oldest turn that has no response yet; a gateway may drop the stream id on either way."""
        waiting = [turn for turn in self._open if turn.seen.response_id is None]
        same = [turn for turn in waiting if turn.stream_id == stream_id]
        other = [turn for turn in waiting if stream_id is None or turn.stream_id is None]
        return next(iter(same or other), None)

    def _on_response(self, payload: Json, message: bytes, *, terminal: bool) -> list[Event]:
        if not isinstance(payload.get("response"), dict):
            return self._count(message)
        response_id = text(payload["response"].get("id"))
        stream_id = text(payload.get("stream_id"))
        if response_id is not None and response_id in self._ended:
            return []
        events: list[Event] = []
        turn = self._find(response_id, stream_id, created=payload.get("type") == "response.created")
        if turn is None:  # nobody asked: voice activity, or we came late
            events += self._opened()
            turn = self._open[-1]
            turn.stream_id = stream_id
        if turn.seen.response_id is None:
            for former in [each for each in self._open if each.seen.error_type and each.stream_id == turn.stream_id]:
                events += self._end(former)
        events += self._answered(turn, message)
        self.dialect.observe(turn.seen, payload)
        self._model_of(turn)
        return events + (self._end(turn) if terminal else [])

    def _model_of(self, turn: Turn) -> None:
        """What the session says of the turn's model, where its response says nothing."""


class ResponsesTurns(_OpenAITurns):
    """`wss://…/responses`. Streams with a `stream_id` of their own interleave; on one stream turns run one by one."""

    dialect = OpenAIResponses()
    sent_tells = re.compile(rb'"type"\s*:\s*"response\.create"')
    received_tells = re.compile(
        rb'"type"\s*:\s*"(?:error|response\.(?:created|queued|in_progress|completed|incomplete|failed|cancelled))"'
    )
    ends = re.compile(rb'"type"\s*:\s*"response\.(?:completed|incomplete|failed|cancelled)"')

    def _on_sent(self, payload: Json) -> list[Event]:
        if payload.get("type") != "response.create":
            return []
        asked = mapping(payload.get("response")) or payload
        events = self._opened(model=text(asked.get("model")))
        self._open[-1].stream_id = text(payload.get("stream_id"))
        return events

    def _on_received(self, payload: Json, message: bytes) -> list[Event]:
        kind = payload.get("type")
        if kind == "error":
            return self._on_error(payload, message)
        status = text(mapping(payload.get("response")).get("status"))
        terminal = isinstance(kind, str) and kind.endswith(("completed", "incomplete", "failed", "cancelled"))
        return self._on_response(payload, message, terminal=terminal or status == "cancelled")

    def _on_error(self, payload: Json, message: bytes) -> list[Event]:
        """An error refuses the request that waits (it has a status then), or tells of the response that runs."""
        if mapping(payload.get("error")).get("code") == "websocket_connection_limit_reached":  # about them all
            self._parting = payload
            return []
        stream_id = text(payload.get("stream_id"))
        named = text(payload.get("response_id"))
        running = self._running(stream_id)
        if named is not None:
            running = [turn for turn in self._open if turn.seen.response_id == named]
        waiting = None if named else self._waiting(stream_id)
        if waiting is not None and (not running or "status" in payload):
            self.dialect.observe(waiting.seen, payload)
            return [*self._answered(waiting, message), *self._end(waiting)]
        if len(running) != 1:
            self._parting = payload
            return []
        self.dialect.observe(running[0].seen, payload)  # `response.failed` follows, and ends it
        return self._answered(running[0], message)


class RealtimeTurns(_OpenAITurns):
    """`wss://…/realtime`. The server also opens turns by itself, when it hears that the user has finished."""

    dialect = OpenAIRealtime()
    sent_tells = re.compile(rb'"type"\s*:\s*"(?:response\.create|session\.update|transcription_session\.update)"')
    received_tells = re.compile(
        rb'"type"\s*:\s*"(?:error|response\.(?:created|done)|(?:transcription_)?session\.(?:created|updated)|'
        rb'conversation\.item\.input_audio_transcription\.completed)"'
    )
    ends = re.compile(rb'"type"\s*:\s*"response\.done"')

    def __init__(self, request: Request, *, frame_limit: int = FRAME_LIMIT) -> None:
        super().__init__(request, frame_limit=frame_limit)
        self._served_model: str | None = None
        self._transcription_model: str | None = None

    def _on_sent(self, payload: Json) -> list[Event]:
        if payload.get("type") in ("session.update", "transcription_session.update"):
            session = mapping(payload.get("session"))
            self.request_model = text(session.get("model")) or self.request_model
            self._learn_transcription(session)
        if payload.get("type") != "response.create":
            return []
        events = self._opened(model=text(mapping(payload.get("response")).get("model")))
        self._open[-1].event_id = text(payload.get("event_id"))
        return events

    def _on_received(self, payload: Json, message: bytes) -> list[Event]:
        kind = payload.get("type")
        if kind in ("response.created", "response.done"):
            return self._on_response(payload, message, terminal=kind == "response.done")
        if kind == TRANSCRIBED:
            return self._on_transcribed(payload, message)
        if kind == "error":
            return self._on_error(payload, message)
        session = mapping(payload.get("session"))
        if session:
            self._served_model = text(session.get("model")) or self._served_model
            self._learn_transcription(session)
        return []

    def _model_of(self, turn: Turn) -> None:
        turn.seen.response_model = turn.seen.response_model or self._served_model

    def _learn_transcription(self, session: Json) -> None:
        told = mapping(session.get("input_audio_transcription"))  # the beta's place, then today's
        told = told or mapping(mapping(mapping(session.get("audio")).get("input")).get("transcription"))
        self._transcription_model = text(told.get("model")) or self._transcription_model

    def _on_transcribed(self, payload: Json, message: bytes) -> list[Event]:
        """What the user said, written down by another model: a turn of its own where it tells its usage."""
        if not mapping(payload.get("usage")):
            return []
        events = self._opened("transcription", self._transcription_model)
        turn = self._open[-1]
        turn.request_model = self._transcription_model
        self.dialect.observe(turn.seen, payload)
        return [*events, *self._answered(turn, message), *self._end(turn)]

    def _on_error(self, payload: Json, message: bytes) -> list[Event]:
        """An error about a `response.create` ends its turn; a response that runs tells of its own failure."""
        error = mapping(payload.get("error"))
        event_id = text(error.get("event_id"))
        waiting = [turn for turn in self._open if turn.seen.response_id is None]
        refused = next((turn for turn in waiting if event_id is not None and turn.event_id == event_id), None)
        if refused is None and event_id is None and waiting and _about_response(error):
            refused = waiting[0]
        if refused is None:
            self._parting = payload
            return []
        self.dialect.observe(refused.seen, payload)
        return [*self._answered(refused, message), *self._end(refused)]


def _about_response(error: Json) -> bool:
    """Whether a Realtime error that names no event can only mean a `response.create`."""
    told: list[Any] = [error.get("code"), error.get("param"), error.get("type")]
    code, param, kind = (text(each) or "" for each in told)
    return code == "conversation_already_has_active_response" or param.startswith("response") or kind == "server_error"
