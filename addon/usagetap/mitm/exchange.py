"""What is remembered of a flow between its hooks.

It lives here, keyed by the flow object, and not in the addon: mitmproxy reloads the script but never its modules, so a
stream that began before a reload is found by the hooks after it.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any

from mitmproxy import http

from usagetap.dialects.base import Dialect
from usagetap.model import Record
from usagetap.reader import Reader
from usagetap.rewrite import Stripper


@dataclass(eq=False)
class Exchange:
    """One request and its response, while it lasts."""

    record: Record
    dialect: Dialect
    sent_at: float
    """Monotonic seconds when the request left."""
    usage_due: bool = False
    """Usage was asked for, by us or by the client."""
    original: bytes | None = None
    """The request body as the client sent it, kept while a refusal of our edit may have to be answered by a retry."""
    body: Any = None
    """The request body as JSON, kept for an estimate of its tokens."""
    first_chunk_at: float | None = None
    reader: Reader | None = None
    stripper: Stripper | None = None
    clean_end: bool = False
    """The upstream's end of body was seen."""
    ended: bool = False
    kept: list[bytes] = field(default_factory=list)
    """The beginning of a streamed body, for the UI."""
    kept_bytes: int = 0
    kept_cut: bool = False
    passed: list[bytes] = field(default_factory=list)
    """Decoded bytes that an estimate has not counted yet."""
    extras: dict[str, Any] = field(default_factory=dict)


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
