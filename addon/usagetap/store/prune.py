"""Deleting old rows, a bounded number at a time, so that the proxy's own writes never wait long."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from peewee import Database

from .database import execute_many, transaction
from .periods import utc_text

BATCH = 2_000
_COUNT = "SELECT COUNT(*) FROM usage WHERE started_at < ? AND status <> 'open'"
_OLDEST = "SELECT id FROM usage WHERE started_at < ? AND status <> 'open' ORDER BY started_at LIMIT ?"
_EXPIRED = "DELETE FROM refusals WHERE expires_at < ?"
_BEYOND = "DELETE FROM refusals WHERE id NOT IN (SELECT id FROM refusals ORDER BY refused_at DESC, id DESC LIMIT ?)"


def count_old(db: Database, before: datetime) -> int:
    """How many finished rows started before that moment."""
    return int(db.execute_sql(_COUNT.replace("?", db.param), (utc_text(before),)).fetchone()[0])


def delete_before(db: Database, before: datetime, advance: Callable[[int], None] = lambda _: None) -> int:
    """Delete finished rows that started before that moment; `advance` hears of each batch. Returns how many."""
    deleted = 0
    while True:
        count = delete_batch(db, before)
        deleted += count
        advance(count)
        if count < BATCH:
            return deleted


def delete_batch(db: Database, before: datetime) -> int:
    """Delete the oldest finished rows from before that moment, `BATCH` at most; returns how many."""
    with transaction(db):
        ids = db.execute_sql(_OLDEST.replace("?", db.param), (utc_text(before), BATCH)).fetchall()
        execute_many(db, "DELETE FROM price_history WHERE usage_id = ?", ids)
        execute_many(db, "DELETE FROM usage WHERE id = ?", ids)
    return len(ids)


def prune_refusals(db: Database, now: datetime, keep: int) -> int:
    """Delete refusals that have expired, and of the rest all but the `keep` latest; returns how many."""
    with transaction(db):
        expired = db.execute_sql(_EXPIRED.replace("?", db.param), (utc_text(now),)).rowcount
        beyond = db.execute_sql(_BEYOND.replace("?", db.param), (keep,)).rowcount
    return int(expired) + int(beyond)
