"""Every sum of money equals the decimal sum of the rows' own costs to the last digit, however far it was summed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, localcontext
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peewee import Database
from tests.postgres import Postgres, running_postgres

from usagetap.model import Record, Usage
from usagetap.report import summary, waste
from usagetap.store.aggregate import aggregate
from usagetap.store.database import connect
from usagetap.store.migrations import migrate
from usagetap.store.queries import waste as wasted
from usagetap.store.rows import Row, to_row
from usagetap.store.summing import catch_up
from usagetap.store.upsert import write

START = datetime(2025, 2, 27, tzinfo=UTC)
MINUTES = 4 * 24 * 60  # over the end of a month
LATER = START + timedelta(minutes=3 * MINUTES)
BY = ((), ("model",), ("tag",), ("provider", "status"), ("tag", "model"), ("key", "client", "tag"))
#: more than any sum of these amounts has
_EXACT = Context(prec=200)

amounts = st.one_of(
    st.decimals(0, 10**9, allow_nan=False, places=9),
    st.decimals(0, 1, places=18),
    st.floats(0, 1e4).map(lambda number: Decimal(repr(number))),  # as providers send them
    st.sampled_from([Decimal(0), Decimal("1e-30"), Decimal("9" * 30), Decimal("0.1"), Decimal(10**14 + 1)]),
)


@st.composite
def rows(draw: st.DrawFn) -> list[Row]:
    found = []
    for number in range(draw(st.integers(2, 25))):
        started_at = (START + timedelta(minutes=draw(st.integers(0, MINUTES)))).timestamp()
        record = Record(uid=f"u{number}", flow_id=f"f{number}", started_at=started_at)
        record.status, record.end_reason = draw(
            st.sampled_from([("ok", "complete")] * 4 + [("error", "upstream_error")])
        )
        record.request_model = draw(st.sampled_from(["a", "b", None]))
        record.tag, record.key_fingerprint = draw(st.sampled_from([("x", "k"), ("y", "k"), (None, None)]))
        record.provider, record.client_address, record.server_address = "openai", "10.0.0.1", "api.openai.com:443"
        record.request_fingerprint = draw(st.sampled_from([None, "f1"]))
        record.usage, record.usage_quality = Usage(input_tokens=10, output_tokens=5), "exact"
        record.cost = draw(st.one_of(st.none(), amounts, amounts, amounts))
        if record.cost is not None:
            record.currency = draw(st.sampled_from(["USD", "USD", "sats"]))
            record.cost_source = draw(st.sampled_from(["price_table", "provider", "estimated"]))
        record.duplicate_of = draw(st.sampled_from([None] * 5 + [1]))
        found.append(to_row(record))
    return found


def _add(costs: dict[Any, Decimal], key: Any, cost: str) -> None:
    with localcontext(_EXACT):
        costs[key] = costs.get(key, Decimal(0)) + Decimal(cost)


def _expected(stored: Sequence[Row], key_of: Callable[[Row], Any]) -> dict[Any, Decimal]:
    """By key, whether it is an estimate, and currency: the sum of what counts."""
    costs: dict[Any, Decimal] = {}
    for row in stored:
        if row["cost"] is not None and row["duplicate_of"] is None:
            _add(costs, (key_of(row), row["cost_source"] == "estimated", row["currency"]), row["cost"])
    return costs


def _repeated(stored: Sequence[Row]) -> dict[Any, Decimal]:
    """By model and currency: what the second and later of a day's equal requests cost."""
    costs: dict[Any, Decimal] = {}
    days: set[str] = set()
    order = {row["uid"]: number for number, row in enumerate(stored)}
    for row in sorted(stored, key=lambda row: (row["started_at"], order[row["uid"]])):
        if row["request_fingerprint"] is None or row["status"] != "ok" or row["duplicate_of"] is not None:
            continue
        if row["started_at"][:10] in days and row["cost"] is not None:
            _add(costs, (row["request_model"], row["currency"]), row["cost"])
        days.add(row["started_at"][:10])
    return costs


_COLUMNS = {"model": "request_model", "key": "key_fingerprint", "client": "client_address"}


def _check(db: Database, stored: Sequence[Row]) -> None:
    for by in BY:
        found = {}
        lines = aggregate(db, by=by)
        for line in lines:
            for estimated, costs in ((False, line.cost), (True, line.estimated_cost)):
                found |= {((*line.keys.values(),), estimated, name): amount for name, amount in costs.items()}
        assert found == _expected(stored, lambda row, by=by: tuple(row[_COLUMNS.get(name, name)] for name in by))
        # and what a user is shown of them
        told = summary.as_json(summary.Summary("total", by, UTC, None, None, lines))["total"]
        shown = {(0, kind != "cost", name): Decimal(text) for kind in _KINDS for name, text in told[kind].items()}
        assert shown == _expected(stored, lambda _: 0)
    days = {
        (line.period, estimated, name): amount
        for line in aggregate(db, by=("model",), period="day")
        for estimated, costs in ((False, line.cost), (True, line.estimated_cost))
        for name, amount in costs.items()
        if line.keys["model"] == "a"
    }
    assert days == _expected([row for row in stored if row["request_model"] == "a"], lambda row: row["started_at"][:10])
    again = json.loads(json.dumps(waste.as_json(wasted(db))))
    assert {
        (each["model"], name): Decimal(text) for each in again for name, text in each["repeated"]["cost"].items()
    } == _repeated(stored)


_KINDS = ("cost", "estimated_cost")


@settings(max_examples=60)
@given(rows(), rows(), st.integers(0, MINUTES), st.integers(1, 6))
def test_on_sqlite_summed_half_summed_and_not(stored: list[Row], late: list[Row], minute: int, steps: int) -> None:
    with TemporaryDirectory() as folder, closing(connect(Path(folder) / "usage.db")) as db:
        migrate(db)
        db.execute_sql("PRAGMA synchronous = OFF")
        write(db, [dict(row) for row in stored])
        _check(db, stored)
        list(islice(catch_up(db, START + timedelta(minutes=minute)), steps))
        _check(db, stored)
        list(catch_up(db, LATER))
        _check(db, stored)
        both = stored + [row | {"uid": f"late-{row['uid']}"} for row in late]
        write(db, [dict(row) for row in both[len(stored) :]])
        _check(db, both)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@settings(max_examples=25, deadline=None)
@given(stored=rows())
def test_on_postgresql(postgres: Postgres, stored: list[Row]) -> None:
    with closing(connect(postgres.url)) as db:
        migrate(db)
        db.execute_sql("DELETE FROM usage")
        write(db, [dict(row) for row in stored])
        _check(db, stored)
