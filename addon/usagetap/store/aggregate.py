"""Sums by period and group, in SQL, money to the last digit. A million rows take a fraction of a second: `_lines`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any

from peewee import Database, SqliteDatabase

from .database import StoreError, execute_many
from .money import add_costs, amounts_of, to_decimal
from .periods import Period, PeriodName, periods
from .schema import COUNTS, MISSING, MODEL, PLAIN, TOKENS, UNPRICED, count_where, sum_once
from .summary import columns_of, cover, dimension_of, levels_of, note_parts, sums_of_sums

__all__ = ["COUNTS", "DIMENSIONS", "TOKENS", "Filters", "Totals", "aggregate", "span_of_rows", "sums_of_rows", "where"]

#: what reports can be grouped by and filtered on, each as an SQL expression
DIMENSIONS: dict[str, str] = {
    "model": MODEL,
    "provider": "provider",
    "dialect": "dialect",
    "tag": "tag",
    "client": "client_address",
    "key": "key_fingerprint",
    "host": "server_address",
    "status": "status",
    "end_reason": "end_reason",
    "quality": "usage_quality",
    "response_model": "response_model",
    "operation": "operation",
    "agent": "client_agent",
    "tier": "service_tier",
}
Filters = Mapping[str, Sequence[str | None]]


@dataclass(slots=True)
class Totals:
    """One line of a report. Token sums are `None` where nobody said anything; usage fetched twice is in them once.

    `cost` and `estimated_cost` (of what was estimated or failed) are apart, each by currency. `unpriced` rows used
    something that has no price, `missing` rows ended without the usage that was due: neither is in any sum.
    """

    period: str | None = None
    keys: dict[str, str | None] = field(default_factory=dict)
    requests: int = 0
    still_open: int = 0
    ok: int = 0
    aborted: int = 0
    errors: int = 0
    missing: int = 0
    unpriced: int = 0
    estimated: int = 0
    duplicates: int = 0
    retried: int = 0
    input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_output_tokens: int | None = None
    estimated_input_tokens: int | None = None
    estimated_output_tokens: int | None = None
    cost: dict[str, Decimal] = field(default_factory=dict)
    estimated_cost: dict[str, Decimal] = field(default_factory=dict)

    def add(self, other: Totals) -> None:
        """Take the counts, sums and costs of `other` in."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in TOKENS:
            value = getattr(other, name)
            if value is not None:
                setattr(self, name, (getattr(self, name) or 0) + value)
        add_costs(self.cost, other.cost)
        add_costs(self.estimated_cost, other.estimated_cost)


def aggregate(
    db: Database,
    *,
    by: Sequence[str] = (),
    period: PeriodName | None = None,
    timezone: tzinfo = UTC,
    since: datetime | None = None,
    until: datetime | None = None,
    filters: Filters | None = None,
) -> list[Totals]:
    """Totals by period and by any of `DIMENSIONS`, in order of period, then of keys.

    `since` (inclusive) and `until` (exclusive) are aware datetimes; a row belongs to the period in which it started, by
    the calendar of `timezone`. `filters` maps dimensions to the values that count (`None` among them: unknown). Sums of
    money are those of the rows' decimal texts, to the last digit.
    """
    for name in (*by, *(filters or ())):
        if name not in DIMENSIONS:
            raise ValueError(f"cannot group by {name!r}: choose from {', '.join(DIMENSIONS)}")
    found: dict[tuple[str | None, ...], Totals] = {}
    with db.atomic():  # one snapshot: between two queries a row may move from one index to the other
        for line in _lines(db, by, _ranges(db, period, timezone, since, until), filters or {}):
            key = (line.period, *line.keys.values())
            if key in found:
                found[key].add(line)
            else:
                found[key] = line
    return [found[key] for key in sorted(found, key=lambda key: [(part is not None, part or "") for part in key])]


def _ranges(
    db: Database, unit: PeriodName | None, zone: tzinfo, since: datetime | None, until: datetime | None
) -> list[Period]:
    if (span := span_of_rows(db)) is None:
        return []
    # the periods stop where the rows do: a report since 1970 needs no 20,000 empty days
    from_row, to_row = span[0], span[1] + timedelta(milliseconds=1)
    if unit != "hour":  # whole days, as they are summed
        from_row = from_row.replace(hour=0, minute=0, second=0, microsecond=0)
        to_row = to_row.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    start = max(since, from_row) if since else from_row
    end = min(until, to_row) if until else to_row
    return list(periods(unit, zone, start, end)) if start < end else []


