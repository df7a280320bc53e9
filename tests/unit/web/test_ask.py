from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.web.ask import FILTERS, GROUPS, RANGES, STATUSES, Ask, AskError, parse

VALUES = st.one_of(st.none(), st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    names = draw(st.lists(st.sampled_from([name for name in FILTERS if name != "status"]), unique=True, max_size=4))
    filters = {name: tuple(draw(st.lists(VALUES, min_size=1, max_size=4, unique=True))) for name in names}
    if draw(st.booleans()):
        filters["status"] = (draw(st.sampled_from(STATUSES)),)
    return Ask(
        range=draw(st.sampled_from(list(RANGES))),
        by=draw(st.sampled_from(list(GROUPS))),
        filters=tuple((name, filters[name]) for name in FILTERS if name in filters),
        before=draw(st.none() | st.integers(0, 10**15)),
    )


@given(asks())
def test_an_address_says_all_that_it_asks(ask: Ask) -> None:
    assert parse(ask.query()) == ask


@given(asks(), VALUES)
def test_a_filter_that_is_put_on_can_be_taken_off(ask: Ask, value: str | None) -> None:
    with_it = ask.with_filter("tag", value)
    assert value in dict(with_it.filters)["tag"]
    assert value not in dict(with_it.without("tag", value).filters).get("tag", ())
    assert dict(ask.only("tag", value).filters)["tag"] == (value,)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("range=8d", "choose from today, 7d"),
        ("by=weather", "choose from model, provider, tag, client"),
        ("status=fine", "choose from ok, aborted, error, open"),
        ("before=x", "the id of a row"),
        ("before=%C2%B2", "the id of a row"),
        (f"tag={'x' * 501}", "at most 20 values of 500"),
        ("&".join(f"tag={number}" for number in range(21)), "at most 20 values"),
        ("&".join(f"x{number}=1" for number in range(200)), "too many fields"),
    ],
)
def test_what_there_is_not_gets_a_sentence(query: str, sentence: str) -> None:
    with pytest.raises(AskError, match=sentence):
        parse(query)


def test_foreign_fields_are_passed_over() -> None:
    assert parse("token=secret&utm_source=x") == Ask()


def test_the_filter_form_names_field_and_value_apart() -> None:
    assert parse("filter=tag&value=+x+&tag=y").wanted == {"tag": ("y", "x")}
    assert parse("filter=password&value=x") == Ask()


def test_days_begin_at_midnight_also_over_a_change_of_the_clock() -> None:
    now = datetime(2025, 3, 31, 15, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    since = Ask(range="7d").since(now)
    assert since is not None
    assert since.isoformat() == "2025-03-25T00:00:00+01:00"
    assert Ask(range="today").since(now) == datetime(2025, 3, 31, tzinfo=now.tzinfo)
    assert Ask(range="all").since(now) is None


@pytest.mark.parametrize(("days", "unit"), [(0, "hour"), (2, "hour"), (30, "day"), (300, "week"), (2000, "month")])
def test_all_there_is_is_divided_by_how_much_there_is(days: int, unit: str) -> None:
    now = datetime(2025, 3, 31, tzinfo=ZoneInfo("UTC"))
    assert Ask(range="all").unit(now - timedelta(days=days), now) == unit
