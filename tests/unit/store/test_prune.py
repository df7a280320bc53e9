from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from usagetap.model import Record
from usagetap.store.database import connect
from usagetap.store.migrations import migrate
from usagetap.store.prune import BATCH, count_old, delete_before, prune_refusals
from usagetap.store.queries import refusals
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
    assert delete_before(db, NOW - timedelta(days=30)) == 2
    assert left(db) == 2


def test_a_response_that_is_still_open_stays(db):
    put(db, [400], status="open")
    assert delete_before(db, NOW - timedelta(days=30)) == 0


def test_many_go_a_batch_at_a_time_with_their_price_history(db):
    put(db, [400] * (BATCH + 3) + [1])
    db.execute_sql("INSERT INTO price_history (usage_id, replaced_at) SELECT id, started_at FROM usage")
    assert count_old(db, NOW - timedelta(days=30)) == BATCH + 3
    told = []
    assert delete_before(db, NOW - timedelta(days=30), told.append) == BATCH + 3
    assert told == [BATCH, 3]
    assert (left(db), db.execute_sql("SELECT COUNT(*) FROM price_history").fetchone()[0]) == (1, 1)


def test_refusals_go_when_they_have_expired_or_are_too_many(db):
    def refusal(number, expires):
        at = f"2026-11-{number:02}T00:00:00.000Z"
        return {"host": f"h{number}", "scope": "", "refused_at": at, "expires_at": expires, "reason": None}

    past, future = "2026-11-19T23:59:59.999Z", "2026-11-20T00:00:00.001Z"
    write(db, [], [refusal(number, past if number > 5 else None if number == 1 else future) for number in range(1, 8)])
    assert prune_refusals(db, NOW, keep=3) == 4
    assert [row["host"] for row in refusals(db)] == ["h5", "h4", "h3"]
    assert prune_refusals(db, NOW, keep=3) == 0
