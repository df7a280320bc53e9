"""Requests that had been answered before: the same body to the same host, finished well, on the same day of UTC.

The day is the bound, so that the days of a month add up to the month, and what is over can be summed for good.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from peewee import Database

from .aggregate import DIMENSIONS, Filters, where
from .money import amounts_of, to_decimal
from .periods import EARLIEST, LATEST, Period, utc_text
from .schema import MODEL
from .summary import REPEATS, columns_of, cover, dimension_of, levels_of, note_parts, sums_of_sums

#: of rows that may be repeats; `started_at` may be anything in other programs' rows, so days are compared as text
CANDIDATE = "request_fingerprint IS NOT NULL AND status = 'ok' AND duplicate_of IS NULL"
#: the row's place among those of the day that ask the same of the same: from 2 on it is a repeat
PLACE = (
    f"CASE WHEN {CANDIDATE} THEN ROW_NUMBER() OVER (PARTITION BY CASE WHEN {CANDIDATE} THEN 1 END,"
    " request_fingerprint, server_address, SUBSTR(started_at, 1, 10) ORDER BY started_at, id) ELSE 1 END"
)
_COLUMNS = (*("started_at", "request_model", "response_model", "currency", "input_tokens", "output_tokens", "cost"),)


class Repeats(NamedTuple):
    """What was answered again, of one model and in one currency (`None`: what has no cost)."""

    model: str | None
    currency: str | None
    requests: int
    tokens: int
    cost: Decimal | None


def sums_of_repeats(db: Database) -> tuple[str, ...]:
    """SQL for count, tokens and cost of repeats, where `place` is the above."""
    return (
        "SUM(CASE WHEN place > 1 THEN 1 ELSE 0 END)",
        "SUM(CASE WHEN place > 1 THEN COALESCE(input_tokens, 0) + COALESCE(output_tokens, 0) END)",
        amounts_of(db, "CASE WHEN place > 1 THEN cost END"),
    )


def repeats(db: Database, since: datetime | None, until: datetime | None, filters: Filters) -> Iterator[Repeats]:
    """The repeats among what started in the range; each model and currency as often as it comes."""
    for model, currency, count, tokens, cost in _lines(db, since, until, filters):
        yield Repeats(model, currency, int(count), int(tokens or 0), None if cost is None else to_decimal(cost))


def _lines(db: Database, since: datetime | None, until: datetime | None, filters: Filters) -> Iterator[tuple[Any, ...]]:
    with db.atomic():  # one snapshot: what is closed may be opened again between two queries
        whole = Period(None, utc_text(since) if since else EARLIEST, utc_text(until) if until else LATEST)
        dimension = dimension_of(("model", *filters))
        taken, rest = cover(db, [whole], levels_of(dimension)) if dimension else ([], [whole])
        if dimension and taken:
            note_parts(db, taken)
            clause, values = where(filters, f"dimension = '{dimension}'", "repeated > 0", columns=columns_of(dimension))
            sql = (
                f"SELECT value, currency, {', '.join(sums_of_sums(db, REPEATS))}"
                f" FROM temp.part CROSS JOIN usage_sums USING (closed){clause} GROUP BY value, currency"
            )
            yield from db.execute_sql(sql, values).fetchall()
        for stretch in rest:
            yield from _among_rows(db, stretch, filters)


def _among_rows(db: Database, stretch: Period, filters: Filters) -> Iterator[tuple[Any, ...]]:
    clause, values = where(filters, "started_at >= ?", "place > 1")
    columns = dict.fromkeys((*_COLUMNS, *(DIMENSIONS[name] for name in filters if name != "model")))
    sql = (
        f"SELECT {MODEL}, currency, {', '.join(sums_of_repeats(db))}"
        f" FROM (SELECT {', '.join(columns)}, {PLACE} AS place FROM usage"
        f" WHERE started_at >= ? AND started_at < ? AND {CANDIDATE}) AS placed{clause} GROUP BY {MODEL}, currency"
    )
    bounds = (stretch.first[:10], stretch.end, stretch.first)
    yield from db.execute_sql(sql.replace("?", db.param), (*bounds, *values)).fetchall()
