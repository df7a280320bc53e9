from contextlib import closing
from dataclasses import replace
from decimal import Decimal

import pytest

from usagetap.launch.summary import summary
from usagetap.model import Record, Usage
from usagetap.store.database import connect
from usagetap.store.migrations import migrate
from usagetap.store.rows import to_row

DONE = Record(
    uid="a-1",
    flow_id="f",
    started_at=1.0,
    instance="mine",
    status="ok",
    end_reason="complete",
    duration=1.5,
    response_model="gpt-x",
    usage=Usage(input_tokens=1200, output_tokens=34, cache_read_input_tokens=1000),
    usage_quality="exact",
    cost=Decimal("0.0012"),
    currency="USD",
)
LEFT = replace(
    DONE, uid="a-2", started_at=2.0, status="aborted", end_reason="client_disconnected", usage=Usage(), cost=None
)


@pytest.fixture
def database(tmp_path):
    """A database in which process 42 was three instances, one after the other, and process 43 is a fourth."""
    path = str(tmp_path / "usage.db")
    with closing(connect(path)) as db:
        migrate(db)
        for name, pid, started in (("old", 42, "2025"), ("mine", 42, "2026"), ("other", 43, "2027")):
            db.execute_sql(
                "INSERT INTO instance (id, pid, host, version, started_at, heartbeat_at)"
                " VALUES (?, ?, 'h', '0', ?, '')",
                (name, pid, started),
            )
    return path


def insert(path, *records):
    with closing(connect(path)) as db:
        for record in records:
            row = to_row(record)
            marks = ", ".join("?" * len(row))
            db.execute_sql(f"INSERT INTO usage ({', '.join(row)}) VALUES ({marks})", list(row.values()))


def test_only_the_rows_of_this_run(database, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    insert(database, DONE, LEFT, replace(DONE, uid="b", instance="old", response_model="from an older run"))
    lines = summary(database, 42).splitlines()
    assert "older run" not in "".join(lines)
    assert lines[2].split() == ["gpt-x", "1,200", "1,000", "34", "$0.0012", "1.5", "s", "ok"]
    assert lines[3].endswith("aborted: client_disconnected")
    assert lines[-1].split()[:5] == ["2", "responses", "≥1,200", "≥1,000", "≥34"]
    assert "unpriced" not in lines[-1]  # nothing is known of the one that was left


def test_one_response_needs_no_total(database):
    insert(database, DONE)
    assert len(summary(database, 42).splitlines()) == 3


def test_unknown_is_not_nought(database):
    insert(database, LEFT)
    assert summary(database, 42).splitlines()[2].split()[1:6] == ["?", "?", "?", "1.5", "s"]


def test_what_was_counted_and_has_no_price_is_named(database):
    insert(database, DONE, replace(DONE, uid="a-2", cost=None))
    *_, unpriced, _, sums = summary(database, 42).splitlines()
    assert "unpriced" in unpriced
    assert sums.split()[-3:] == ["$0.0012", "1", "unpriced"]


def test_a_lower_bound_says_so(database):
    insert(database, replace(DONE, usage_quality="partial"))
    assert "≥34" in summary(database, 42)


def test_an_estimate_stands_in_only_where_nothing_was_said(database):
    guessed = {"estimated_input_tokens": 77, "estimated_output_tokens": 8, "cost_source": "estimated"}
    insert(database, replace(LEFT, cost=Decimal(3), **guessed), replace(DONE, uid="c", **guessed))
    first, second = (line.split() for line in summary(database, 42).splitlines()[2:4])
    assert first[1:4] == ["1,200", "1,000", "34"]
    assert second[1:5] == ["~77", "?", "~8", "~$3.00"]


def test_currencies_are_not_added_up(database):
    insert(database, DONE, replace(DONE, uid="c", cost=Decimal(2), currency="EUR"))
    assert "$0.0012 + €2.00" in summary(database, 42)


def test_usage_that_was_fetched_twice_counts_once(database):
    insert(database, DONE, replace(DONE, uid="a-2", duplicate_of=1))
    assert summary(database, 42).splitlines()[-1].split() == ["2", "responses", "1,200", "1,000", "34", "$0.0012"]


def test_nothing_to_show_is_a_sentence(database, tmp_path):
    assert summary(database, 43) == "usagetap: no model was called through the proxy."
    assert summary(database, 44) == "usagetap: no model was called through the proxy."
    assert str(tmp_path / "none.db") in summary(str(tmp_path / "none.db"), 42)
