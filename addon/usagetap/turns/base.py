"""Turns and what the protocols share: which are open, what a message costs, how much is remembered."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import ClassVar

import orjson

from usagetap.dialects.base import Dialect, Json, mapping, observe_error
from usagetap.model import Observation, Request

FRAME_LIMIT = 16 << 20
"""Bytes of the largest message that is parsed."""
OPEN_LIMIT = 64
"""Open turns of one socket; a client that asks for more has lost the others."""
ENDED_LIMIT = 64
"""Ids remembered of ended responses, so that a late or repeated event opens no turn."""
_HEAD = 4096
"""Bytes at the start of an oversized message in which its type and response id stand."""


@dataclass(slots=True, eq=False)
class Turn:
    """One response on the socket: a row."""

    number: int
    """Counts from 1: the column `turn`."""
    operation: str
    request_model: str | None = None
    seen: Observation = field(default_factory=Observation)
    stream_id: str | None = None
    event_id: str | None = None
    """The client's name for its request, by which Realtime's errors refer to it."""
    answered: bool = False
    frames: int = 0
    """Messages from the server that were this turn's."""
    body_bytes: int = 0
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """A response was asked for, or began without being asked for."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Answered:
    """The server's first message of the turn."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Ended:
    """The turn is over: by its terminal event (`seen.terminal`), an error (`seen.error_type`), or with the socket."""

    turn: Turn


type Event = Opened | Answered | Ended


class Turns:
    """What the three protocols share: the open turns and their bounds."""

    dialect: ClassVar[Dialect]
    sent_tells: ClassVar[re.Pattern[bytes]]
    """Finds what matters in a message of the client."""
    received_tells: ClassVar[re.Pattern[bytes]]
    """Finds what matters in a message of the server."""
    dull: ClassVar[re.Pattern[bytes]]
    """Matches the beginning of a message that tells nothing: for large ones cheaper than to search them."""
    assumed: ClassVar[Json]
    """What an oversized message of the client is taken for."""
    ends: ClassVar[re.Pattern[bytes]]
    """Finds in the head of an oversized message that it is a terminal one."""

    def __init__(self, request: Request, *, frame_limit: int = FRAME_LIMIT) -> None:
        self.request_model = self.dialect.model(request)
        self._operation = self.dialect.operation(request)
        self._frame_limit = frame_limit
        self._open: list[Turn] = []
        self._ended: deque[str] = deque(maxlen=ENDED_LIMIT)
        self._last = 0
        self._parting: Json = {}  # an error that named no turn; if the socket ends with it, it was about them all

    @property
    def open(self) -> tuple[Turn, ...]:
        """The turns that are open, oldest first."""
        return tuple(self._open)

    def sent(self, message: bytes) -> list[Event]:
        """A whole message from the client, text or binary."""
        if self.dull.match(message) or not self.sent_tells.search(message):
            return []
        return self._on_sent(_parse(message) if len(message) <= self._frame_limit else self.assumed)

    def received(self, message: bytes) -> list[Event]:
        """A whole message from the server, text or binary."""
        found = None if self.dull.match(message) else self.received_tells.search(message)
        if found is None:
            return self._count(message)
        if len(message) > self._frame_limit:
            return self._oversized(message)
        self._parting = {}
        return self._on_received(_parse(message), message)

    def finish(self) -> list[Event]:
        """The socket is gone. Any number of times; only the first tells anything."""
        for turn in self._open:
            if self._parting and not turn.seen.terminal:
                observe_error(turn.seen, self._parting)
        self._parting = {}
        return [event for turn in self.open for event in self._end(turn)]

    def _on_sent(self, payload: Json) -> list[Event]:
        raise NotImplementedError

    def _on_received(self, payload: Json, message: bytes) -> list[Event]:
        raise NotImplementedError

    def _opened(self, operation: str | None = None, model: str | None = None) -> list[Event]:
        """Open a turn; it is the last of `open` then."""
        self._last += 1
        events: list[Event] = []
        if len(self._open) >= OPEN_LIMIT:
            events += self._end(self._open[0])
        turn = Turn(self._last, operation or self._operation, model or self.request_model)
        self._open.append(turn)
        return [*events, Opened(turn)]

    def _answered(self, turn: Turn, message: bytes) -> list[Event]:
        """Count a message of the server to its turn."""
        turn.frames += 1
        turn.body_bytes += len(message)
        if turn.answered:
            return []
        turn.answered = True
        return [Answered(turn)]

    def _end(self, turn: Turn) -> list[Event]:
        self._open.remove(turn)
        if turn.seen.response_id:
            self._ended.append(turn.seen.response_id)
        return [Ended(turn)]

    def _count(self, message: bytes) -> list[Event]:
        """Count a message that tells nothing to the turn it belongs to, where that is plain."""
        turn = self._open[0] if len(self._open) == 1 else self._named(message) if self._open else None
        return [] if turn is None else self._answered(turn, message)

    def _named(self, message: bytes) -> Turn | None:
        """The one of several open turns that the message names by response or stream."""
        found = _NAME.search(message)
        if found is None:
            return None
        name = found[1].decode("utf-8", "replace")
        return next((turn for turn in self._open if name in (turn.seen.response_id, turn.stream_id)), None)

    def _oversized(self, message: bytes) -> list[Event]:
        """A message that tells something and is too long to be parsed: it ends its turn, and the turn says so."""
        named = _RESPONSE_ID.search(message, 0, _HEAD)
        name = named[1].decode("utf-8", "replace") if named else None
        turn = next((turn for turn in self._open if name and turn.seen.response_id == name), None)
        turn = turn or (self._open[0] if len(self._open) == 1 else None)
        if turn is None or not self.ends.search(message, 0, _HEAD):
            return []
        turn.truncated = turn.seen.terminal = True
        return [*self._answered(turn, message), *self._end(turn)]


_NAME = re.compile(rb'"(?:response_id|stream_id)"\s*:\s*"([^"\\]+)"')
_RESPONSE_ID = re.compile(rb'"response"\s*:\s*\{(?:[^{}]*,)?\s*"id"\s*:\s*"([^"\\]+)"')


def _parse(message: bytes) -> Json:
    try:
        return mapping(orjson.loads(message))
    except orjson.JSONDecodeError:
        return {}
