from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from peewee import Database

from usagetap.model import STATUS_OF_END, Record, Usage
from usagetap.store.aggregate import COUNTS, DIMENSIONS, TOKENS, Totals, aggregate, span_of_rows
from usagetap.store.database import StoreError, connect
from usagetap.store.migrations import migrate
from usagetap.store.rows import Row, to_row
from usagetap.store.upsert import write

START = datetime(2025, 3, 20, tzinfo=UTC)


def _random_row(choose: random.Random, number: int) -> Row:
    end_reason = choose.choice([None, *STATUS_OF_END, *["complete"] * 12])
    record = Record(
        uid=f"u{number}",
        flow_id=f"f{number}",
        started_at=(START + timedelta(minutes=choose.randrange(60 * 24 * 25))).timestamp(),
        status=STATUS_OF_END[end_reason] if end_reason else "open",
        end_reason=end_reason,
        request_model=choose.choice(["a", "b", "c", None]),
        response_model=choose.choice(["a", "a-1", None]),
        provider=choose.choice(["openai", "anthropic"]),
        tag=choose.choice(["x", "y", None]),
        client_address=choose.choice(["10.0.0.1", "10.0.0.2"]),
        retried=choose.random() < 0.1,
        duplicate_of=choose.choice([None] * 9 + [1]),
    )
    if end_reason:
        record.usage_quality = choose.choice(["exact"] * 5 + ["partial", "missing", "estimated"])  # type: ignore[assignment]
    if record.usage_quality in {"exact", "partial"}:
        record.usage = Usage(**{name: choose.choice([None, 0, 7, 10**6]) for name in TOKENS[:5]})
    if record.usage_quality in {"partial", "estimated"}:
        record.estimated_output_tokens = choose.randrange(100)
    if end_reason and choose.random() < 0.7:
        record.cost = Decimal(choose.randrange(10**9)).scaleb(-choose.randrange(6, 11))
        record.currency = choose.choice(["USD"] * 5 + ["EUR"])
        record.cost_source = choose.choice(["price_table"] * 5 + ["estimated"])
    return to_row(record)


def _expect(rows: list[Row], by: tuple[str, ...], unit: str | None, zone: ZoneInfo) -> dict[Any, Totals]:
    """The same, the slow way."""
    sums: dict[Any, Totals] = {}
    columns = {"key": "key_fingerprint", "host": "server_address", "client": "client_address"}
    for row in rows:
        wall = datetime.fromisoformat(row["started_at"]).astimezone(zone)
        year, week, _ = wall.isocalendar()
        period = {"day": f"{wall:%Y-%m-%d}", "week": f"{year}-W{week:02d}", "month": f"{wall:%Y-%m}", None: None}[unit]
        model = row["request_model"] if row["request_model"] is not None else row["response_model"]
        values = row | {"model": model}
        keys = {name: values[columns.get(name, name)] for name in by}
        line = Totals(period, keys, requests=1)
        once = row["duplicate_of"] is None
        line.still_open, line.ok = row["status"] == "open", row["status"] == "ok"
        line.aborted, line.errors = row["status"] == "aborted", row["status"] == "error"
        due = row["end_reason"] not in {"http_error", "connect_failed"}
        line.missing = row["status"] != "open" and row["usage_quality"] == "missing" and due
        used = row["usage_quality"] in {"exact", "partial", "estimated"}
        line.unpriced = row["status"] != "open" and used and row["cost"] is None and once
        line.estimated, line.duplicates = row["usage_quality"] == "estimated", not once
        line.retried = row["retried"]
        if once:
            for name in TOKENS:
                setattr(line, name, row[name])
            if row["cost"] is not None:
                costs = line.estimated_cost if row["cost_source"] == "estimated" else line.cost
                costs[row["currency"]] = Decimal(row["cost"])
        sums.setdefault((period, *keys.values()), Totals(period, keys)).add(line)
    return sums


@pytest.fixture(params=[1, 2])
def stored(url: str, request: pytest.FixtureRequest) -> Iterator[tuple[Database, list[Row]]]:
    choose = random.Random(request.param)
    rows = [_random_row(choose, number) for number in range(400)]
    db = connect(url)
    migrate(db)
    write(db, [dict(row) for row in rows])
    yield db, rows
    db.close()


def _same(found: list[Totals], expected: dict[Any, Totals]) -> None:
    assert {(line.period, *line.keys.values()) for line in found} == set(expected)
    assert len(found) == len(expected)
    for line in found:
        wanted = expected[(line.period, *line.keys.values())]
        for name in COUNTS + TOKENS:
            assert getattr(line, name) == getattr(wanted, name), name
        assert (line.cost, line.estimated_cost) == (wanted.cost, wanted.estimated_cost)


