"""What only the dashboard asks: how speeds are spread, pages of rows, and whether anything has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, Literal

from peewee import Database, SqliteDatabase

from .aggregate import DIMENSIONS, Filters
from .periods import utc_text
from .queries import StoredRow
from .schema import COLUMNS, MODEL

Measure = Literal["time_to_first_chunk", "tokens_per_second"]

_SECONDS = "time_to_first_chunk"
_RATE = "output_tokens / (duration - time_to_first_chunk)"
_KNOWN: dict[Measure, str] = {
    "time_to_first_chunk": "time_to_first_chunk IS NOT NULL",
    "tokens_per_second": "stream = 1 AND output_tokens > 0 AND duration > time_to_first_chunk",
}


def _two_digits(expression: str) -> str:
    """SQL for a positive number cut to two significant digits: an integer of thousandths (a histogram's bucket).

    Written with CASE and CAST so that SQLite (which may lack logarithms) and PostgreSQL count alike.
    """
    scaled = f"CAST(ROUND(({expression}) * 1000) AS BIGINT)"
    steps = "".join(
        f" WHEN {scaled} < {limit} THEN {scaled} / {limit // 100} * {limit // 100}"
        for limit in (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
    )
    return f"CASE{steps} ELSE {scaled} / 1000000 * 1000000 END"


_BUCKETS: dict[Measure, str] = {
    "time_to_first_chunk": _two_digits(_SECONDS),
    "tokens_per_second": _two_digits(_RATE),
}


@dataclass(slots=True)
class Spread:
    """How a measure is spread: how many responses at each value, values good for two digits, ascending."""

    counts: dict[float, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many responses there are."""
        return sum(self.counts.values())

    def add(self, other: Spread) -> None:
        """Take the responses of `other` in."""
        merged = {
            value: self.counts.get(value, 0) + other.counts.get(value, 0) for value in {*self.counts, *other.counts}
        }
        self.counts = dict(sorted(merged.items()))

    def quantile(self, part: float) -> float | None:
        """The value that `part` (0 to 1) of the responses stay under or at (nearest rank); `None` without any."""
        rank = max(1, -int(-part * self.total // 1))
        seen = 0
        for value, count in self.counts.items():
            seen += count
            if seen >= rank:
                return value
        return None


def spreads(
    db: Database,
    measure: Measure,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    filters: Filters | None = None,
) -> dict[str | None, Spread]:
    """By model: seconds to the first chunk, or output tokens per second from then on, of responses that ended well."""
    terms, values = _conditions(since, until, filters or {})
    where = " AND ".join([*terms, "status = 'ok'", _KNOWN[measure]])
    sql = (
        f"SELECT {MODEL} AS model, {_BUCKETS[measure]} AS bucket, COUNT(*) FROM usage WHERE {where}"
        " GROUP BY 1, 2 ORDER BY 1, 2"
    )
    found: dict[str | None, Spread] = {}
    for model, bucket, count in db.execute_sql(sql.replace("?", db.param), values):
        found.setdefault(model, Spread()).counts[bucket / 1000] = count
    return found


def spread_since(db: Database, measure: Measure, moments: Sequence[datetime], filters: Filters) -> list[Spread]:
    """The same of all models together since each of `moments` (the latest first), all in one pass."""
    terms, values = _conditions(moments[-1], None, filters)
    where = " AND ".join([*terms, "status = 'ok'", _KNOWN[measure]])
    ages = " ".join(f"WHEN started_at >= ? THEN {age}" for age in range(len(moments)))
    sql = (
        f"SELECT CASE {ages} END AS age, {_BUCKETS[measure]} AS bucket, COUNT(*) FROM usage WHERE {where}"
        " GROUP BY 1, 2 ORDER BY 1, 2"
    )
    parts = [Spread() for _ in moments]
    for age, bucket, count in db.execute_sql(sql.replace("?", db.param), [*map(utc_text, moments), *values]):
        parts[age].counts[bucket / 1000] = count
    for younger, older in pairwise(parts):
        older.add(younger)
    return parts


def newest(
    db: Database,
    *,
    limit: int,
    before_id: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    filters: Filters | None = None,
) -> list[StoredRow]:
    """The latest rows that started in the range and pass `filters`, the newest first; those older than `before_id`."""
    terms, values = _conditions(since, until, filters or {})
    if before_id is not None:
        terms.append("(started_at, id) < ((SELECT started_at FROM usage WHERE id = ?), ?)")
        values += [before_id, before_id]
    where = f" WHERE {' AND '.join(terms)}" if terms else ""
    sql = f"SELECT id, {', '.join(COLUMNS)} FROM usage{where} ORDER BY started_at DESC, id DESC LIMIT ?"
    cursor = db.execute_sql(sql.replace("?", db.param), (*values, limit))
    return [dict(zip(("id", *COLUMNS), row, strict=True)) for row in cursor]


def version(db: Database) -> int | str:
    """Something that is another whenever another connection has changed anything, for next to nothing."""
    sql = "PRAGMA data_version" if isinstance(db, SqliteDatabase) else "SELECT CAST(pg_current_snapshot() AS TEXT)"
    found: int | str = db.execute_sql(sql).fetchone()[0]
    return found


def last_id(db: Database) -> int:
    """The highest id, 0 without any row: about how many rows there are, for nothing."""
    return int(db.execute_sql("SELECT COALESCE(MAX(id), 0) FROM usage").fetchone()[0])


def span(db: Database) -> tuple[datetime, datetime] | None:
    """When the first and the last row started; `None` without any row."""
    # each in a query of its own: SQLite looks up one extreme in an index, but scans for two
    sql = "SELECT (SELECT MIN(started_at) FROM usage), (SELECT MAX(started_at) FROM usage)"
    first, last = db.execute_sql(sql).fetchone()
    return None if first is None else (datetime.fromisoformat(first), datetime.fromisoformat(last))


def _conditions(since: datetime | None, until: datetime | None, filters: Filters) -> tuple[list[str], list[Any]]:
    bounds = (("started_at >= ?", since), ("started_at < ?", until))
    terms = [term for term, moment in bounds if moment is not None]
    values: list[Any] = [utc_text(moment) for _, moment in bounds if moment is not None]
    for name, wanted in filters.items():
        known = [value for value in wanted if value is not None]
        term = f"{DIMENSIONS[name]} IN ({', '.join('?' for _ in known)})" if known else "1 = 0"
        terms.append(f"({term} OR {DIMENSIONS[name]} IS NULL)" if None in wanted else term)
        values += known
    return terms, values
