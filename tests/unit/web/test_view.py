from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from usagetap.store.aggregate import Totals
from usagetap.store.dashboard_queries import Spread
from usagetap.store.queries import open_reader
from usagetap.web import view
from usagetap.web.ask import Ask, parse
from usagetap.web.board import Board, Course, Glance

from .conftest import ZONE


def test_costs_are_never_added_over_currencies() -> None:
    assert view.costs({"sats": Decimal(12), "USD": Decimal("3.5")}) == "$3.50 + 12.00 sats"
    assert view.costs({}) == "–"


def test_each_currency_has_digits_of_its_own() -> None:
    line = Totals(cost={"sats": Decimal(12), "USD": Decimal("0.0012")})
    assert view.costs(line.cost, digits=view.digits_of([line])) == "$0.001200 + 12.00 sats"


def test_a_card_says_unpriced_rather_than_zero() -> None:
    nothing, failed, unpriced = Totals(), Totals(requests=2, errors=2), Totals(requests=2, unpriced=2)
    assert view.card(Glance("Today", nothing, []), Spread()).cost == "$0.00"
    assert view.card(Glance("Today", failed, []), Spread()).cost == "–"
    card = view.card(Glance("Today", unpriced, [Totals("2025-01-01")]), Spread())
    assert card.cost == "unpriced"
    assert dict(card.facts)["Input"] == "–"
    assert dict(card.facts)["First chunk"] == "–"


def test_the_share_of_aborted_is_of_those_that_ended() -> None:
    total = Totals(requests=5, still_open=1, aborted=1, input_tokens=100, cache_read_input_tokens=25)
    facts = dict(view.card(Glance("x", total, []), Spread({0.32: 9, 2.0: 1})).facts)
    assert facts["Aborted"] == facts["Cache hits"] == "25%"
    assert facts["First chunk"] == "320 ms · p90 320 ms"


def lines(count: int) -> list[Totals]:
    return [
        Totals("2025-01-01", {"tag": f"t{number}" if number else None}, 1, cost={"USD": Decimal(number)})
        for number in range(count)
    ]


def test_groups_beyond_the_colours_are_one_series_with_nothing_lost() -> None:
    course = Course("day", ["2025-01-01", "2025-01-02"], lines(10))
    ask = Ask(by="tag")
    groups = view.groups(ask, course)
    assert [group.name for group in groups[:2]] == ["t9", "t8"]
    assert [group.colour for group in groups] == [1, 2, 3, 4, 5, 6, 7, 0, 0, 0]
    assert groups[-1].name == "untagged"
    assert parse(groups[-1].query).wanted == {"tag": (None,)}
    series = view._series(course, "tag", groups, "USD")
    assert len(series) == view.SERIES + 1
    assert series[-1]["name"] == "3 more"
    assert sum(sum(each["cost"]) for each in series) == sum(range(10))


def test_without_prices_the_bars_show_tokens() -> None:
    course = [Totals("a", input_tokens=10), Totals("b", input_tokens=5, output_tokens=5), Totals("c")]
    assert [height for _, height, _, _ in view._bars(course)] == [100, 100, 0]


def test_what_is_left_of_the_day_stays_empty() -> None:
    hours = [Totals(f"2025-01-01T{hour:02}:00+00:00", input_tokens=1) for hour in range(2)]
    card = view.card(Glance("Today", Totals(requests=2), hours), Spread())
    assert [round(x + width) for x, _, width, _ in card.bars] == [4, 8]


@pytest.mark.parametrize(
    ("unit", "name", "start"),
    [
        ("hour", "2025-10-26T02:00+01:00", "2025-10-26T02:00"),
        ("day", "2025-10-26", "2025-10-26"),
        ("week", "2026-W01", "2025-12-29"),
        ("month", "2025-10", "2025-10"),
    ],
)
def test_a_chart_can_lay_every_period_out(unit: Any, name: str, start: str) -> None:
    assert view.period_start(Course(unit, [name], []), name) == start


def test_unpriced_models_are_named_the_most_frequent_first() -> None:
    models = [
        Totals(None, {"model": name}, count, unpriced=count) for name, count in (("a", 1), ("b\x1b[m", 3), ("c", 0))
    ]
    (notice,) = view.notices(models)
    assert (notice.label, notice.text) == ("Unpriced", "4 responses not in the cost:")
    assert notice.models == (("b�[m", "3"), ("a", "1"))
    many = [Totals(None, {"model": str(name)}, 1, unpriced=1) for name in range(7)]
    assert view.notices(many)[0].rest.startswith(", 2 more models.")


def test_what_the_numbers_leave_out_is_said() -> None:
    assert view.notices([]) == []
    missing = view.notices([Totals(None, {"model": "a"}, 1, missing=1)])
    assert [notice.text[:29] for notice in missing] == ["1 response ended without usag"]
    line = Totals(None, {"model": "a"}, 1, estimated_input_tokens=9, estimated_cost={"USD": Decimal("0.02")})
    assert view.notices([line])[0].text.startswith("~9 in, ~0 out, ~$0.020: counted by us")


def test_waste_is_ordered_by_what_it_cost(database: Path, put: Any) -> None:
    put("client_disconnected", request_model="cheap")
    put("client_disconnected", request_model="dear", cost=Decimal(3))
    put(request_model="fine")
    board = Board(lambda: open_reader(database), ZONE)
    found = view.wasted(Ask(), board.scene(Ask()).waste or [])
    assert [(each.name, each.kinds[0]) for each in found] == [
        ("dear", ("1", "1,290", "$3.00")),
        ("cheap", ("1", "1,290", "$0.0012")),
    ]
    board.close()


def test_the_slow_end_of_a_rate_is_its_low_end(database: Path, put: Any) -> None:
    for tokens_out in range(1, 101):
        put(
            time_to_first_chunk=1.0,
            duration=2.0,
            usage=__import__("usagetap.model").model.Usage(output_tokens=tokens_out),
        )
    board = Board(lambda: open_reader(database), ZONE)
    (speed,) = view.speeds(board.scene(Ask()))
    assert speed.rates == ("50 tok/s", "10 tok/s", "1.0 tok/s")
    board.close()


def test_what_was_wasted_has_its_estimates_in_it_and_says_so() -> None:
    told = Totals(requests=2, input_tokens=10, output_tokens=1, cost={"USD": Decimal("0.5")})
    assert view._kind(told) == ("2", "11", "$0.50")
    guessed = Totals(requests=1, estimated_output_tokens=4, estimated_cost={"USD": Decimal("0.25")})
    assert view._kind(guessed) == ("1", "~4", "~$0.25")
    guessed.add(told)
    assert view._kind(guessed) == ("3", "~15", "~$0.75")
    assert view._kind(Totals(requests=1)) == ("1", "–", "–")  # nobody said: that is not a zero
    assert view._kind(Totals()) == ("0", "0", "–")