@pytest.mark.parametrize("by", [(), ("model",), ("status",), ("tag", "model"), ("provider", "client", "tag", "status")])
@pytest.mark.parametrize("unit", [None, "day", "week", "month"])
def test_sums_are_those_of_the_rows_one_by_one(stored: Any, by: tuple[str, ...], unit: Any) -> None:
    db, rows = stored
    zone = ZoneInfo("Europe/Berlin")  # its clocks change on the eleventh of these days
    _same(aggregate(db, by=by, period=unit, timezone=zone), _expect(rows, by, unit, zone))


@pytest.mark.parametrize("by", [("model",), ("tag",)])
def test_a_range_takes_its_first_instant_and_not_its_last(stored: Any, by: tuple[str, ...]) -> None:
    db, rows = stored
    times = sorted(row["started_at"] for row in rows)
    since, until = times[50], times[300]
    chosen = [row for row in rows if since <= row["started_at"] < until]
    found = aggregate(db, by=by, since=datetime.fromisoformat(since), until=datetime.fromisoformat(until))
    _same(found, _expect(chosen, by, None, ZoneInfo("UTC")))


@pytest.mark.parametrize(
    ("filters", "chosen"),
    [
        ({"tag": ["x"]}, lambda row: row["tag"] == "x"),
        ({"tag": ["x", None]}, lambda row: row["tag"] in {"x", None}),
        ({"tag": [None], "status": ["ok"]}, lambda row: row["tag"] is None and row["status"] == "ok"),
        ({"model": ["a", "b"]}, lambda row: (row["request_model"] or row["response_model"]) in {"a", "b"}),
        ({"provider": []}, lambda row: False),
        ({"tag": ["x' OR '1'='1"]}, lambda row: False),
    ],
)
def test_filters_choose_rows(stored: Any, filters: Any, chosen: Any) -> None:
    db, rows = stored
    expected = _expect([row for row in rows if chosen(row)], ("model",), None, ZoneInfo("UTC"))
    _same(aggregate(db, by=("model",), filters=filters), expected)


def test_lines_come_in_order_the_unknown_first(stored: Any) -> None:
    db, _ = stored
    keys = [(line.period, line.keys["tag"]) for line in aggregate(db, by=("tag",), period="month")]
    assert keys == sorted(keys, key=lambda key: (key[0], key[1] is not None, key[1]))
    assert keys[0][1] is None


def test_the_span_is_that_of_all_rows(url: str, record: Any) -> None:
    db = connect(url)
    migrate(db)
    assert span_of_rows(db) is None
    write(db, [to_row(record(number)) for number in (9, 2, 5)])
    began = datetime.fromtimestamp(1_750_000_000, UTC)
    assert span_of_rows(db) == (began + timedelta(seconds=2), began + timedelta(seconds=9))
    # as SQLite's own clock writes it, by another program's hand
    db.execute_sql("UPDATE usage SET started_at = '2026-01-31 18:00:00' WHERE flow_id = 'flow-9'")
    assert span_of_rows(db) == (began + timedelta(seconds=2), datetime(2026, 1, 31, 18, tzinfo=UTC))
    assert [line.period for line in aggregate(db, period="month", since=began)] == ["2025-06", "2026-01"]
    db.execute_sql("UPDATE usage SET started_at = 'yesterday' WHERE flow_id = 'flow-9'")
    with pytest.raises(StoreError, match="a row has started_at 'yesterday', which is no time: mend it"):
        aggregate(db)
    db.close()


def test_an_empty_database_has_no_lines(url: str) -> None:
    db = connect(url)
    migrate(db)
    assert aggregate(db, by=("model",), period="day") == []
    db.close()


def test_a_range_without_rows_has_no_lines(stored: Any) -> None:
    db, _ = stored
    assert aggregate(db, since=START + timedelta(days=900)) == []
    assert aggregate(db, until=START - timedelta(days=900)) == []


def test_nobody_said_is_not_zero(url: str) -> None:
    db = connect(url)
    migrate(db)
    write(db, [to_row(Record("u", "f", 0.0, status="ok", usage_quality="missing"))])
    (line,) = aggregate(db)
    assert (line.input_tokens, line.cost, line.missing) == (None, {}, 1)
    db.close()


def test_an_unknown_dimension_names_those_that_there_are(stored: Any) -> None:
    with pytest.raises(ValueError, match="cannot group by 'modle': choose from model, provider"):
        aggregate(stored[0], by=("modle",))


def test_every_dimension_can_be_grouped_by(stored: Any) -> None:
    db, rows = stored
    for name in DIMENSIONS:
        assert sum(line.requests for line in aggregate(db, by=(name,))) == len(rows)


def test_cents_add_up_without_binary_dust(url: str) -> None:
    db = connect(url)
    migrate(db)
    cost = {"cost": "0.1", "currency": "USD"}
    write(db, [to_row(Record(f"u{n}", "f", 0.0, status="ok", usage_quality="exact")) | cost for n in range(3)])
    (line,) = aggregate(db)
    assert line.cost == {"USD": Decimal("0.3")}
    db.close()
