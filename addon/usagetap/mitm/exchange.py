"""What is remembered of a flow between its hooks.

It lives here, keyed by the flow object, and not in the addon: mitmproxy reloads the script but never its modules, so a
stream that began before a reload is found by the hooks after it.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field, replace

from mitmproxy import http

from usagetap.dialects.base import Dialect
from usagetap.mitm.estimates import Passed
from usagetap.model import Record, Request
from usagetap.reader import Reader
from usagetap.rewrite import Stripper


@dataclass(eq=False)
class Exchange:
    """One request and its response, while it lasts."""

    record: Record
    request: Request
    dialect: Dialect
    sent_at: float
    """Monotonic seconds when the request left."""
    live: bool = True
    """It came over a connection, not out of a file."""
    usage_due: bool = False
    """Usage was asked for, by us or by the client."""
    strip: bool = False
    """The usage frame is to be withheld."""
    streamed: bool = False
    """The request was gathered in its stream: its `request` hook has nothing to do."""
    credential: str | None = None
    """The client's key, in memory only, for `usage_resolve`."""
    original: bytes | None = None
    """The request body as the client sent it, kept until it is clear that our edit was not refused."""
    accept_encoding: str | None = None
    """What the client accepts, where we asked for plain text instead."""
    first_chunk_at: float | None = None
    reader: Reader | None = None
    stripper: Stripper | None = None
    passed: Passed | None = None
    """What went by, for an estimate."""
    tapped: bool = False
    """The response is read as it streams."""
    ended: bool = False
    kept: list[bytes] = field(default_factory=list)
    """The beginning of a streamed body, for the UI."""
    kept_bytes: int = 0
    keep_limit: int = 0
    kept_cut: bool = False
    shown_frames: int = 0
    """Frames when its comment was last brought up to date."""
    idle_frames: int = -1
    """Frames at the last look of the idle timeout, and when that number was first seen."""
    idle_since: float = 0.0

    def keep(self, text: bytes) -> None:
        """Keep what has passed, up to the limit."""
        room = self.keep_limit - self.kept_bytes
        if room > 0:
            self.kept.append(text[:room])
            self.kept_bytes += min(room, len(text))
        self.kept_cut = self.kept_cut or len(text) > room

    def forget(self) -> None:
        """Let go of what the end was the last to need: mitmweb keeps flows, and this with them, as long as it runs."""
        self.request = replace(self.request, body=None)
        self.credential = self.original = self.passed = self.reader = self.stripper = None


_exchanges: weakref.WeakKeyDictionary[http.HTTPFlow, Exchange] = weakref.WeakKeyDictionary()


def begin(flow: http.HTTPFlow, exchange: Exchange) -> None:
    """Remember `exchange`; a replayed flow gets a new one."""
    _exchanges[flow] = exchange


def of(flow: http.HTTPFlow) -> Exchange | None:
    """The exchange of `flow`; `None` for traffic that is not ours."""
    return _exchanges.get(flow)


def in_flight() -> list[tuple[http.HTTPFlow, Exchange]]:
    """Every exchange that has not ended."""
    return [(flow, exchange) for flow, exchange in list(_exchanges.items()) if not exchange.ended]
