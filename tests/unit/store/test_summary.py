from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from peewee import Database, IntegrityError

from usagetap.store.aggregate import aggregate
from usagetap.store.database import connect
from usagetap.store.migrations import migrate
from usagetap.store.periods import Period
from usagetap.store.queries import open_reader
from usagetap.store.rows import to_row
from usagetap.store.summary import CLOSED, FEWEST, PAIR, cover, dimension_of
from usagetap.store.summing import catch_up
from usagetap.store.upsert import write

LATER = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = connect(tmp_path / "usage.db")
    migrate(db)
    yield db
    db.close()


def close(db: Database, level: str, first: str, last: str) -> int:
    sql = "INSERT INTO usage_closed (level, first, last, state) VALUES (?, ?, ?, ?)"
    return int(db.execute_sql(sql, (level, first, last, CLOSED)).lastrowid)


def test_the_longest_that_fit_are_taken_and_the_rest_told(db: Database) -> None:
    day = close(db, "day", "d2", "d3")
    hours = [close(db, "hour", f"d{n}", f"d{n}5") for n in (1, 2, 3)]
    wanted = [Period("a", "d0", "d3"), Period("b", "d3", "d35"), Period("c", "d36", "d4")]
    taken, rest = cover(db, wanted)
    assert taken == [(0, day), (0, hours[0]), (1, hours[2])]
    assert rest == [Period("a", "d0", "d1"), Period("a", "d15", "d2"), Period("c", "d36", "d4")]


def test_what_lies_across_a_bound_is_not_taken(db: Database) -> None:
    close(db, "hour", "d1", "d2")
    wanted = [Period(None, "d0", "d15"), Period(None, "d15", "d3")]
    assert cover(db, wanted) == ([], wanted)


@pytest.mark.parametrize(
    ("names", "dimension"),
    [
        ((), FEWEST),
        (("status",), FEWEST),
        (("model", "status"), "model"),
        (("tag", "tag"), "tag"),
        (("tag", "model", "status"), PAIR),
        (("tag", "provider"), None),
        (("key",), None),
    ],
)
def test_a_question_about_one_dimension_has_sums(names: tuple[str, ...], dimension: str | None) -> None:
    assert dimension_of(names) == dimension


def test_a_file_without_sums_is_read_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    db = connect(path)
    migrate(db)
    db.close()
    with sqlite3.connect(path) as raw:
        for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f"DROP TRIGGER {name}")
        for name in ("closed", "sums", "spreads"):
            raw.execute(f"DROP TABLE usage_{name}")
        raw.execute("PRAGMA user_version = 1")
    raw.close()
    reader = open_reader(path)
    wanted = [Period(None, "a", "b")]
    assert cover(reader, wanted) == ([], wanted)
    reader.close()
    db = connect(path)
    migrate(db)
    assert {"usage_closed", "usage_sums", "usage_spreads"} <= set(db.get_tables())
    db.close()


def _of_version_2(path: Path) -> None:
    """Make a summed file what it was when sums were binary."""
    with sqlite3.connect(path) as raw:
        (made,) = raw.execute("SELECT sql FROM sqlite_master WHERE name = 'usage_sums'").fetchone()
        raw.execute("ALTER TABLE usage_sums RENAME TO exact")
        raw.execute(re.sub(r"(\w+) CHECK \(TYPEOF\(\w+\) IN \('text', 'null'\)\)", r"\1 REAL", made))
        raw.execute("INSERT INTO usage_sums SELECT * FROM exact")
        raw.execute("DROP TABLE exact")
        raw.execute("PRAGMA user_version = 2")
    raw.close()


def test_sums_that_an_earlier_version_made_in_binary_are_not_used_and_made_anew(tmp_path: Path, record: Any) -> None:
    path, cost = tmp_path / "usage.db", Decimal("0.000000000000000001")
    db = connect(path)
    migrate(db)
    write(db, [to_row(record(n, "complete", request_model="m", currency="USD", cost=n + cost)) for n in range(3)])
    list(catch_up(db, LATER))
    db.close()
    _of_version_2(path)
    for look in (open_reader(path), connect(path)):  # as a reader of this version finds it, and before it is migrated
        assert look.execute_sql("SELECT TYPEOF(cost) FROM usage_sums").fetchone() == ("real",)
        assert aggregate(look)[0].cost == {"USD": 3 + 3 * cost}
        look.close()
    db = connect(path)
    migrate(db)
    assert db.execute_sql("SELECT COUNT(*) FROM usage_closed").fetchone() == (0,)
    list(catch_up(db, LATER))
    assert db.execute_sql("SELECT DISTINCT TYPEOF(cost) FROM usage_sums").fetchall() == [("text",)]
    assert aggregate(db)[0].cost == {"USD": 3 + 3 * cost}
    db.close()


def test_an_earlier_version_that_still_runs_writes_no_binary_sums(db: Database) -> None:
    with pytest.raises(IntegrityError):
        db.execute_sql("INSERT INTO usage_sums (dimension, closed, line, cost) VALUES ('model', 1, 1, 0.1)")


@pytest.mark.parametrize("statement", ["INSERT OR IGNORE INTO usage SELECT * FROM usage", "UPDATE usage SET turn = 1"])
def test_rows_of_any_words_can_be_written(db: Database, statement: str) -> None:
    names = "flow_id, turn, replay, instance, started_at, status, injected, stripped, retried, truncated, uid"
    for number, moment in enumerate(("", "yesterday", "2025-01-01 10:00:00", "\U0010ffff")):
        db.execute_sql(f"INSERT INTO usage ({names}) VALUES ('f', 0, 0, 'i', ?, 'ok', 0, 0, 0, 0, ?)", (moment, number))
    db.execute_sql(statement)
    assert db.execute_sql("SELECT COUNT(*) FROM usage").fetchone() == (4,)
