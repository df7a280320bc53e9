from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from peewee import Database

from usagetap.store.dashboard_queries import Spread, newest, spread_since, spreads, version
from usagetap.store.queries import open_reader
from usagetap.store.rows import to_row
from usagetap.store.upsert import write

START = datetime.fromtimestamp(1_750_000_000, UTC)


def streamed(record: Any, number: int, **fields: Any) -> dict[str, Any]:
    usual = {
        "end_reason": "complete",
        "stream": True,
        "request_model": "m",
        "time_to_first_chunk": 0.5,
        "duration": 1.5,
    }
    return to_row(record(number, **(usual | fields)))


def test_seconds_and_rates_are_spread_by_model_to_two_digits(db: Database, record: Any) -> None:
    rows = [
        streamed(record, 1, time_to_first_chunk=0.12345),
        streamed(record, 2, time_to_first_chunk=0.1294),
        streamed(record, 3, time_to_first_chunk=12.345, duration=13.345),
        streamed(record, 4, request_model=None, response_model="served", time_to_first_chunk=0.0423),
        streamed(record, 5, end_reason="client_disconnected"),
        streamed(record, 6, time_to_first_chunk=None),
    ]
    write(db, rows)
    seconds = spreads(db, "time_to_first_chunk")
    assert {model: spread.counts for model, spread in seconds.items()} == {
        "m": {0.12: 2, 12.0: 1},
        "served": {0.042: 1},
    }
    rates = spreads(db, "tokens_per_second")
    assert rates["m"].counts == {3.6: 2, 5.0: 1}  # 5 tokens in 1.37655, 1.3706 and 1 seconds


@given(st.lists(st.floats(0.001, 900), min_size=1, max_size=60), st.floats(0.01, 1))
def test_a_quantile_is_the_nearest_rank(values: list[float], part: float) -> None:
    spread = Spread()
    for value in values:
        spread.add(Spread({value: 1}))
    rank = max(1, ceil(round(part * len(values), 9)))
    assert spread.quantile(part) in {sorted(values)[rank - 1], sorted(values)[min(rank, len(values) - 1)]}
    assert spread.total == len(values)


def test_nothing_has_no_quantile() -> None:
    assert Spread().quantile(0.5) is None


def test_one_pass_counts_each_row_in_every_time_that_has_it(db: Database, record: Any) -> None:
    write(db, [streamed(record, number * 3600, time_to_first_chunk=number / 10) for number in (1, 2, 3)])
    since = [START + timedelta(hours=hours - 0.5) for hours in (3, 2, 1)]
    found = spread_since(db, "time_to_first_chunk", since, {})
    assert [spread.counts for spread in found] == [{0.3: 1}, {0.2: 1, 0.3: 1}, {0.1: 1, 0.2: 1, 0.3: 1}]
    assert spread_since(db, "time_to_first_chunk", since, {"model": ["other"]})[-1].total == 0


def test_pages_follow_each_other_without_a_gap(db: Database, record: Any) -> None:
    moments = [5, 1, 3, 3, 2, 4, 3]  # rows of one moment, and rows that were written late
    write(db, [to_row(record(number, uid=f"u{place}")) for place, number in enumerate(moments)])
    seen: list[dict[str, Any]] = []
    while page := newest(db, limit=2, before_id=seen[-1]["id"] if seen else None):
        seen += page
    assert [row["started_at"] for row in seen] == sorted((row["started_at"] for row in seen), reverse=True)
    assert len({row["id"] for row in seen}) == len(moments)


def test_pages_keep_to_the_range_and_the_filters(db: Database, record: Any) -> None:
    write(db, [to_row(record(number, tag="a" if number % 2 else None)) for number in range(1, 7)])
    found = newest(
        db, limit=9, since=START + timedelta(seconds=2), until=START + timedelta(seconds=6), filters={"tag": ["a"]}
    )
    assert [row["flow_id"] for row in found] == ["flow-5", "flow-3"]
    assert len(newest(db, limit=9, filters={"tag": [None]})) == 3
    assert newest(db, limit=9, filters={"tag": []}) == []


def test_the_version_tells_that_another_connection_wrote(url: str, db: Database, record: Any) -> None:
    reader = open_reader(url)
    before = version(reader)
    assert version(reader) == before
    write(db, [to_row(record(1))])
    assert version(reader) != before
    reader.close()
