from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from peewee import Database

from usagetap.store.rows import to_row
from usagetap.store.upsert import write, write_finish


def _rows(db: Database, columns: str) -> list[tuple[Any, ...]]:
    return list(db.execute_sql(f"SELECT {columns} FROM usage ORDER BY id").fetchall())


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("order", sorted(set(permutations(["open", "end", "end", "open"]))))
def test_an_open_and_an_end_in_any_order_any_number_of_times_are_one_ended_row(
    db: Database, record: Any, order: tuple[str, ...], together: bool
) -> None:
    shapes = {"open": lambda: to_row(record()), "end": lambda: to_row(record(end_reason="complete"))}
    rows = [shapes[what]() for what in order]
    for batch in [rows] if together else [[row] for row in rows]:
        write(db, batch)
    assert _rows(db, "uid, status, input_tokens") == [("i-1", "ok", 10)]


def test_what_is_priced_since_stays_when_an_old_journal_is_read(db: Database, record: Any) -> None:
    write(db, [to_row(record(end_reason="complete"))])
    db.execute_sql("UPDATE usage SET cost = '1.5'")
    write(db, [to_row(record(end_reason="complete"))])
    assert _rows(db, "status, cost") == [("ok", "1.5")]


def test_an_end_replaces_a_wrong_proxy_died_and_an_open_does_not(db: Database, record: Any) -> None:
    write(db, [to_row(record())])
    db.execute_sql("UPDATE usage SET status = 'error', end_reason = 'proxy_died'")
    write(db, [to_row(record())])
    assert _rows(db, "end_reason") == [("proxy_died",)]
    write(db, [to_row(record(end_reason="complete"))])
    assert _rows(db, "status, end_reason") == [("ok", "complete")]


@pytest.mark.parametrize("together", [True, False])
def test_usage_that_is_fetched_again_names_the_row_that_counted_it(db: Database, record: Any, together: bool) -> None:
    rows = [
        to_row(record(n, "complete", response_id="r", provider="openai", dialect="openai_responses")) for n in (1, 2, 3)
    ]
    for batch in [rows] if together else [[row] for row in rows]:
        write(db, batch)
    first, *others = _rows(db, "id, duplicate_of")
    assert first[1] is None
    assert [duplicate_of for _, duplicate_of in others] == [first[0], first[0]]


@pytest.mark.parametrize(
    "difference",
    [
        {"response_id": "other"},
        {"provider": "other"},
        {"input_tokens": 11},  # a server that gives every response the same id
        {"response_id": None},
        {"dialect": "openai_chat"},  # nothing there is fetched again: Ollama draws its ids out of a thousand
    ],
)
def test_other_usage_is_no_duplicate(db: Database, record: Any, difference: dict[str, Any]) -> None:
    first, second = (
        to_row(record(n, "complete", response_id="r", provider="p", dialect="openai_responses")) for n in (1, 2)
    )
    second |= difference
    write(db, [first, second])
    assert _rows(db, "duplicate_of") == [(None,), (None,)]


def test_a_row_that_counts_nothing_neither_is_nor_makes_a_duplicate(db: Database, record: Any) -> None:
    still_open = to_row(record(1, response_id="r", provider="p", dialect="openai_responses"))
    polled = to_row(record(2, "complete", response_id="r", provider="p", dialect="openai_responses"))
    polled |= {"input_tokens": None, "output_tokens": None}
    write(
        db,
        [still_open, polled, to_row(record(3, "complete", response_id="r", provider="p", dialect="openai_responses"))],
    )
    assert _rows(db, "duplicate_of") == [(None,), (None,), (None,)]


def test_a_row_read_from_a_journal_again_is_no_duplicate_of_itself(db: Database, record: Any) -> None:
    row = to_row(record(1, "complete", response_id="r", provider="p", dialect="openai_responses"))
    write(db, [dict(row)])
    write(db, [dict(row)])
    assert _rows(db, "duplicate_of") == [(None,)]


def test_a_late_price_is_added_and_never_replaces_one(db: Database, record: Any) -> None:
    rows = [to_row(record(n, "complete")) for n in (1, 2)]
    rows[1]["cost"] = "9"
    write(db, rows)
    write_finish(db, [row | {"cost": "0.5", "currency": "USD"} for row in rows])
    assert _rows(db, "cost, currency") == [("0.5", "USD"), ("9", None)]


def test_the_latest_refusal_stays(db: Database) -> None:
    refusal = {"host": "h", "scope": "", "refused_at": "2025-01-02", "reason": "new"}
    write(db, [], [refusal, refusal | {"refused_at": "2025-01-01", "reason": "old"}])
    assert db.execute_sql("SELECT refused_at, reason FROM refusals").fetchall() == [("2025-01-02", "new")]


def test_a_batch_that_fails_leaves_nothing(db: Database, record: Any) -> None:
    bad = to_row(record(2, "complete")) | {"flow_id": None}
    with pytest.raises(Exception, match=r"(?i)null"):
        write(db, [to_row(record(1)), bad])
    assert _rows(db, "uid") == []
