"""Deleting old rows, a bounded number at a time, so that the proxy's own writes never wait long."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from peewee import Database

from .database import execute_many, transaction
from .periods import utc_text

_BATCH = 2_000
_COUNT = "SELECT COUNT(*) FROM usage WHERE started_at < ? AND status <> 'open'"
_OLDEST = "SELECT id FROM usage WHERE started_at < ? AND status <> 'open' ORDER BY started_at LIMIT ?"


def count_old(db: Database, before: datetime) -> int:
    """How many finished rows started before that moment."""
    return int(db.execute_sql(_COUNT.replace("?", db.param), (utc_text(before),)).fetchone()[0])


def prune(db: Database, days: int, *, now: float | None = None) -> int:
    """Delete finished rows older than `days` (0: none are) and their price history; returns how many."""
    if days <= 0:
        return 0
    moment = datetime.fromtimestamp(time.time() if now is None else now, UTC)
    return delete_before(db, moment - timedelta(days=days))


def delete_before(db: Database, before: datetime, advance: Callable[[int], None] = lambda _: None) -> int:
    """Delete finished rows that started before that moment; `advance` hears of each batch. Returns how many."""
    deleted = 0
    oldest = _OLDEST.replace("?", db.param)
    while True:
        with transaction(db):
            ids = db.execute_sql(oldest, (utc_text(before), _BATCH)).fetchall()
            execute_many(db, "DELETE FROM price_history WHERE usage_id = ?", ids)
            execute_many(db, "DELETE FROM usage WHERE id = ?", ids)
        deleted += len(ids)
        advance(len(ids))
        if len(ids) < _BATCH:
            return deleted
