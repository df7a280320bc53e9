"""One WebSocket, many responses: which message belongs to which turn, and when a turn begins and ends.

    turns = turns_for(request)              # None where the socket speaks none of the three protocols
    for event in turns.sent(message): …     # from the client
    for event in turns.received(message): … # from the server
    for event in turns.finish(): …          # the socket is gone: what is still open ends as it is

Sans-IO: no clock, no socket. A message that tells nothing (nearly all are audio or text deltas) costs a byte search.
Memory is bounded: `OPEN_LIMIT` open turns, `ENDED_LIMIT` ids of ended ones, no message is kept.
"""

from __future__ import annotations

from usagetap.dialects.gemini_live import LIVE_PATHS
from usagetap.model import Request
from usagetap.turns.base import FRAME_LIMIT, Answered, Ended, Event, Opened, Turn, Turns
from usagetap.turns.live import LiveTurns
from usagetap.turns.openai import RealtimeTurns, ResponsesTurns

__all__ = ["Answered", "Ended", "Event", "Opened", "Turn", "Turns", "turns_for"]

_PROTOCOLS: tuple[tuple[tuple[str, ...], type[Turns]], ...] = (
    (("/responses",), ResponsesTurns),
    (("/realtime",), RealtimeTurns),
    (LIVE_PATHS, LiveTurns),
)


def turns_for(request: Request, *, frame_limit: int = FRAME_LIMIT) -> Turns | None:
    """The turns of a WebSocket opened by `request`, told by its path on any host; `None` for any other socket."""
    path = request.path.rstrip("/")
    protocol = next((protocol for ends, protocol in _PROTOCOLS if path.endswith(ends)), None)
    return None if protocol is None else protocol(request, frame_limit=frame_limit)
