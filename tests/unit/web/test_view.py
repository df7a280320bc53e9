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


@pytest.mark.parametrize(
    ("part", "text"), [(None, "–"), (0, "0 %"), (0.004, "0.4 %"), (0.12, "12 %"), (0.0996, "10 %"), (1, "100 %")]
)
def test_shares(part: float | None, text: str) -> None:
    assert view.percent(part) == text


def test_costs_are_never_added_over_currencies() -> None:
    assert view.costs({"sats": Decimal(12), "USD": Decimal("3.5")}) == "$3.50 + 12.00 sats"
    assert view.costs({}) == "–"


def test_a_card_says_unpriced_rather_than_zero() -> None:
    nothing, unpriced = Totals(), Totals(requests=2, unpriced=2)
    assert view.card(Glance("Today", nothing, []), Spread()).cost == "$0.00"
    card = view.card(Glance("Today", unpriced, [Totals("2025-01-01")]), Spread())
    assert card.cost == "unpriced"
    assert dict(card.facts)["Tokens in"] == "–"
    assert dict(card.facts)["First chunk"] == "–"


def test_the_share_of_aborted_is_of_those_that_ended() -> None:
    total = Totals(requests=5, still_open=1, aborted=1, input_tokens=100, cache_read_input_tokens=25)
    facts = dict(view.card(Glance("x", total, []), Spread({0.32: 9, 2.0: 1})).facts)
    assert facts["Aborted"] == facts["Cache hits"] == "25 %"
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
    (sentence,) = view.notices(models)
    assert sentence.startswith("4 responses have no price and no share in the cost: b�[m (3), a (1).")
    assert view.notices([Totals(None, {"model": "a"}, 1, missing=1)])[0].startswith("1 response ended without usage")
    assert view.notices([]) == []


def test_waste_is_ordered_by_what_it_cost(database: Path, put: Any) -> None:
    put("client_disconnected", request_model="cheap")
    put("client_disconnected", request_model="dear", cost=Decimal(3))
    put(request_model="fine")
    board = Board(lambda: open_reader(database), ZONE)
    found = view.wasted(Ask(), board.scene(Ask()).waste or [])
    assert [(each.name, each.kinds[0]) for each in found] == [
        ("dear", ("1", "$3.00", "")),
        ("cheap", ("1", "<$0.01", "")),
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
