from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.report.periods import moment, zone_of

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 20, 15, 30, tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("today", "2026-11-20", "2026-11-21"),
        ("yesterday", "2026-11-19", "2026-11-20"),
        ("1d", "2026-11-20", "2026-11-20"),
        ("7d", "2026-11-14", "2026-11-14"),
        ("2w", "2026-11-07", "2026-11-07"),
        ("2026-11-03", "2026-11-03", "2026-11-04"),
        ("2026-10", "2026-10-01", "2026-11-01"),
        ("2025-12", "2025-12-01", "2026-01-01"),
    ],
)
def test_days_and_months_begin_and_end_at_the_readers_midnight(text, start, end):
    assert moment(text, NOW) == datetime.fromisoformat(start).replace(tzinfo=BERLIN)
    assert moment(text, NOW, end=True) == datetime.fromisoformat(end).replace(tzinfo=BERLIN)


def test_hours_are_exact_also_when_clocks_change():
    after = datetime(2026, 10, 25, 12, tzinfo=BERLIN)  # 25 hours long
    assert after.astimezone(UTC) - moment("24h", after).astimezone(UTC) == timedelta(hours=24)
    assert moment("90min", NOW) == NOW - timedelta(minutes=90)
    assert moment("2026-11-01T18:00", NOW) == datetime(2026, 11, 1, 18, tzinfo=BERLIN)
    assert moment("2026-11-01T18:00Z", NOW) == datetime(2026, 11, 1, 18, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "soon", "7", "d", "2026-13-01", "2026-02-30", "999999w", "7 days ago", "-7d"])
def test_a_bad_date_gets_one_line_that_says_what_is_understood(text):
    with pytest.raises(ValueError, match=r"write 7d, 24h, 2w, today, yesterday, 2026-01-31") as caught:
        moment(text, NOW)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=20))
def test_any_text_is_a_moment_or_a_sentence(text):
    try:
        found = moment(text, NOW)
    except ValueError as error:
        said = str(error)
        found = None
    assert found.tzinfo is not None if found else "write" in said


def test_zones():
    assert zone_of("Europe/Berlin") == BERLIN
    assert zone_of("utc") is UTC
    with pytest.raises(ValueError, match="did you mean Europe/Berlin"):
        zone_of("Europe/Berlln")
    with pytest.raises(ValueError, match="unknown time zone '/etc/passwd'; write one such as"):
        zone_of("/etc/passwd")


def test_the_local_zone_is_tz_where_it_is_set(monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    assert zone_of(None) == ZoneInfo("America/New_York")
    monkeypatch.setenv("TZ", "nonsense")
    assert zone_of("local") is not None
