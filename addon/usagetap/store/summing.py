"""Fills the tables of `summary`, day by day, the latest first, on a thread and a connection of its own.

Rows are read without holding anything up. What they come to is written in transactions of about a millisecond, each
only if nothing has happened since to the rows that it is of: the claim on a stretch, put down before they were read,
would be gone. So any number of proxies can do this on one file.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

from peewee import Database, PeeweeException

from .aggregate import sums_of_rows
from .dashboard_queries import BUCKETS, KNOWN
from .database import StoreError, connect, execute_many, transaction, what_failed
from .migrations import SCHEMA_VERSION, version_of
from .money import add_up
from .periods import Period, utc_text
from .place import is_postgres, sqlite_path
from .repeats import PLACE, sums_of_repeats
from .schema import MODEL, TOKENS
from .summary import AMOUNTS, CELL, CLAIMED, CLOSED, PAIR, PAIRED, REOPENED, SUMMED, cover, note_parts, sums_of_sums

#: seconds until the first round, and from each to the next
FIRST, ROUND = 15.0, 60.0
#: and after failures, from each to the next: a disk that is full may stay so
LONGEST = 3600.0
#: seconds after which an hour is summed: nearly all that started in it has ended then
GRACE = 600.0
#: a step that took a second is followed by a pause of so many
_SHARE = 3.0
#: seconds that a stop waits for the thread
_PARTING = 1.0
_COLUMNS = ("dimension", "closed", "line", "value", "other", "status", "currency", *CELL)
_MOST_FORGOTTEN = 10

_CLAIM = f"INSERT OR REPLACE INTO usage_closed (level, first, last, state) VALUES (?, ?, ?, {CLAIMED})"
_CLOSE = f"UPDATE usage_closed SET state = {CLOSED} WHERE id = ? AND state = {CLAIMED}"
_SEEN = (
    *("id", "started_at", "request_model", "response_model", "provider", "tag", "client_address", "status"),
    *("end_reason", "usage_quality", "duplicate_of", "retried", "stream", "time_to_first_chunk", "duration"),
    *(*TOKENS, "cost", "currency", "cost_source"),
)
_SEE = (
    f"CREATE TEMPORARY TABLE seen AS SELECT {', '.join(_SEEN)}, {PLACE} AS place, (SELECT CASE WHEN started_at < last"
    " THEN closed END FROM temp.claim WHERE first <= started_at ORDER BY first DESC LIMIT 1) AS closed"
    " FROM usage WHERE started_at >= ? AND started_at < ?"
)
_SPREADS = (
    "INSERT INTO temp.spreads SELECT '{measure}', ROW_NUMBER() OVER (), model, JSON_GROUP_OBJECT(bucket, count) FROM"
    f" (SELECT {MODEL} AS model, {{bucket}} AS bucket, COUNT(*) AS count FROM temp.seen"
    " WHERE {within} AND status = 'ok' AND {known} GROUP BY 1, 2) GROUP BY model"
)
_DIMENSIONS = (*SUMMED, PAIR)
_KINDS: dict[str, tuple[str, Iterable[str]]] = {"sums": ("dimension", _DIMENSIONS), "spreads": ("measure", KNOWN)}
_SUMS_OF_SUMS = (
    "INSERT INTO temp.sums SELECT dimension, ?, ROW_NUMBER() OVER (), value, other, status, currency, {sums}"
    " FROM temp.part CROSS JOIN usage_sums USING (closed)"
    f" WHERE dimension IN ({', '.join(map(repr, _DIMENSIONS))}) GROUP BY dimension, value, other, status, currency"
)
_SUMS_OF_ROWS = "usage_sums SELECT * FROM temp.sums WHERE closed = ?"
_SPREADS_OF_ROWS = "usage_spreads SELECT measure, ?, line, model, counts FROM temp.spreads"
_SPREADS_OF_SPREADS = (
    "usage_spreads SELECT measure, ?, ROW_NUMBER() OVER (), model, JSON_GROUP_OBJECT(bucket, count) FROM"
    " (SELECT measure, model, key AS bucket, SUM(value) AS count FROM temp.part CROSS JOIN usage_spreads USING (closed)"
    f" CROSS JOIN JSON_EACH(counts) WHERE measure IN ({', '.join(map(repr, KNOWN))}) GROUP BY measure, model, key)"
    " GROUP BY measure, model"
)


def catch_up(db: Database, now: datetime) -> Iterator[None]:
    """Sum everything that is over and not summed, step by step.

    Between two steps nothing is locked, and it can be left at any.
    """
    db.connection().create_function("add_up", 1, add_up, deterministic=True)
    _make_tables(db)
    yield from _forget(db)
    until = utc_text(now - timedelta(seconds=GRACE))
    days = [day for day in _days(db, until) if not _is_closed(db, "day", _stretch(day, 0, 24).first)]
    for day in days:
        _sum_day(db, day, until)
        yield
    for month in dict.fromkeys(day.replace(day=1) for day in _days(db, until)):
        after = (month + timedelta(days=31)).replace(day=1)
        whole = Period(None, _stretch(month, 0, 24).first, _stretch(after, 0, 24).first)
        if whole.end <= until and not _is_closed(db, "month", whole.first):
            _add_up(db, "month", whole, "day")
            yield


class Summing:
    """A thread that keeps the sums of one database up to date. Whatever goes wrong, nothing but speed depends on it."""

    def __init__(self, url: str, log: Callable[[str], None]) -> None:
        self._url = url
        self._log = log
        self._stopped = threading.Event()
        self._connection: Any = None
        self._thread = threading.Thread(target=self._run, name="usage-summing", daemon=True)

    def start(self) -> None:
        """Begin; with PostgreSQL there is nothing to begin."""
        if not is_postgres(self._url):
            self._thread.start()

    def stop(self) -> None:
        """End, in the middle of a query if need be; what is left is for the next time."""
        self._stopped.set()
        if (connection := self._connection) is not None:
            with suppress(sqlite3.ProgrammingError):  # it may have been closed just now
                connection.interrupt()
        if self._thread.ident is not None:
            self._thread.join(_PARTING)

    def _run(self) -> None:
        wait = FIRST
        while not self._stopped.wait(wait):
            try:
                self._round()
                wait = ROUND
            except (PeeweeException, sqlite3.Error, StoreError, OSError) as error:
                wait = min(max(wait, ROUND) * 2, LONGEST)
                self._log(f"usage: sums of what is over have to wait: {what_failed(error)}")

    def _round(self) -> None:
        if not sqlite_path(self._url).exists():
            return
        with closing(connect(self._url)) as db:
            if version_of(db) != SCHEMA_VERSION:
                return
            self._connection = db.connection()
            try:
                self._steps(db)
            finally:
                self._connection = None

    def _steps(self, db: Database) -> None:
        started = time.monotonic()
        for _ in catch_up(db, datetime.now(UTC)):
            if self._stopped.wait((time.monotonic() - started) * _SHARE):
                return
            started = time.monotonic()


def _days(db: Database, until: str) -> Iterator[date]:
    """The days that have rows, the latest first."""
    while newest := db.execute_sql("SELECT MAX(started_at) FROM usage WHERE started_at < ?", (until,)).fetchone()[0]:
        until = newest[:10]
        try:
            yield date.fromisoformat(until)
        except ValueError:  # another program's row, of no time that is one
            until = newest


def _is_closed(db: Database, level: str, first: str) -> bool:
    sql = f"SELECT 1 FROM usage_closed WHERE level = ? AND first = ? AND state < {REOPENED} AND state = {CLOSED}"
    return db.execute_sql(sql, (level, first)).fetchone() is not None


def _forget(db: Database) -> Iterator[None]:
    """Delete the sums of stretches that were opened again."""
    sql = f"SELECT id FROM usage_closed WHERE state = {REOPENED} LIMIT {_MOST_FORGOTTEN}"
    while reopened := db.execute_sql(sql).fetchall():
        with transaction(db):
            for table, (column, names) in _KINDS.items():
                for name in names:
                    execute_many(db, f"DELETE FROM usage_{table} WHERE {column} = '{name}' AND closed = ?", reopened)
            execute_many(db, "DELETE FROM usage_closed WHERE id = ?", reopened)
        yield


def _sum_day(db: Database, day: date, until: str) -> None:
    """Sum what is over of a day."""
    whole = _stretch(day, 0, 24)
    hours = [each for hour in range(24) if (each := _stretch(day, hour, 1)).end <= until]
    missing = [each for each in cover(db, hours, ("hour",))[1] if not _is_empty(db, each)]
    with transaction(db):
        claims = [(_claim(db, "hour", each), each) for each in missing]
        of_day = _claim(db, "day", whole) if whole.end <= until else None
    _look(db, claims, (of_day, whole) if of_day else None)
    for claim, _ in claims:
        with transaction(db):
            _close(db, claim, _SUMS_OF_ROWS)
    for hour in range(0, 24, 6):
        if (quarter := _stretch(day, hour, 6)).end <= until and not _is_closed(db, "quarter", quarter.first):
            _add_up(db, "quarter", quarter, "hour")
    if of_day:
        _add_up(db, "day", whole, "quarter", of_day)


def _stretch(day: date, hour: int, length: int) -> Period:
    start = datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
    return Period(None, utc_text(start), utc_text(start + timedelta(hours=length)))


def _is_empty(db: Database, stretch: Period) -> bool:
    sql = "SELECT EXISTS (SELECT 1 FROM usage WHERE started_at >= ? AND started_at < ?)"
    return not db.execute_sql(sql, (stretch.first, stretch.end)).fetchone()[0]


def _claim(db: Database, level: str, stretch: Period) -> int:
    return int(db.execute_sql(_CLAIM, (level, stretch.first, stretch.end)).lastrowid)


def _close(db: Database, claim: int, *found: str) -> None:
    """Within a transaction: write what is selected for a stretch, if the claim on it still stands."""
    if db.execute_sql(_CLOSE, (claim,)).rowcount:
        for selected in found:
            db.execute_sql(f"INSERT INTO {selected}", (claim,))


def _make_tables(db: Database) -> None:
    for table in ("claim", "seen", "sums", "spreads"):
        db.execute_sql(f"DROP TABLE IF EXISTS temp.{table}")
    db.execute_sql(f"CREATE TEMPORARY TABLE sums ({', '.join(_COLUMNS)})")
    db.execute_sql("CREATE TEMPORARY TABLE spreads (measure, line, model, counts)")
    db.execute_sql("CREATE TEMPORARY TABLE claim (first TEXT PRIMARY KEY, last TEXT, closed INTEGER)")


def _look(db: Database, claims: Sequence[tuple[int, Period]], day: tuple[int, Period] | None) -> None:
    """Read the rows of these hours, and those of the whole day, into the temporary tables `sums` and `spreads`."""
    _make_tables(db)
    execute_many(
        db, "INSERT INTO temp.claim VALUES (?, ?, ?)", [(each.first, each.end, claim) for claim, each in claims]
    )
    stretches = [day[1]] if day else [each for _, each in claims]
    if not stretches:
        return
    # from the day's first row on: whether a request is a repeated one depends on those before it
    db.execute_sql(_SEE, (stretches[0].first[:10], stretches[-1].end))
    for dimension, expression in SUMMED.items():
        _group(db, dimension, "closed", (expression, "NULL"), "closed IS NOT NULL")
    if day:
        claim, whole = day
        within = f"started_at >= '{whole.first}' AND started_at < '{whole.end}'"
        _group(db, PAIR, f"{claim:d}", [SUMMED[name] for name in PAIRED], within)
        for measure, bucket in BUCKETS.items():
            db.execute_sql(_SPREADS.format(measure=measure, bucket=bucket, known=KNOWN[measure], within=within))
    _add_amounts(db)


def _group(db: Database, dimension: str, closed: str, values: Sequence[str], within: str) -> None:
    keys = ", ".join((*values, "status", "COALESCE(currency, 'USD')"))
    groups = keys if closed.isdigit() else f"{closed}, {keys}"  # a number would be the place of a column
    db.execute_sql(
        f"INSERT INTO temp.sums SELECT '{dimension}', {closed}, ROW_NUMBER() OVER (), {keys},"
        f" {', '.join((*sums_of_rows(db), *sums_of_repeats(db)))} FROM temp.seen WHERE {within} GROUP BY {groups}"
    )


def _add_amounts(db: Database) -> None:
    """Add the amounts of each group up, while nothing is locked: a busy proxy may keep this thread waiting."""
    for name in AMOUNTS:
        db.execute_sql(f"UPDATE temp.sums SET {name} = ADD_UP({name}) WHERE INSTR({name}, ' ')")


def _add_up(db: Database, level: str, stretch: Period, parts: str, claim: int | None = None) -> None:
    """Close a stretch out of its closed parts, unless one is missing that has rows."""
    if claim is None:
        with transaction(db):
            claim = _claim(db, level, stretch)
    taken, rest = cover(db, [stretch], (parts,))
    if not all(_is_empty(db, each) for each in rest):
        return
    note_parts(db, taken)
    db.execute_sql(_SUMS_OF_SUMS.format(sums=", ".join(sums_of_sums(db, CELL))), (claim,))
    _add_amounts(db)
    more = {"day": (_SPREADS_OF_ROWS,), "month": (_SPREADS_OF_SPREADS,)}
    with transaction(db):
        _close(db, claim, _SUMS_OF_ROWS, *more.get(level, ()))
