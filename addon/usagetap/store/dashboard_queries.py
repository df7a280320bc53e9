"""What only the dashboard asks: how speeds are spread, pages of rows, and whether anything has changed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Literal

import orjson
from peewee import Database, SqliteDatabase

from .aggregate import Filters, where
from .periods import EARLIEST, LATEST, Period, utc_text
from .queries import StoredRow
from .schema import COLUMNS, MODEL
from .summary import CLOSED, LONG_LEVELS, cover, dimension_of, has_sums, note_parts

Measure = Literal["time_to_first_chunk", "tokens_per_second"]

_SECONDS = "time_to_first_chunk"
_RATE = "output_tokens / (duration - time_to_first_chunk)"
#: rows of which there is something to tell
KNOWN: dict[Measure, str] = {
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


#: where in its histogram a row belongs
BUCKETS: dict[Measure, str] = {
    "time_to_first_chunk": _two_digits(_SECONDS),
    "tokens_per_second": _two_digits(_RATE),
}


#: what `usage_spreads` can be filtered on: it holds responses that ended well
_SPREAD_COLUMNS = {"model": "model", "status": "'ok'"}


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
    whole = Period("0", utc_text(since) if since else EARLIEST, utc_text(until) if until else LATEST)
    counted = _counted(db, measure, [whole], filters or {})
    return {model: _spread(counts) for (_, model), counts in sorted(counted.items(), key=lambda item: item[0][1] or "")}


def spread_since(db: Database, measure: Measure, moments: Sequence[datetime], filters: Filters) -> list[Spread]:
    """The same of all models together since each of `moments` (the latest first)."""
    bounds = pairwise([LATEST, *map(utc_text, moments)])
    ages = [Period(str(age), first, end) for age, (end, first) in enumerate(bounds)]
    sums: list[Counter[str]] = [Counter() for _ in ages]
    for (age, _), counts in _counted(db, measure, ages, filters).items():
        sums[age].update(counts)
    parts = [_spread(counts) for counts in sums]
    for younger, older in pairwise(parts):
        older.add(younger)
    return parts


def _spread(counts: Mapping[str, int]) -> Spread:
    return Spread({int(bucket) / 1000: counts[bucket] for bucket in sorted(counts, key=int)})


def _counted(
    db: Database, measure: Measure, ages: Sequence[Period], filters: Filters
) -> Mapping[tuple[int, str | None], Mapping[str, int]]:
    """By age (whose name is its place) and model: how many responses in each bucket, whose number is text."""
    found: dict[tuple[int, str | None], defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    with db.atomic():  # one snapshot: what is closed may be opened again between two queries
        summed = filters.keys() <= _SPREAD_COLUMNS.keys()
        taken, rest = cover(db, ages, LONG_LEVELS) if summed else ([], ages)
        if taken:
            note_parts(db, taken)
            clause, values = where(filters, "measure = ?", columns=_SPREAD_COLUMNS)
            sql = f"SELECT period, model, counts FROM temp.part CROSS JOIN usage_spreads USING (closed){clause}"
            for age, model, counts in db.execute_sql(sql, (measure, *values)):
                mine = found[age, model]
                for bucket, count in orjson.loads(counts).items():
                    mine[bucket] += count
        for stretch in rest:
            known = ("started_at >= ?", "started_at < ?", "status = 'ok'", KNOWN[measure])
            clause, values = where(filters, *known)
            sql = f"SELECT {MODEL}, {BUCKETS[measure]}, COUNT(*) FROM usage{clause} GROUP BY 1, 2"
            for model, bucket, count in db.execute_sql(
                sql.replace("?", db.param), (stretch.first, stretch.end, *values)
            ):
                found[int(stretch.name or 0), model][str(bucket)] += count
    return found


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
    bounds = [(term, moment) for term, moment in (("started_at >= ?", since), ("started_at < ?", until)) if moment]
    terms: list[str] = [term for term, _ in bounds]
    values: list[str | int] = [utc_text(moment) for _, moment in bounds]
    if before_id is not None:
        terms.append("(started_at, id) < ((SELECT started_at FROM usage WHERE id = ?), ?)")
        values += [before_id, before_id]
    clause, wanted = where(filters or {}, *terms)
    sql = f"SELECT id, {', '.join(COLUMNS)} FROM usage{clause} ORDER BY started_at DESC, id DESC LIMIT ?"
    cursor = db.execute_sql(sql.replace("?", db.param), (*values, *wanted, limit))
    return [dict(zip(("id", *COLUMNS), row, strict=True)) for row in cursor]


def version(db: Database) -> int | str:
    """Something that is another whenever another connection has changed anything, for next to nothing."""
    sql = "PRAGMA data_version" if isinstance(db, SqliteDatabase) else "SELECT CAST(pg_current_snapshot() AS TEXT)"
    found: int | str = db.execute_sql(sql).fetchone()[0]
    return found


def is_summed(db: Database, by: str, filters: Filters) -> bool:
    """Whether sums by model and by `by` are ready for most of what they are of, so that they take no time to add up."""
    ready = f"SELECT 1 FROM usage_closed WHERE level = 'day' AND state = {CLOSED} LIMIT 1"
    known = filters.keys() <= _SPREAD_COLUMNS.keys() and dimension_of((by, *filters)) is not None
    return known and has_sums(db) and db.execute_sql(ready).fetchone() is not None


def last_id(db: Database) -> int:
    """The highest id, 0 without any row: about how many rows there are, for nothing."""
    return int(db.execute_sql("SELECT COALESCE(MAX(id), 0) FROM usage").fetchone()[0])
