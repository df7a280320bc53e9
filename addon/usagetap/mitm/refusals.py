"""Who has refused `stream_options`: learned from their own answers, shared through the database, forgotten in time."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from itertools import islice

from usagetap.model import Request

EXPIRES = 30 * 86400.0
"""Seconds until a host is asked again: servers are upgraded."""
LIMIT = 10_000
"""Refusals remembered at most, here and in the table: a stranger's hosts must not fill our memory. Beyond, the
oldest is forgotten, which costs one second try."""

log = logging.getLogger(__name__)


class Refusals:
    """The refusals that this process knows. Times are seconds since the epoch."""

    def __init__(self, known: Iterable[tuple[str, str, float | None]] = ()) -> None:
        """`known` are rows of table `refusals`, the latest first: host, scope, when it expires."""
        self.replace(known)

    def has(self, request: Request) -> bool:
        """Whether this request would be refused again."""
        expires = self._expires.get((place(request), scope(request)), 0.0)
        return expires is None or expires > time.time()

    def add(self, request: Request) -> tuple[str, str, float]:
        """Remember a refusal; returns the row's host, scope and expiry."""
        expires = time.time() + EXPIRES
        known, key = self._expires, (place(request), scope(request))
        known.pop(key, None)
        while len(known) >= LIMIT:
            del known[next(iter(known))]
        known[key] = expires
        return (*key, expires)

    def replace(self, known: Iterable[tuple[str, str, float | None]]) -> None:
        """Take what the database says now (`usagetap refusals clear`, another proxy's lesson)."""
        latest = [((host, scope), expires) for host, scope, expires in islice(known, LIMIT)]
        self._expires = dict(reversed(latest))


def place(request: Request) -> str:
    """Host and port: two local servers are two hosts."""
    return f"{request.host}:{request.port}"


def scope(request: Request) -> str:
    """What of a host refuses: on Azure an api-version, on Databricks a model, elsewhere (empty) all of it."""
    version = request.query.get("api-version")
    if version:
        return version[:100]
    served = re.search(r"/serving-endpoints/([^/]+)/", request.path)
    return served[1][:100] if served else ""
