from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from peewee import Database

from usagetap.store.database import connect
from usagetap.store.migrations import migrate
from usagetap.store.repeats import repeats
from usagetap.store.rows import to_row
from usagetap.store.upsert import write

START = datetime.fromtimestamp(1_750_000_000, UTC)
DAY = 86_400


@pytest.fixture
def db(url: str, record: Any) -> Iterator[Database]:
    db = connect(url)
    migrate(db)
    asked = {"request_model": "m", "request_fingerprint": "f", "server_address": "h:443", "cost": Decimal(2)}
    asked |= {"currency": "USD"}
    write(
        db,
        [
            to_row(record(number, "complete", **(asked | fields)))
            for number, fields in (
                (1, {}),
                (2, {"tag": "x"}),
                (3, {"server_address": "other:443"}),
                (4, {"request_fingerprint": None}),
                (5, {"request_fingerprint": None}),
                (6, {"duplicate_of": 1}),
                (7, {"cost": None, "currency": None}),
                (DAY, {}),
                (DAY + 1, {"cost": Decimal(3)}),
            )
        ],
    )
    yield db
    db.close()


def told(db: Database, since: float | None = None, **filters: list[str | None]) -> dict[Any, tuple[int, int, Any]]:
    moment = None if since is None else START + timedelta(seconds=since)
    return {(model, currency): tuple(rest) for model, currency, *rest in repeats(db, moment, None, filters)}


def test_the_first_of_a_day_is_none_and_those_after_it_are(db: Database) -> None:
    found = told(db)
    assert found["m", "USD"] == (2, 30, 5)
    assert found["m", None] == (1, 15, None)


def test_the_first_counts_though_it_is_not_in_the_range(db: Database) -> None:
    assert told(db, since=DAY + 0.5) == {("m", "USD"): (1, 15, 3)}


def test_filters_choose_among_the_repeats(db: Database) -> None:
    assert told(db, tag=["x"]) == {("m", "USD"): (1, 15, 2)}
    assert told(db, model=["other"]) == {}
