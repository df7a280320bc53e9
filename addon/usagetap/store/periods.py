"""Hours, days, weeks and months in the user's timezone, as ranges of UTC text that an index can be asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Literal

PeriodName = Literal["hour", "day", "week", "month"]
#: before and after every moment that a row can have, in whatever order a database sorts its text
EARLIEST, LATEST = "", "99999"
PERIODS: tuple[PeriodName, ...] = ("hour", "day", "week", "month")


@dataclass(frozen=True, slots=True)
class Period:
    """A half-open range of instants as text, `first` in and `end` out, and what people call it."""

    name: str | None
    first: str
    end: str


def utc_text(moment: datetime) -> str:
    """An aware datetime as the store writes times."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def periods(unit: PeriodName | None, zone: tzinfo, since: datetime, until: datetime) -> Iterator[Period]:
    """The periods that cover `since` up to but not including `until` (aware datetimes), the ends cut to these.

    Days are `2025-03-30`, weeks (Monday to Sunday, ISO 8601) `2025-W13`, months `2025-03`; a day is as long as it is:
    23 or 25 hours when clocks change. Hours are `2025-03-30T14:00+02:00`: the offset tells the one that comes twice
    from its twin. Without a unit the whole range is one period without a name.
    """
    if unit is None:
        yield Period(None, utc_text(since), utc_text(until))
        return
    if unit == "hour":
        yield from _hours(zone, since, until)
        return
    day = _start(unit, since.astimezone(zone).date())
    while (first := _midnight(day, zone)) < until:
        after = _next(unit, day)
        end = _midnight(after, zone)
        if end > since:
            yield Period(_name(unit, day), utc_text(max(first, since)), utc_text(min(end, until)))
        day = after


def _hours(zone: tzinfo, since: datetime, until: datetime) -> Iterator[Period]:
    # steps are made in UTC, where none is missing or comes twice; offsets, and their changes, may be of half an hour
    local = since.astimezone(zone)
    hour = (since - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)).astimezone(
        UTC
    )
    while hour < until:
        local = hour.astimezone(zone)
        after = hour + timedelta(minutes=60 - local.minute)
        yield Period(local.isoformat(timespec="minutes"), utc_text(max(hour, since)), utc_text(min(after, until)))
        hour = after


def _midnight(day: date, zone: tzinfo) -> datetime:
    # to UTC at once: aware datetimes of one zone are compared by their wall clocks. A midnight that is skipped becomes
    # the moment of the change, the first of two midnights counts (PEP 495, fold 0).
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _start(unit: PeriodName, day: date) -> date:
    if unit == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if unit == "month" else day


def _next(unit: PeriodName, day: date) -> date:
    if unit == "month":
        return (day.replace(day=28) + timedelta(days=4)).replace(day=1)
    return day + timedelta(days=7 if unit == "week" else 1)


def _name(unit: PeriodName, day: date) -> str:
    if unit == "week":
        year, week, _ = day.isocalendar()
        return f"{year}-W{week:02d}"
    return f"{day:%Y-%m}" if unit == "month" else day.isoformat()
