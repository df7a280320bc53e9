"""Whatever is written, changed, deleted or summed in whatever order: an answer is the same with sums and without."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st
from peewee import Database

from usagetap.model import Record, Usage
from usagetap.store import aggregate as sums
from usagetap.store import dashboard_queries, queries, repeats
from usagetap.store.database import connect
from usagetap.store.migrations import migrate
from usagetap.store.prune import delete_before
from usagetap.store.rows import to_row
from usagetap.store.summing import catch_up
from usagetap.store.upsert import write

START = datetime(2025, 2, 27, tzinfo=UTC)
MINUTES = 4 * 24 * 60  # over the end of a month
ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns")

minutes = st.one_of(st.integers(0, MINUTES), st.sampled_from([0, 59, 60, 360, 1440, 2 * 1440, 2 * 1440 + 61]))
changes = st.sampled_from(
    [
        ("status", "error"),
        ("status", "ok"),
        ("cost", "0.75"),
        ("cost", None),
        ("currency", "EUR"),
        ("request_model", "c"),
        ("provider", None),
        ("request_fingerprint", "f1"),
        ("request_fingerprint", None),
        ("duplicate_of", 1),
        ("usage_quality", "missing"),
        ("output_tokens", 7),
        ("time_to_first_chunk", 0.25),
    ]
)
rows = st.tuples(
    minutes,
    st.sampled_from(["ok", "ok", "ok", "open", "aborted", "error"]),
    st.sampled_from(["a", "b", None]),
    st.sampled_from(["x", "y", None]),
    st.sampled_from([None, "f1", "f2"]),
    st.sampled_from(["0.1", "0.123456789", "3", None]),
    st.floats(0.001, 30),
)
steps = st.one_of(
    st.tuples(st.just("add"), rows),
    st.tuples(st.just("add"), rows),
    st.tuples(st.just("change"), st.integers(0, 30), changes),
    st.tuples(st.just("move"), st.integers(0, 30), minutes),
    st.tuples(st.just("delete"), st.integers(0, 30)),
    st.tuples(st.just("prune"), minutes),
    st.tuples(st.just("sum"), minutes, st.integers(1, 12)),
)


def _at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


def _row(uid: int, drawn: tuple[Any, ...]) -> dict[str, Any]:
    minute, status, model, tag, fingerprint, cost, seconds = drawn
    record = Record(uid=f"u{uid}", flow_id="f", started_at=_at(minute).timestamp(), status=status)
    record.request_model, record.response_model, record.tag = model, "served", tag
    record.provider, record.client_address = "openai" if tag else "anthropic", "10.0.0.1"
    record.request_fingerprint, record.stream = fingerprint, True
    record.time_to_first_chunk, record.duration = seconds, seconds + 2
    record.usage_quality = None if status == "open" else "exact"
    if record.usage_quality:
        record.usage = Usage(input_tokens=10**7, output_tokens=5)
        record.cost = Decimal(cost) if cost else None
        record.currency, record.cost_source = ("USD", "price_table") if cost else (None, None)
    return to_row(record)


def _do(db: Database, number: int, step: tuple[Any, ...]) -> None:
    ids = [row_id for (row_id,) in db.execute_sql("SELECT id FROM usage ORDER BY id").fetchall()]
    match step:
        case "add", drawn:
            write(db, [_row(number, drawn)])
        case "change", place, (column, value) if ids:  # as another program would, in plain SQL
            db.execute_sql(f"UPDATE usage SET {column} = ? WHERE id = ?", (value, ids[place % len(ids)]))
        case "move", place, minute if ids:
            moment = f"{_at(minute):%Y-%m-%dT%H:%M:%S}.000Z"
            db.execute_sql("UPDATE usage SET started_at = ? WHERE id = ?", (moment, ids[place % len(ids)]))
        case "delete", place if ids:
            db.execute_sql("DELETE FROM usage WHERE id = ?", (ids[place % len(ids)],))
        case "prune", minute:
            delete_before(db, _at(minute))
        case "sum", minute, count:
            list(islice(catch_up(db, _at(minute)), count))


def _answers(db: Database, zone: ZoneInfo, since: datetime, filters: dict[str, list[str | None]]) -> list[Any]:
    ask: Callable[..., Any] = sums.aggregate
    return [
        *(ask(db, by=by, filters=filters) for by in ((), ("model",), ("tag",), ("model", "status"), ("tag", "model"))),
        *(ask(db, by=("model",), period=unit, timezone=zone, since=since) for unit in ("hour", "day", "week", "month")),
        ask(db, period="day", timezone=zone, until=since, filters=filters),
        queries.waste(db, since=since, filters=filters),
        queries.waste(db, until=since),
        dashboard_queries.spreads(db, "time_to_first_chunk", since=since, filters=filters),
        dashboard_queries.spreads(db, "tokens_per_second"),
        dashboard_queries.spread_since(db, "time_to_first_chunk", [_at(MINUTES // 2), since, START], filters),
    ]


def _from_rows(db: Database, *asked: Any) -> list[Any]:
    with ExitStack() as stack:
        for module in (sums, repeats, dashboard_queries):
            stack.enter_context(patch.object(module, "cover", lambda _db, wanted, *_: ([], list(wanted))))
        return _answers(db, *asked)


@settings(max_examples=60)
@given(
    st.lists(steps, min_size=3, max_size=25),
    st.sampled_from(ZONES),
    minutes,
    st.sampled_from([{}, {"model": ["a", None]}, {"status": ["ok"]}, {"tag": ["x"]}, {"model": ["a"], "tag": [None]}]),
)
def test_answers_are_the_same_with_sums_and_without(
    done: list[tuple[Any, ...]], zone: str, since: int, filters: dict[str, list[str | None]]
) -> None:
    with TemporaryDirectory() as folder:
        db = connect(Path(folder) / "usage.db")
        migrate(db)
        db.execute_sql("PRAGMA synchronous = OFF")
        for number, step in enumerate([*done, ("sum", MINUTES, 3), *done[-3:]]):
            _do(db, number, step)
        asked = (ZoneInfo(zone), _at(since), filters)
        assert _answers(db, *asked) == _from_rows(db, *asked)
        for _ in catch_up(db, _at(3 * MINUTES)):
            pass
        assert _answers(db, *asked) == _from_rows(db, *asked)
        db.close()
