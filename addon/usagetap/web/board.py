"""What the pages show, fetched from the store and remembered as long as it holds.

Everything here blocks and belongs on one worker thread: a query must never keep the proxy's event loop waiting.
"""

from __future__ import annotations

import time as clock
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo
from typing import Any

from peewee import Database

from usagetap.store import dashboard_queries as dashboard
from usagetap.store import queries
from usagetap.store.aggregate import Totals, aggregate, span_of_rows
from usagetap.store.dashboard_queries import Spread
from usagetap.store.periods import PeriodName, periods
from usagetap.store.queries import StoredRow, Waste

from .ask import Ask

PAGE = 50
"""Rows of a page of the table."""
GLANCES = (("Today", 1), ("7 days", 7), ("30 days", 30))
HASTE = 0.2
"""Seconds after which a page goes without the sums that are still missing."""
LARGE = 50_000
"""Rows beyond which slow sums come one at a time, after the rest of the page, unless the store has them ready."""
_REMEMBERED = 64
_SOON = 2.0
"""Seconds that a part holds although rows have changed."""
_SHARE = 10
"""A part that took a second to fetch holds for at least so many: looking costs a tenth of one core at most."""


@dataclass(frozen=True, slots=True)
class Glance:
    """One time at a glance: its totals, and those of its hours or days."""

    title: str
    total: Totals
    course: list[Totals]


