"""Sums of hours that are over, so that a page about a year need not read a year's rows. SQLite only.

Table `usage_closed` names the stretches of time that have been summed (hours, quarters of a day, days, months, all of
UTC); `usage_sums` and `usage_spreads` hold what was found in each. Triggers take a stretch's name away in the same
transaction in which any row of it is written, changed or deleted, by whatever program; `summing` sums it anew later.
Who reads takes what is closed and looks at the rows of the rest (`cover`), so an answer is the same with and without.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

from peewee import Database, SqliteDatabase

from .database import execute_many
from .money import amounts_of
from .periods import Period
from .schema import COUNTS, MODEL, TOKENS

#: what is summed, each by itself and by status: what the dashboard stacks
SUMMED: dict[str, str] = {"model": MODEL, "provider": "provider", "tag": "tag", "client": "client_address"}
#: the dimension with the fewest values: for sums over everything
FEWEST = "provider"
#: and these two together: who spent it on what
PAIR, PAIRED = "model,tag", ("model", "tag")
#: the longest first
LEVELS = ("month", "day", "quarter", "hour")
#: of the pair, and of how speeds are spread: within a day there are hardly more rows than combinations
LONG_LEVELS = ("month", "day")

REPEATS = ("repeated", "repeated_tokens", "repeated_cost")
#: of them sums of money: decimal text
AMOUNTS = ("cost", "estimated_cost", "repeated_cost")
#: the schema's version from which on sums of money are exact: those of an earlier one are not used
EXACT_SINCE = 3
CELL = (*COUNTS, *TOKENS, "cost", "estimated_cost", *REPEATS)
"""Columns of `usage_sums` after those that say of what the sums are."""

#: decimal text that stays as it is; an earlier version that still runs would write binary sums, and is refused
_EXACTLY = "{0} CHECK (TYPEOF({0}) IN ('text', 'null'))"

#: states of a line in `usage_closed`
CLAIMED, CLOSED, REOPENED = 0, 1, 2

SUMS_TABLE = (
    "CREATE TABLE usage_sums (dimension TEXT NOT NULL, closed INTEGER NOT NULL, line INTEGER NOT NULL,"
    " value TEXT, other TEXT, status TEXT, currency TEXT, "
    + ", ".join(_EXACTLY.format(name) if name in AMOUNTS else f"{name} INTEGER" for name in CELL)
    + ", PRIMARY KEY (dimension, closed, line)) WITHOUT ROWID"
)
TABLES: tuple[str, ...] = (
    "CREATE TABLE usage_closed (id INTEGER PRIMARY KEY AUTOINCREMENT, level TEXT NOT NULL, first TEXT NOT NULL,"
    " last TEXT NOT NULL, state INTEGER NOT NULL)",
    f"CREATE UNIQUE INDEX usage_closed_first ON usage_closed (level, first) WHERE state < {REOPENED}",
    f"CREATE INDEX usage_closed_last ON usage_closed (last) WHERE state < {REOPENED}",
    f"CREATE INDEX usage_closed_reopened ON usage_closed (id) WHERE state = {REOPENED}",
    SUMS_TABLE,
    "CREATE TABLE usage_spreads (measure TEXT NOT NULL, closed INTEGER NOT NULL, line INTEGER NOT NULL,"
    " model TEXT, counts TEXT NOT NULL, PRIMARY KEY (measure, closed, line)) WITHOUT ROWID",
)

# The stretch with the row, found by one step in the index; and of hours and quarters also the later ones of its day:
# whether a request is a repeated one depends on the day's earlier rows.
_REOPEN = (
    f"UPDATE usage_closed SET state = {REOPENED} WHERE level = '{{level}}' AND state < {REOPENED} AND first >="
    f" COALESCE((SELECT MAX(first) FROM usage_closed WHERE level = '{{level}}' AND state < {REOPENED}"
    " AND first <= {row}.started_at), '') AND first < SUBSTR({row}.started_at, 1, 10) || 'T99'"
    " AND last > {row}.started_at;"
)


def _trigger(event: str, row: str, condition: str = "1") -> str:
    name = f"usage_reopened_by_{event.split(maxsplit=1)[0].lower()}_of_{row.lower()}"
    # nearly every row is of the hour that is now, of which nothing is summed: one look at an index tells
    guard = f"{condition} AND {row}.started_at < (SELECT MAX(last) FROM usage_closed WHERE state < {REOPENED})"
    steps = " ".join(_REOPEN.format(level=level, row=row) for level in LEVELS)
    return f"CREATE TRIGGER {name} AFTER {event} ON usage WHEN {guard} BEGIN {steps} END"


TRIGGERS: tuple[str, ...] = (
    _trigger("INSERT", "NEW"),
    _trigger("UPDATE", "NEW"),
    _trigger("UPDATE OF started_at", "OLD", "OLD.started_at <> NEW.started_at"),
    _trigger("DELETE", "OLD"),
)


def dimension_of(names: Iterable[str]) -> str | None:
    """The dimension whose sums answer a question about these (grouped by or filtered on), if one does."""
    left = {*names} - {"status"}
    if len(left) <= 1:
        dimension = left.pop() if left else FEWEST
        return dimension if dimension in SUMMED else None
    return PAIR if left == {*PAIRED} else None


def levels_of(dimension: str) -> tuple[str, ...]:
    """The levels at which there are sums of that dimension."""
    return LONG_LEVELS if dimension == PAIR else LEVELS


def columns_of(dimension: str) -> Mapping[str, str]:
    """What can be grouped by and filtered on in `usage_sums` for that dimension, each as an SQL expression."""
    names = PAIRED if dimension == PAIR else (dimension,)
    return {**dict(zip(names, ("value", "other"), strict=False)), "status": "status"}


def sums_of_sums(db: Database, names: Iterable[str]) -> tuple[str, ...]:
    """SQL for sums of these columns of `usage_sums`."""
    return tuple(amounts_of(db, name) if name in AMOUNTS else f"SUM({name})" for name in names)


def cover(
    db: Database, wanted: Sequence[Period], levels: Sequence[str] = LEVELS
) -> tuple[list[tuple[int, int]], list[Period]]:
    """What of these periods is closed, and the rest, for which there are only rows.

    The closed is told as pairs of a period's place in `wanted` and an `id` in `usage_closed`; the rest as periods of
    the same names. Where nothing is ever summed (PostgreSQL, a file of an earlier version), everything is rest.
    """
    if not wanted or not has_sums(db):
        return [], list(wanted)
    taken: list[tuple[int, int]] = []
    gaps = [(number, period.first, period.end) for number, period in enumerate(wanted)]
    for level in levels:
        if not gaps:
            break
        closed = _closed(db, level, min(first for _, first, _ in gaps), max(end for _, _, end in gaps))
        starts = [first for first, _, _ in closed]
        rest: list[tuple[int, str, str]] = []
        for number, begin, end in gaps:
            at, place = begin, bisect_left(starts, begin)
            while place < len(closed) and closed[place][1] <= end:
                first, last, closed_id = closed[place]
                if at < first:
                    rest.append((number, at, first))
                taken.append((number, closed_id))
                at, place = last, place + 1
            if at < end:
                rest.append((number, at, end))
        gaps = rest
    return taken, [Period(wanted[number].name, first, end) for number, first, end in gaps]


def note_parts(db: Database, taken: Sequence[tuple[int, int]]) -> None:
    """Fill the temporary table `part` with what `cover` has found closed."""
    db.execute_sql("DROP TABLE IF EXISTS temp.part")
    db.execute_sql("CREATE TEMPORARY TABLE part (period INTEGER, closed INTEGER)")
    execute_many(db, "INSERT INTO temp.part (period, closed) VALUES (?, ?)", list(taken))


def _closed(db: Database, level: str, first: str, end: str) -> list[tuple[str, str, int]]:
    sql = (
        f"SELECT first, last, id FROM usage_closed WHERE level = ? AND state < {REOPENED} AND state = {CLOSED}"
        " AND first >= ? AND first < ? ORDER BY first"
    )
    return list(db.execute_sql(sql, (level, first, end)).fetchall())


def has_sums(db: Database) -> bool:
    """Whether the database has tables for exact sums, with or without anything in them."""
    if not isinstance(db, SqliteDatabase):
        return False
    return int(db.execute_sql("PRAGMA user_version").fetchone()[0]) >= EXACT_SINCE
