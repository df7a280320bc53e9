from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from peewee import Database

from usagetap.store import summing
from usagetap.store.aggregate import aggregate
from usagetap.store.database import connect
from usagetap.store.migrations import migrate
from usagetap.store.rows import to_row
from usagetap.store.summary import CLOSED, REOPENED
from usagetap.store.summing import Summing, catch_up
from usagetap.store.upsert import write

START = datetime.fromtimestamp(1_750_000_000, UTC)  # 15:06 of June 15
AFTER = START + timedelta(days=40)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = connect(tmp_path / "usage.db")
    migrate(db)
    yield db
    db.close()


def stored(db: Database, record: Callable[..., Any], *hours: float) -> None:
    rows = [to_row(record(int(hour * 3600), "complete", uid=f"u{hour}", request_model="m")) for hour in hours]
    write(db, rows)


def closed(db: Database) -> dict[str, int]:
    sql = f"SELECT level, COUNT(*) FROM usage_closed WHERE state = {CLOSED} GROUP BY level"
    return dict(db.execute_sql(sql).fetchall())


def test_what_is_over_is_closed_and_what_is_not_is_left(db: Database, record: Any) -> None:
    stored(db, record, 0, 1, 30)
    list(catch_up(db, START + timedelta(hours=1.2)))
    assert closed(db) == {"hour": 1, "quarter": 2}
    list(catch_up(db, START + timedelta(hours=31.5)))
    assert closed(db) == {"hour": 3, "quarter": 4 + 3, "day": 1}  # the second day's hours without rows need no line
    list(catch_up(db, AFTER))
    assert closed(db) == {"hour": 3, "quarter": 4 + 4, "day": 2, "month": 1}


def test_sums_are_used_where_there_are_any(db: Database, record: Any) -> None:
    stored(db, record, 0, 1, 30)
    list(catch_up(db, AFTER))
    db.execute_sql("UPDATE usage_sums SET requests = requests * 100")
    assert [line.requests for line in aggregate(db, by=("model",))] == [300]
    assert [line.requests for line in aggregate(db, by=("model", "client"))] == [3]


def test_a_late_row_opens_its_hour_and_those_after_it_that_day(db: Database, record: Any) -> None:
    stored(db, record, 0, 1, 3, 30)
    list(catch_up(db, AFTER))
    stored(db, record, 1.5)
    assert closed(db) == {"hour": 2, "quarter": 2 + 4, "day": 1}
    list(catch_up(db, AFTER))
    assert closed(db) == {"hour": 4, "quarter": 8, "day": 2, "month": 1}
    assert [line.requests for line in aggregate(db)] == [5]


def test_sums_that_were_opened_again_are_deleted(db: Database, record: Any) -> None:
    stored(db, record, 0, 30)
    list(catch_up(db, AFTER))
    db.execute_sql("DELETE FROM usage")
    assert aggregate(db) == []
    list(catch_up(db, AFTER))
    for table in ("usage_closed", "usage_sums", "usage_spreads"):
        left = (
            "WHERE closed NOT IN (SELECT id FROM usage_closed)"
            if table != "usage_closed"
            else f"WHERE state = {REOPENED}"
        )
        assert db.execute_sql(f"SELECT COUNT(*) FROM {table} {left}").fetchone() == (0,)


def test_a_row_that_comes_while_its_hour_is_summed_keeps_it_open(
    db: Database, record: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(db, record, 0)
    other, look = connect(tmp_path / "usage.db"), summing._look

    def look_and_be_overtaken(*arguments: Any) -> None:
        look(*arguments)
        stored(other, record, 0.1)

    monkeypatch.setattr(summing, "_look", look_and_be_overtaken)
    list(catch_up(db, AFTER))
    assert [line.requests for line in aggregate(db)] == [2]
    monkeypatch.undo()
    list(catch_up(db, AFTER))
    assert closed(db)["day"] == 1
    assert [line.requests for line in aggregate(db)] == [2]
    other.close()


@pytest.mark.parametrize("level", ["quarter", "day", "month"])
def test_a_row_that_comes_while_parts_are_added_up_keeps_the_whole_open(
    db: Database, record: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    stored(db, record, 0, 30)
    other, add = connect(tmp_path / "usage.db"), summing._add_up
    late = iter([0.1])

    def add_and_be_overtaken(*arguments: Any) -> None:
        if arguments[1] == level:
            monkeypatch.setattr(summing, "_add_amounts", lambda _: stored(other, record, *islice(late, 1)))
        add(*arguments)

    monkeypatch.setattr(summing, "_add_up", add_and_be_overtaken)
    list(catch_up(db, AFTER))
    assert next(late, None) is None
    assert [line.requests for line in aggregate(db)] == [3]
    monkeypatch.undo()
    list(catch_up(db, AFTER))
    assert [line.requests for line in aggregate(db)] == [3]
    assert closed(db)["month"] == 1
    other.close()


def test_what_was_claimed_by_one_that_died_is_summed_by_the_next(
    db: Database, record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    stored(db, record, 0, 1, 30)
    monkeypatch.setattr(summing, "_look", die)
    with pytest.raises(KeyboardInterrupt):
        list(catch_up(db, AFTER))
    monkeypatch.undo()
    assert [line.requests for line in aggregate(db)] == [3]
    list(catch_up(db, AFTER))
    assert closed(db) == {"hour": 3, "quarter": 8, "day": 2, "month": 1}
    assert [line.requests for line in aggregate(db)] == [3]


def test_a_failure_is_told_and_not_the_end(tmp_path: Path, eventually: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "usage.db").write_bytes(b"not a database at all, though it is long enough to be taken for one" * 20)
    monkeypatch.setattr(summing, "FIRST", 0.0)
    told: list[str] = []
    thread = Summing(str(tmp_path / "usage.db"), told.append)
    thread.start()
    eventually(lambda: told)
    assert thread._thread.is_alive()
    thread.stop()
    assert "sums of what is over have to wait: it is damaged" in told[0]


def test_times_that_are_none_stop_nothing(db: Database, record: Any) -> None:
    stored(db, record, 0, 30)
    for number, moment in enumerate(("", "0", "2025-06-16 10:00:00", "yesterday", "2025-13-01T00:00:00.000Z")):
        write(db, [to_row(record(number, uid=f"odd{number}")) | {"started_at": moment}])
    list(catch_up(db, AFTER))
    assert closed(db)["day"] >= 2


def test_two_that_sum_one_file_do_not_count_anything_twice(db: Database, record: Any, tmp_path: Path) -> None:
    stored(db, record, *range(0, 60, 3))

    def sum_too() -> None:
        mine = connect(tmp_path / "usage.db")
        list(catch_up(mine, AFTER))
        mine.close()

    threads = [threading.Thread(target=sum_too) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    list(catch_up(db, AFTER))
    assert [line.requests for line in aggregate(db)] == [20]
    assert closed(db)["month"] == 1


def test_the_thread_sums_and_ends(
    db: Database, record: Any, tmp_path: Path, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summing, "FIRST", 0.0)
    stored(db, record, 0, 30)
    thread = Summing(str(tmp_path / "usage.db"), pytest.fail)
    thread.start()
    eventually(lambda: closed(db).get("month"))
    thread.stop()
    assert not thread._thread.is_alive()


def test_no_database_is_made_by_looking_for_one(tmp_path: Path) -> None:
    Summing(str(tmp_path / "usage.db"), pytest.fail)._round()
    assert not (tmp_path / "usage.db").exists()


def test_with_postgresql_there_is_nothing_to_do() -> None:
    thread = Summing("postgresql://localhost/usage", pytest.fail)
    thread.start()
    thread.stop()
