from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from peewee import Database

from usagetap.store import queries
from usagetap.store.database import StoreError
from usagetap.store.queries import (
    by_flow,
    by_id,
    each_row,
    open_reader,
    recent,
    refusals,
    waste,
)
from usagetap.store.rows import from_row, to_row
from usagetap.store.upsert import write


def test_a_reader_reads_while_the_writer_writes(url: str, db: Database, record: Any) -> None:
    write(db, [to_row(record(1))])
    reader = open_reader(url)
    with db.atomic():
        db.execute_sql("UPDATE usage SET status = 'ok'")
        assert [row["status"] for row in recent(reader)] == ["open"]
    assert [row["status"] for row in recent(reader)] == ["ok"]
    reader.close()


def test_an_empty_file_and_a_foreign_one_get_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreError, match="run the proxy with it once"):
        open_reader(tmp_path / "empty.db")
    with sqlite3.connect(tmp_path / "later.db") as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.raises(StoreError, match=r"schema version 99.*upgrade usagetap"):
        open_reader(tmp_path / "later.db")


def test_recent_rows_backwards_and_what_follows_forwards(db: Database, record: Any) -> None:
    write(db, [to_row(record(n)) for n in range(5)])
    ids = [row["id"] for row in recent(db, 3)]
    assert ids == sorted(ids, reverse=True)
    assert [row["uid"] for row in recent(db, 3)] == ["i-4", "i-3", "i-2"]
    assert [row["uid"] for row in recent(db, 2, after_id=ids[-1] - 1)] == ["i-2", "i-3"]
    assert [row["uid"] for row in recent(db, after_id=ids[0])] == []


def test_a_flow_is_found_by_its_id_or_the_beginning_of_it(db: Database, record: Any) -> None:
    write(db, [to_row(record(n, flow_id=flow)) for n, flow in enumerate(["abc", "abd", "abc", "ab%"])])
    assert [row["uid"] for row in by_flow(db, "abc")] == ["i-0", "i-2"]
    assert len(by_flow(db, "ab")) == 4
    assert [row["flow_id"] for row in by_flow(db, "ab%")] == ["ab%"]
    row_id = by_flow(db, "abd")[0]["id"]
    assert (by_id(db, row_id) or {})["uid"] == "i-1"
    assert by_id(db, row_id + 100) is None


def test_each_row_once_in_chunks_whatever_is_written_meanwhile(
    db: Database, record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "_CHUNK", 3)
    write(db, [to_row(record(n, tag="x" if n % 2 else None)) for n in range(10)])
    rows = each_row(db)
    first = next(rows)
    write(db, [to_row(record(10))])
    assert [first["uid"], *(row["uid"] for row in rows)] == [f"i-{n}" for n in range(11)]
    assert [row["uid"] for row in each_row(db, filters={"tag": ["x"]})] == [f"i-{n}" for n in (1, 3, 5, 7, 9)]
    moment = datetime.fromtimestamp(1_750_000_008, UTC)
    assert [row["uid"] for row in each_row(db, since=moment, filters={"tag": [None]})] == ["i-8", "i-10"]
    assert from_row(first).uid == "i-0"


def test_refusals_are_listed_the_latest_first(db: Database) -> None:
    write(db, [], [{"host": host, "scope": "", "refused_at": f"2025-01-0{n}"} for n, host in enumerate("abc", 1)])
    assert [row["host"] for row in refusals(db)] == ["c", "b", "a"]
    assert set(refusals(db)[0]) == {"host", "scope", "refused_at", "expires_at", "reason"}


def test_waste_is_what_was_aborted_failed_or_had_before(db: Database, record: Any) -> None:
    usd = {"currency": "USD", "request_model": "m"}
    same = usd | {"request_fingerprint": "f", "server_address": "h:1"}
    records = [
        record(1, "complete", cost=Decimal("1"), **same),
        record(2, "complete", cost=Decimal("2"), **same),
        record(3, "complete", cost=Decimal("4"), **same | {"server_address": "h:2"}),
        record(4, "client_disconnected", cost=Decimal("8"), **same),
        record(5, "upstream_error", cost=Decimal("16"), **usd),
        record(6, "complete", **usd),
        record(7, "complete", **usd),
    ]
    records[5].usage.cache_read_input_tokens = 7
    write(db, [to_row(each) for each in records])
    (line,) = waste(db)
    assert (line.model, line.repeated, line.repeated_tokens, line.repeated_cost) == ("m", 1, 15, {"USD": Decimal(2)})
    assert (line.aborted.cost, line.errors.cost) == ({"USD": Decimal(8)}, {"USD": Decimal(16)})
    assert line.total.requests == 7
    assert line.cache_hit_rate == 0.1
