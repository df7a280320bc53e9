"""The statements that write. Each may run any number of times with the same row: the outcome is that of once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from peewee import Database

from .database import execute_many, transaction
from .rows import Row
from .schema import COLUMNS

#: the columns that pricing and estimating fill in
FINISH_COLUMNS: tuple[str, ...] = (
    *("usage_quality", "estimated_input_tokens", "estimated_output_tokens"),
    *("cost", "currency", "cost_source", "price_version", "price_note"),
)

# An end closes an open row, or one whose proxy was taken for dead. Nothing reopens a row or ends it again: what has
# been priced anew since stays so when an old journal is read.
_UPSERT = (
    f"INSERT INTO usage ({', '.join(COLUMNS)}) VALUES ({', '.join('?' for _ in COLUMNS)})"
    " ON CONFLICT (uid) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name != "uid")
    + " WHERE usage.status = 'open' OR (usage.end_reason = 'proxy_died' AND excluded.status <> 'open')"
)
_FINISH = f"UPDATE usage SET {', '.join(f'{name} = ?' for name in FINISH_COLUMNS)} WHERE uid = ? AND cost IS NULL"
_REFUSAL = (
    "INSERT INTO refusals (host, scope, refused_at, expires_at, reason) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (host, scope) DO UPDATE SET"
    " refused_at = excluded.refused_at, expires_at = excluded.expires_at, reason = excluded.reason"
    " WHERE excluded.refused_at >= refusals.refused_at"
)
_FETCHED_AGAIN = frozenset({"openai_responses", "openai_assistants", "gemini_interactions"})
"""Dialects whose responses can be read more than once."""
_SAME_RESPONSE = (
    "SELECT MIN(id), response_id, provider, input_tokens, output_tokens FROM usage"
    " WHERE response_id IN ({marks}) AND duplicate_of IS NULL AND status <> 'open'"
    " AND (input_tokens IS NOT NULL OR output_tokens IS NOT NULL)"
    " GROUP BY response_id, provider, input_tokens, output_tokens"
)


def write(db: Database, rows: Sequence[Row], refusals: Sequence[Row] = ()) -> None:
    """Insert or complete these rows of table `usage`, and note these refusals, in one transaction.

    Sets `duplicate_of` in `rows` where an earlier row has counted the same usage.
    """
    with transaction(db):
        for part in _without_repeats(_latest(rows)):
            _mark_duplicates(db, part)
            execute_many(db, _UPSERT, [tuple(map(row.get, COLUMNS)) for row in part])
        execute_many(db, _REFUSAL, [_refusal(row) for row in refusals])


def write_finish(db: Database, rows: Sequence[Row]) -> None:
    """Add price and estimates to rows that were written before there was time for them."""
    with transaction(db):
        execute_many(db, _FINISH, [(*map(row.get, FINISH_COLUMNS), row["uid"]) for row in rows])


def _refusal(row: Row) -> tuple[Any, ...]:
    return tuple(map(row.get, ("host", "scope", "refused_at", "expires_at", "reason")))


def _usage_key(row: Row) -> tuple[Any, ...] | None:
    """What makes two rows tell of the same usage, or `None` where the row counts nothing.

    Only where a response can be fetched again (background polling, a resumed stream, a run that is polled): elsewhere
    an id is no more than a hint (Ollama draws it out of a thousand). And even there the numbers must be the same.
    """
    if row["response_id"] is None or row["status"] == "open" or row["dialect"] not in _FETCHED_AGAIN:
        return None
    if row["input_tokens"] is None and row["output_tokens"] is None:
        return None
    return row["response_id"], row["provider"], row["input_tokens"], row["output_tokens"]


def _latest(rows: Sequence[Row]) -> Collection[Row]:
    """One row for each uid: its end if it is there."""
    latest: dict[str, Row] = {}
    for row in rows:
        if row["uid"] not in latest or latest[row["uid"]]["status"] == "open":
            latest[row["uid"]] = row
    return latest.values()


def _without_repeats(rows: Collection[Row]) -> Iterator[list[Row]]:
    """`rows` in order, cut so that no part has two rows of the same usage: the second must find the first's id."""
    part: list[Row] = []
    seen: set[tuple[Any, ...]] = set()
    for row in rows:
        key = _usage_key(row)
        if key in seen:
            yield part
            part, seen = [], set()
        part.append(row)
        if key:
            seen.add(key)
    if part:
        yield part


def _mark_duplicates(db: Database, rows: list[Row]) -> None:
    # a row that is in the database already may find itself; it has its end, so nothing of this is written to it
    candidates = [(row, key) for row in rows if row["duplicate_of"] is None and (key := _usage_key(row))]
    if not candidates:
        return
    marks = ", ".join("?" for _ in candidates)
    found = db.execute_sql(_SAME_RESPONSE.format(marks=marks).replace("?", db.param), [key[0] for _, key in candidates])
    counted = {tuple(key): row_id for row_id, *key in found.fetchall()}
    for row, key in candidates:
        row["duplicate_of"] = counted.get(key)