@dataclass(frozen=True, slots=True)
class Course:
    """Totals over time by group, whole periods without a row included."""

    unit: PeriodName
    names: list[str]
    lines: list[Totals]


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that one page shows, as the store tells it; `None` is what takes longer to add up."""

    ask: Ask
    now: datetime
    stamp: str
    """Another whenever something in it was fetched anew."""
    any_rows: bool
    rows: list[StoredRow] | None
    models: list[Totals] | None
    course: Course | None
    glances: list[Glance] | None
    waits: list[Spread] | None
    """Seconds to the first chunk, for each glance."""
    seconds: dict[str | None, Spread] | None
    rates: dict[str | None, Spread] | None
    waste: list[Waste] | None

    @property
    def whole(self) -> bool:
        """Whether nothing is missing that has yet to be added up."""
        parts = (self.rows, self.models, self.course, self.glances, self.waits, self.seconds, self.rates, self.waste)
        return None not in parts


@dataclass(slots=True)
class _Part:
    value: Any
    version: int | str
    fetched: float
    took: float


class Board:
    """Answers what pages ask, over one connection. Raises `StoreError` or peewee's errors where it cannot."""

    def __init__(self, open_db: Callable[[], Database], zone: tzinfo) -> None:
        self.zone = zone
        self._open_db = open_db
        self._db: Database | None = None
        self._connection: Any = None
        self._parts: OrderedDict[Hashable, _Part] = OrderedDict()
        self._stamp = 0

    def scene(self, ask: Ask) -> Scene:
        """The page's content. What takes long in a large table comes a part at a time, and is `None` until then."""
        db, now = self._connect(), datetime.now(self.zone)
        version, hurry_at = dashboard.version(db), clock.monotonic() + HASTE
        wanted, since = ask.wanted, ask.since(now)
        large, before = dashboard.last_id(db) > LARGE and not dashboard.is_summed(db, ask.by, wanted), self._stamp
        hour = now.replace(minute=0, second=0, microsecond=0)

        def part(name: str, fetch: Callable[[], Any], *by: Hashable, slow: bool = False) -> Any:
            key = (name, hour, ask.filters, *by)
            known = self._parts.get(key)
            late = clock.monotonic() > hurry_at or (slow and large and self._stamp != before)
            return None if known is None and late else self._part(key, known, version, fetch)

        def in_range(name: str, fetch: Callable[..., Any], *arguments: Any, slow: bool = True, **given: Any) -> Any:
            return part(name, lambda: fetch(db, *arguments, since=since, filters=wanted, **given), ask.range, slow=slow)

        span = self._part("span", self._parts.get("span"), version, lambda: span_of_rows(db))
        rows = part(
            "rows",
            lambda: dashboard.newest(db, limit=PAGE + 1, before_id=ask.before, since=since, filters=wanted),
            *(ask.range, ask.before),
        )
        parts = {
            "models": in_range("models", aggregate, by=("model",), slow=False),
            "course": part("course", lambda: self._course(db, ask, since, span, now), ask.range, ask.by),
            "glances": part("glances", lambda: self._glances(db, ask, now)),
            "waits": part("waits", lambda: self._waits(db, ask, now), slow=True),
            "seconds": in_range("seconds", dashboard.spreads, "time_to_first_chunk"),
            "rates": in_range("rates", dashboard.spreads, "tokens_per_second"),
            "waste": in_range("waste", queries.waste),
        }
        stamp = f"{hour} {ask} {self._stamp} {sum(each is None for each in parts.values())}"
        return Scene(ask, now, stamp, span is not None, rows, **parts)

    def row(self, row_id: int) -> tuple[StoredRow, list[StoredRow]] | None:
        """A row and the others of its flow."""
        db = self._connect()
        row = queries.by_id(db, row_id)
        return (
            None
            if row is None
            else (row, [each for each in queries.by_flow(db, row["flow_id"]) if each["id"] != row_id])
        )

    def each_row(self, ask: Ask) -> Iterator[StoredRow]:
        """Every row of the range that passes the filters, by `id`, some at a time; each `next` is for the worker."""
        since = ask.since(datetime.now(self.zone))
        yield from queries.each_row(self._connect(), since=since, filters=ask.wanted)

    def interrupt(self) -> None:
        """Stop a running query (from another thread): a proxy that is told to stop does not wait for a page."""
        stop = getattr(self._connection, "interrupt", None) or getattr(self._connection, "cancel", None)
        if stop is not None:
            stop()

    def close(self) -> None:
        """Let the connection go; the next question opens another."""
        db, self._db, self._connection = self._db, None, None
        self._parts.clear()
        if db is not None:
            db.close()

    def _connect(self) -> Database:
        if self._db is None:
            self._db = self._open_db()
            self._connection = self._db.connection()
        return self._db

    def _part(self, key: Hashable, part: _Part | None, version: int | str, fetch: Callable[[], Any]) -> Any:
        """What `fetch` gives; or gave, if nothing has changed since, or it is too early to ask again."""
        started = clock.monotonic()
        if part is None or not (part.version == version or started - part.fetched < max(_SOON, _SHARE * part.took)):
            self._stamp += 1
            part = _Part(fetch(), version, started, clock.monotonic() - started)
            self._parts[key] = part
        self._parts.move_to_end(key)
        while len(self._parts) > _REMEMBERED:
            self._parts.popitem(last=False)
        return part.value

    def _waits(self, db: Database, ask: Ask, now: datetime) -> list[Spread]:
        since = [datetime.combine(now.date() - timedelta(days=count - 1), time(), now.tzinfo) for _, count in GLANCES]
        return dashboard.spread_since(db, "time_to_first_chunk", since, ask.wanted)

    def _glances(self, db: Database, ask: Ask, now: datetime) -> list[Glance]:
        wide, narrow = Ask(range="30d", filters=ask.filters), Ask(range="today", filters=ask.filters)
        days, hours = self._filled(db, wide, "day", now), self._filled(db, narrow, "hour", now)
        glances = []
        for title, count in GLANCES:
            total = Totals()
            for line in days[-count:]:
                total.add(line)
            glances.append(Glance(title, total, hours if count == 1 else days[-count:]))
        return glances

    def _filled(self, db: Database, ask: Ask, unit: PeriodName, now: datetime) -> list[Totals]:
        since = ask.since(now)
        assert since is not None
        lines = aggregate(db, period=unit, timezone=self.zone, since=since, filters=ask.wanted)
        found = {line.period: line for line in lines}
        return [found.get(name) or Totals(name) for name in _names(unit, self.zone, since, now)]

    def _course(
        self, db: Database, ask: Ask, since: datetime | None, span: tuple[datetime, datetime] | None, now: datetime
    ) -> Course:
        first = span[0] if span else None
        unit = ask.unit(first, now)
        lines = aggregate(db, by=(ask.by,), period=unit, timezone=self.zone, since=since, filters=ask.wanted)
        return Course(unit, _names(unit, self.zone, since or first or now, now), lines)


def _names(unit: PeriodName, zone: tzinfo, since: datetime, now: datetime) -> list[str]:
    """Every period from `since` to the present one."""
    return [each.name or "" for each in periods(unit, zone, since, now + timedelta(milliseconds=1))]
