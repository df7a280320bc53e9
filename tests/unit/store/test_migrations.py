from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from peewee import Database

from usagetap.store.database import NewerSchema, StoreError, connect
from usagetap.store.migrations import MIGRATIONS, SCHEMA_VERSION, check, migrate, version_of


def _later(db: Database) -> None:
    db.execute_sql("ALTER TABLE usage ADD COLUMN later TEXT")


def test_an_empty_database_gets_the_latest_version_once(url: str) -> None:
    db = connect(url)
    assert version_of(db) == 0
    migrate(db)
    migrate(db)
    assert version_of(db) == SCHEMA_VERSION
    assert {"usage", "instance", "refusals", "price_history"} <= set(db.get_tables())
    db.close()


def test_an_older_database_takes_the_steps_it_lacks_and_keeps_its_rows(url: str) -> None:
    db = connect(url)
    migrate(db)
    db.execute_sql("INSERT INTO refusals (host, scope, refused_at) VALUES ('h', '', 't')")
    migrate(db, [*MIGRATIONS, _later])
    assert version_of(db) == SCHEMA_VERSION + 1
    assert "later" in {column.name for column in db.get_columns("usage")}
    assert db.execute_sql("SELECT COUNT(*) FROM refusals").fetchone() == (1,)
    db.close()


def test_a_step_that_fails_leaves_the_version_it_found(url: str) -> None:
    def fails(db: Database) -> None:
        _later(db)
        raise ZeroDivisionError

    db = connect(url)
    migrate(db)
    with pytest.raises(ZeroDivisionError):
        migrate(db, [*MIGRATIONS, fails])
    assert version_of(db) == SCHEMA_VERSION
    assert "later" not in {column.name for column in db.get_columns("usage")}
    db.close()


def test_a_newer_database_is_refused_and_not_touched(url: str) -> None:
    db = connect(url)
    migrate(db, [*MIGRATIONS, _later])
    with pytest.raises(NewerSchema, match=f"has schema version {SCHEMA_VERSION + 1}.*upgrade usagetap"):
        migrate(db)
    with pytest.raises(NewerSchema):
        check(db)
    assert version_of(db) == SCHEMA_VERSION + 1
    db.close()


def test_somebody_elses_table_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "x.db") as raw:
        raw.execute("CREATE TABLE usage (what TEXT)")
    raw.close()
    db = connect(tmp_path / "x.db")
    with pytest.raises(StoreError, match="choose another file"):
        migrate(db)
    assert db.get_tables() == ["usage"]
    db.close()


def test_two_that_start_at_once_make_the_tables_once(url: str) -> None:
    failed: list[BaseException] = []
    barrier = threading.Barrier(4)

    def start() -> None:
        try:
            db = connect(url)
            barrier.wait(10)
            migrate(db)
            db.close()
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
