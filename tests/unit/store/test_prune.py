from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from usagetap.model import Record
from usagetap.store.database import connect
from usagetap.store.migrations import migrate
from usagetap.store.prune import _BATCH, count_old, delete_before, prune
from usagetap.store.rows import to_row
from usagetap.store.upsert import write

NOW = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture
def db(tmp_path):
    database = connect(tmp_path / "usage.db")
    migrate(database)
    yield database
    database.close()


def put(db, ages, status="ok"):
    rows = []
    for number, age in enumerate(ages):
        started = (NOW - timedelta(days=age)).timestamp()
        rows.append(to_row(Record(uid=f"{status}-{number}", flow_id="f", started_at=started, status=status)))
    write(db, rows)


def left(db):
    return db.execute_sql("SELECT COUNT(*) FROM usage").fetchone()[0]


def test_only_what_is_older_goes(db):
    put(db, [0, 29.9, 30.1, 400])
    assert prune(db, 30, now=NOW.timestamp()) == 2
    assert left(db) == 2


def test_no_days_means_never(db):
    put(db, [4000])
    assert prune(db, 0, now=NOW.timestamp()) == 0
    assert left(db) == 1


def test_a_response_that_is_still_open_stays(db):
    put(db, [400], status="open")
    assert prune(db, 30, now=NOW.timestamp()) == 0


def test_many_go_a_batch_at_a_time_with_their_price_history(db):
    put(db, [400] * (_BATCH + 3) + [1])
    db.execute_sql("INSERT INTO price_history (usage_id, replaced_at) SELECT id, started_at FROM usage")
    assert count_old(db, NOW - timedelta(days=30)) == _BATCH + 3
    told = []
    assert delete_before(db, NOW - timedelta(days=30), told.append) == _BATCH + 3
    assert told == [_BATCH, 3]
    assert (left(db), db.execute_sql("SELECT COUNT(*) FROM price_history").fetchone()[0]) == (1, 1)
