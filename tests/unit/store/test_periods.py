from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.store.periods import PERIODS, PeriodName, periods, utc_text

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "America/Havana", "Australia/Lord_Howe"]


def _days(zone: str, since: datetime, until: datetime, unit: PeriodName = "day") -> list[tuple[str | None, str, str]]:
    return [(p.name, p.first, p.end) for p in periods(unit, ZoneInfo(zone), since, until)]


def test_a_day_is_as_long_as_the_clocks_make_it() -> None:
    since = datetime(2025, 3, 29, 23, tzinfo=UTC)
    assert _days("Europe/Berlin", since, since + timedelta(hours=47)) == [
        ("2025-03-30", "2025-03-29T23:00:00.000Z", "2025-03-30T22:00:00.000Z"),
        ("2025-03-31", "2025-03-30T22:00:00.000Z", "2025-03-31T22:00:00.000Z"),
    ]


def test_a_midnight_that_is_skipped_or_comes_twice_begins_one_day() -> None:
    spring = _days("America/Havana", datetime(2025, 3, 9, tzinfo=UTC), datetime(2025, 3, 10, tzinfo=UTC))
    assert ("2025-03-09", "2025-03-09T05:00:00.000Z", "2025-03-10T00:00:00.000Z") in spring
    autumn = _days("America/Havana", datetime(2025, 11, 2, 4, tzinfo=UTC), datetime(2025, 11, 3, 5, tzinfo=UTC))
    assert autumn == [("2025-11-02", "2025-11-02T04:00:00.000Z", "2025-11-03T05:00:00.000Z")]


def test_weeks_begin_on_monday_and_have_their_iso_number() -> None:
    found = _days("UTC", datetime(2024, 12, 29, tzinfo=UTC), datetime(2025, 1, 6, tzinfo=UTC), "week")
    assert [name for name, _, _ in found] == ["2024-W52", "2025-W01"]
    assert found[1][1:] == ("2024-12-30T00:00:00.000Z", "2025-01-06T00:00:00.000Z")


def test_without_a_unit_there_is_one_nameless_period() -> None:
    since, until = datetime(2024, 1, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
    assert [(p.name, p.first, p.end) for p in periods(None, UTC, since, until)] == [
        (None, utc_text(since), utc_text(until))
    ]


@given(
    st.sampled_from(PERIODS),
    st.sampled_from(ZONES),
    st.datetimes(datetime(1999, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),
    st.timedeltas(timedelta(seconds=1), timedelta(days=100)),
)
def test_every_instant_is_in_exactly_the_period_of_its_wall_clock(
    unit: PeriodName, zone: str, since: datetime, length: timedelta
) -> None:
    since = since.replace(microsecond=0)
    until = (since + length).replace(microsecond=0)
    if since == until:
        return
    found = _days(zone, since, until, unit)
    assert (found[0][1], found[-1][2]) == (utc_text(since), utc_text(until))
    assert all(one[2] == other[1] for one, other in pairwise(found))
    for name, first, end in found:
        assert name is not None
        assert first < end
        for instant in (first, end):
            moment = datetime.fromisoformat(instant) - timedelta(milliseconds=instant == end)
            wall = moment.astimezone(ZoneInfo(zone))
            year, week, _ = wall.isocalendar()
            hour = wall.isoformat()[:14], wall.isoformat()[-6:]
            names = {"hour": hour, "day": f"{wall:%Y-%m-%d}", "week": f"{year}-W{week:02d}", "month": f"{wall:%Y-%m}"}
            assert names[unit] == (name if unit != "hour" else (name[:14], name[-6:]))


@pytest.mark.parametrize("unit", PERIODS)
def test_an_empty_range_has_no_periods(unit: PeriodName) -> None:
    midnight = datetime(2024, 7, 1, tzinfo=UTC)  # a Monday, and the first of a month
    assert _days("UTC", midnight, midnight, unit) == []
