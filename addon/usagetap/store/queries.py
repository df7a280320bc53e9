"""The read side: what report, command line and web pages ask. Every query is one snapshot; none of them writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from peewee import Database

from .aggregate import COUNTS, DIMENSIONS, TOKENS, Filters, Totals, aggregate, where
from .database import StoreError, connect
from .migrations import READABLE_VERSION, check, version_of
from .money import Costs, add_costs
from .periods import utc_text
from .repeats import repeats
from .schema import COLUMNS

__all__ = [
    "COUNTS",
    "DIMENSIONS",
    "TOKENS",
    "Filters",
    "StoredRow",
    "Totals",
    "Waste",
    "aggregate",
    "by_flow",
    "by_id",
    "each_row",
    "open_reader",
    "recent",
    "refusals",
    "waste",
]

StoredRow = dict[str, Any]
"""A row of table `usage` as it is stored: `id` and every column of the schema; times, money and JSON are text."""

_SELECT = f"SELECT id, {', '.join(COLUMNS)} FROM usage"
_CHUNK = 1_000


def open_reader(url: str | Path) -> Database:
    """A connection that can only read. Raises `StoreError`, with what to do, where nothing of ours is there to read."""
    db = connect(url, read_only=True)
    try:
        check(db)
        if version_of(db) < READABLE_VERSION:
            raise StoreError(f"{url} has no tables of this version of usagetap yet: run the proxy with it once")
    except BaseException:
        db.close()
        raise
    return db


def recent(db: Database, limit: int = 50, after_id: int | None = None) -> list[StoredRow]:
    """The newest `limit` rows, the newest first; with `after_id` the `limit` rows that follow it, in order."""
    if after_id is None:
        return list(_rows(db, f"{_SELECT} ORDER BY id DESC LIMIT ?", (limit,)))
    return list(_rows(db, f"{_SELECT} WHERE id > ? ORDER BY id LIMIT ?", (after_id, limit)))


def by_id(db: Database, row_id: int) -> StoredRow | None:
    """The row with this `id`, if there is one."""
    return next(_rows(db, f"{_SELECT} WHERE id = ?", (row_id,)), None)


def by_flow(db: Database, flow_id: str) -> list[StoredRow]:
    """The rows of a flow (replays and WebSocket turns share its id), in order; a beginning of the id will do."""
    sql = f"{_SELECT} WHERE flow_id >= ? AND flow_id < ? ORDER BY id"
    return list(_rows(db, sql, (flow_id, flow_id + "\U0010ffff")))


def each_row(
    db: Database, *, since: datetime | None = None, until: datetime | None = None, filters: Filters | None = None
) -> Iterator[StoredRow]:
    """Every row that started in the range and passes `filters` (as in `aggregate`), by `id`, some at a time.

    Between two thousands other connections may write, so this can take as long as it likes.
    """
    terms, values = _range(since, until)
    clause, wanted = where(filters or {}, "id > ?", *terms)
    last = 0
    while True:
        chunk = list(_rows(db, f"{_SELECT}{clause} ORDER BY id LIMIT ?", (last, *values, *wanted, _CHUNK)))
        yield from chunk
        if len(chunk) < _CHUNK:
            return
        last = chunk[-1]["id"]


def refusals(db: Database) -> list[StoredRow]:
    """Who refuses `stream_options`: `host`, `scope`, `refused_at`, `expires_at`, `reason`; the latest first."""
    columns = ("host", "scope", "refused_at", "expires_at", "reason")
    cursor = db.execute_sql(f"SELECT {', '.join(columns)} FROM refusals ORDER BY refused_at DESC, host, scope")
    return [dict(zip(columns, row, strict=True)) for row in cursor]


@dataclass(slots=True)
class Waste:
    """What one model cost for nothing: responses that were aborted, that failed, and that had been had before.

    A repeated request is every finished one but the first with the same body to the same host on the same day (UTC).
    `cache_hit_rate` is the part of the input that came out of the provider's cache, `None` without input.
    """

    model: str | None
    total: Totals
    aborted: Totals
    errors: Totals
    repeated: int = 0
    repeated_tokens: int = 0
    repeated_cost: Costs = field(default_factory=dict)

    @property
    def cache_hit_rate(self) -> float | None:
        """Cached input tokens per input token."""
        return (self.total.cache_read_input_tokens or 0) / self.total.input_tokens if self.total.input_tokens else None


def waste(
    db: Database, *, since: datetime | None = None, until: datetime | None = None, filters: Filters | None = None
) -> list[Waste]:
    """What aborted, failed and repeated requests cost, by model."""
    found: dict[str | None, Waste] = {}
    for line in aggregate(db, by=("model", "status"), since=since, until=until, filters=filters):
        model = line.keys["model"]
        mine = found.setdefault(model, Waste(model, Totals(), Totals(), Totals()))
        mine.total.add(line)
        part = {"aborted": mine.aborted, "error": mine.errors}.get(line.keys["status"] or "")
        if part is not None:
            part.add(line)
    for again in repeats(db, since, until, filters or {}):
        if mine_ := found.get(again.model):
            mine_.repeated += again.requests
            mine_.repeated_tokens += again.tokens
            if again.cost is not None:
                add_costs(mine_.repeated_cost, {again.currency or "USD": again.cost})
    return list(found.values())


def _range(since: datetime | None, until: datetime | None) -> tuple[list[str], list[Any]]:
    terms = [term for term, given in (("started_at >= ?", since), ("started_at < ?", until)) if given is not None]
    return terms, [utc_text(moment) for moment in (since, until) if moment is not None]


def _rows(db: Database, sql: str, values: Sequence[Any]) -> Iterator[StoredRow]:
    for row in db.execute_sql(sql.replace("?", db.param), values):
        yield dict(zip(("id", *COLUMNS), row, strict=True))