def span_of_rows(db: Database) -> tuple[datetime, datetime] | None:
    """When the first and the last row started; `None` without any row. Raises `StoreError` at what is no time."""
    # each in a query of its own: SQLite looks up one extreme in an index, but scans for two
    sql = "SELECT (SELECT MIN(started_at) FROM usage), (SELECT MAX(started_at) FROM usage)"
    first, last = db.execute_sql(sql).fetchone()
    return None if first is None else (_moment(first), _moment(last))


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise StoreError(
            f"a row has started_at {text!r}, which is no time: mend it (2026-01-31T18:00:00.000Z) or delete it"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def where(filters: Filters, *conditions: str, columns: Mapping[str, str] = DIMENSIONS) -> tuple[str, list[str]]:
    """A WHERE clause (empty without conditions) for these filters and conditions, and the values it takes."""
    terms, values = list(conditions), []
    for name, wanted in filters.items():
        known = [value for value in wanted if value is not None]
        term = f"{columns[name]} IN ({', '.join('?' for _ in known)})" if known else "1 = 0"
        terms.append(f"({term} OR {columns[name]} IS NULL)" if None in wanted else term)
        values += known
    return (" WHERE " + " AND ".join(terms) if terms else ""), values


_PLAIN_SUMS = ("COUNT(*)", "COUNT(cost)", *(f"SUM({name})" for name in TOKENS[:5]))
#: of rows, in the order of `COUNTS` and `TOKENS`
_SUMS: tuple[str, ...] = (
    "COUNT(*)",
    *(count_where(f"status = '{status}'") for status in ("open", "ok", "aborted", "error")),
    *(count_where(MISSING), count_where(UNPRICED), count_where("usage_quality = 'estimated'")),
    *(count_where("duplicate_of IS NOT NULL"), "SUM(retried)"),
    *(sum_once(name) for name in TOKENS),
)
_ONCE = "CASE WHEN duplicate_of IS NULL AND COALESCE(cost_source, '') {} 'estimated' THEN cost END"


def sums_of_rows(db: Database) -> tuple[str, ...]:
    """SQL for what is summed of rows: `COUNTS`, `TOKENS`, the cost, and the cost of what is estimated or failed."""
    return (*_SUMS, *(amounts_of(db, _ONCE.format(sign)) for sign in ("<>", "=")))


def _lines(db: Database, by: Sequence[str], ranges: list[Period], filters: Filters) -> Iterator[Totals]:
    """Lines that add up to the answer, from whatever is quickest.

    On SQLite that is what has been summed already, for all hours that are over; for what is left an index.
    """
    dimension = dimension_of((*by, *filters))
    taken, rest = cover(db, ranges, levels_of(dimension)) if dimension else ([], ranges)
    if dimension and taken:
        note_parts(db, taken)
        sums = f"usage_sums AS sums ON dimension = '{dimension}' AND sums.closed = slice.closed"
        parts = f"temp.part AS slice CROSS JOIN {sums}"
        names = (*COUNTS, *TOKENS, "cost", "estimated_cost")
        yield from _any_lines(
            db, by, ranges, filters, parts, columns=columns_of(dimension), sums=sums_of_sums(db, names)
        )
    if not rest:
        return
    if not isinstance(db, SqliteDatabase):
        marks = ", ".join("(CAST(? AS INTEGER), ?, ?)" for _ in rest)
        slices = f"(VALUES {marks}) AS slice (period, first, last) JOIN usage ON {_IN_SLICE}"
        values = [value for number, each in enumerate(rest) for value in (number, each.first, each.end)]
        yield from _any_lines(db, by, rest, filters, slices, values)
    elif set(by) <= {"model"} and not filters and not taken:
        nameless = _slice(db, rest, by_model=True)
        unusual = f"temp.slice CROSS JOIN usage INDEXED BY usage_rest ON request_model IS slice.model AND {_IN_SLICE}"
        yield from _plain_lines(db, by, rest, nameless)
        yield from _any_lines(db, by, rest, filters, unusual, condition=f"{PLAIN} = 0")
    else:
        _slice(db, rest, by_model=False)
        slices = f"temp.slice CROSS JOIN usage INDEXED BY usage_report ON {_IN_SLICE}"
        yield from _any_lines(db, by, rest, filters, slices)


_IN_SLICE = "started_at >= slice.first AND started_at < slice.last"


def _any_lines(
    db: Database,
    by: Sequence[str],
    ranges: list[Period],
    filters: Filters,
    source: str,
    values: Sequence[Any] = (),
    condition: str | None = None,
    columns: Mapping[str, str] = DIMENSIONS,
    sums: Sequence[str] = (),
) -> Iterator[Totals]:
    """Rows of every kind, each looked at closely, in any grouping; or lines of `usage_sums`."""
    groups = ", ".join(("slice.period", *(columns[name] for name in by), "COALESCE(currency, 'USD')"))
    clause, wanted = where(filters, *([condition] if condition else ()), columns=columns)
    sql = f"SELECT {groups}, {', '.join(sums or sums_of_rows(db))} FROM {source}{clause} GROUP BY {groups}"
    for period, *rest in db.execute_sql(sql.replace("?", db.param), (*values, *wanted)):
        keys, (currency, *numbers, cost, estimated_cost) = rest[: len(by)], rest[len(by) :]
        # PostgreSQL sums big integers to decimals; the fields of `Totals` are in the order of the sums
        counts = [int(number) if number is not None else None for number in numbers]
        line = Totals(ranges[period].name, dict(zip(by, keys, strict=True)), *counts)  # type: ignore[arg-type]
        if cost is not None:
            line.cost[currency] = to_decimal(cost)
        if estimated_cost is not None:
            line.estimated_cost[currency] = to_decimal(estimated_cost)
        yield line


def _plain_lines(db: Database, by: Sequence[str], ranges: list[Period], nameless: bool) -> Iterator[Totals]:
    """Plain rows, by period and at most by model, out of SQLite's `usage_plain`: a sum for every slice, no sorting."""
    source = f"temp.slice CROSS JOIN usage INDEXED BY usage_plain ON request_model IS slice.model AND {_IN_SLICE}"
    parts = [("slice.model", "slice.id", "slice.model IS NOT NULL" if by else "1 = 1")]
    if by and nameless:  # a slice of rows that name no model is of many models
        parts.append(("response_model", "slice.period, response_model", "slice.model IS NULL"))
    for model, groups, condition in parts:
        clause = f"WHERE {PLAIN} = 1 AND {condition} GROUP BY {groups}"
        sums = ", ".join((*_PLAIN_SUMS, amounts_of(db, "cost")))
        found = db.execute_sql(f"SELECT slice.period, {model}, {sums} FROM {source} {clause}")
        for period, name, count, priced, *tokens, cost in found:
            line = Totals(ranges[period].name, {"model": name} if by else {})
            line.requests = line.ok = count
            line.unpriced = count - priced
            for token, value in zip(TOKENS[:5], tokens, strict=True):
                setattr(line, token, value)
            if cost is not None:
                line.cost["USD"] = to_decimal(cost)
            yield line


def _slice(db: SqliteDatabase, ranges: list[Period], by_model: bool) -> bool:
    """Fill the temporary table `slice` with the periods, or with one line for each model and period.

    SQLite groups by sorting, which takes seconds for a million rows. `usage_plain` is sorted by model and time, so
    there each of these slices is one stretch of the index, summed as it is read, and nothing is sorted. Returns whether
    there are plain rows that name no model.
    """
    models: list[str | None] = [None]
    if by_model:
        for index, is_plain in (("usage_plain", 1), ("usage_rest", 0)):
            models += [model for (model,) in db.execute_sql(_MODELS.format(index=index, plain=f"{PLAIN} = {is_plain}"))]
    db.execute_sql("DROP TABLE IF EXISTS temp.slice")
    db.execute_sql("CREATE TEMPORARY TABLE slice (id INTEGER PRIMARY KEY, model, period, first, last)")
    lines = [
        (model, number, each.first, each.end) for model in dict.fromkeys(models) for number, each in enumerate(ranges)
    ]
    execute_many(db, "INSERT INTO temp.slice (model, period, first, last) VALUES (?, ?, ?, ?)", lines)
    nameless = db.execute_sql(
        f"SELECT EXISTS (SELECT 1 FROM usage INDEXED BY usage_plain WHERE request_model IS NULL AND {PLAIN} = 1)"
    )
    return bool(nameless.fetchone()[0])


# every model, by jumping from one to the next in the index instead of walking over all rows
_MODELS = (
    "WITH RECURSIVE jump (model) AS ("
    " SELECT MIN(request_model) FROM usage INDEXED BY {index} WHERE {plain} UNION ALL"
    " SELECT (SELECT MIN(request_model) FROM usage INDEXED BY {index} WHERE request_model > jump.model AND {plain})"
    " FROM jump WHERE jump.model IS NOT NULL"
    ") SELECT model FROM jump WHERE model IS NOT NULL"
)
