"""Gemini Live: one turn at a time on a socket, ended by `turnComplete`. https://ai.google.dev/api/live"""

from __future__ import annotations

import re

from usagetap.dialects.base import Json, mapping, text
from usagetap.dialects.gemini_live import GeminiLive
from usagetap.model import Request
from usagetap.turns.base import FRAME_LIMIT, Event, Turns


class LiveTurns(Turns):
    """`wss://…BidiGenerateContent`. One turn at a time; `turnComplete` ends it, with its usage or just before it."""

    dialect = GeminiLive()
    sent_tells = re.compile(rb'"(?:setup|clientContent|client_content|toolResponse|tool_response)"\s*:')
    received_tells = re.compile(
        rb'"(?:setupComplete|turnComplete|usageMetadata|interrupted|toolCall|modelTurn|error)"\s*:'
    )
    assumed = {"clientContent": {"turnComplete": True}}
    dull = re.compile(rb'\{\s*"(?:realtimeInput|realtime_input)"\s*:')
    ends = re.compile(rb'"turnComplete"\s*:\s*true')

    def __init__(self, request: Request, *, frame_limit: int = FRAME_LIMIT) -> None:
        super().__init__(request, frame_limit=frame_limit)
        self._served_model: str | None = None

    def _opened(self, operation: str | None = None, model: str | None = None) -> list[Event]:
        events = super()._opened(operation, model)
        self._open[-1].seen.response_model = self._served_model
        return events

    def received(self, message: bytes) -> list[Event]:
        if self._open and not self._open[0].seen.terminal and not _LIVE_END.search(message):
            return self._count(message)  # within a turn only its end tells anything
        return super().received(message)

    def _on_sent(self, payload: Json) -> list[Event]:
        if "setup" in payload:
            self.request_model = text(mapping(payload.get("setup")).get("model"))
            return []
        content = mapping(payload.get("clientContent") or payload.get("client_content"))
        answers = "toolResponse" in payload or "tool_response" in payload
        if not (answers or content.get("turnComplete") or content.get("turn_complete")):
            return []  # history, put in before the turn
        events = self._over()
        return events if self._open else events + self._opened()

    def _on_received(self, payload: Json, message: bytes) -> list[Event]:
        if "setupComplete" in payload:  # the server has taken the setup, its model included
            self._served_model = self.request_model
            return []
        content = mapping(payload.get("serverContent"))
        usage = "usageMetadata" in payload
        events: list[Event] = []
        if "modelTurn" in content or "toolCall" in payload:
            events += self._over()
        if not self._open:
            if not ("modelTurn" in content or "toolCall" in payload or usage):
                return events
            events += self._opened()
        turn = self._open[0]
        events += self._answered(turn, message)
        self.dialect.observe(turn.seen, payload)
        over = turn.seen.terminal and (usage or turn.seen.usage_raw is not None)
        return events + (self._end(turn) if over or turn.seen.error_type else [])

    def _over(self) -> list[Event]:
        """End the turn whose usage never came, now that the next one begins."""
        return self._end(self._open[0]) if self._open and self._open[0].seen.terminal else []


_LIVE_END = re.compile(rb'"(?:turnComplete|usageMetadata|interrupted|error)"\s*:')
