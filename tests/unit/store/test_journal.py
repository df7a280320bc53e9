from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peewee import Database

from usagetap.store.database import connect
from usagetap.store.journal import Entry, Journal, parse, take_in
from usagetap.store.migrations import migrate
from usagetap.store.place import Place
from usagetap.store.rows import to_row


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, "usage.db")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = connect(tmp_path / "usage.db")
    migrate(db)
    yield db
    db.close()


def _count(db: Database) -> int:
    return int(db.execute_sql("SELECT COUNT(*) FROM usage").fetchone()[0])


def _entries(record: Any, count: int) -> list[Entry]:
    return [Entry(to_row(record(n, "complete"))) for n in range(count)]


def test_an_entry_survives_its_line(record: Any) -> None:
    entry = Entry(to_row(record(1, "complete", stream=True, finish_reasons=["stop", None])), finished=False)
    assert parse(entry.line()) == entry
    refusal = Entry({"host": "h", "scope": "", "refused_at": "t"}, "refusals")
    assert parse(refusal.line()) == refusal


def test_a_journal_is_read_in_once_and_removed(place: Place, db: Database, record: Any) -> None:
    journal = Journal(place, "a")
    journal.append(_entries(record, 250))
    journal.seal()
    journal.append(_entries(record, 251))
    assert [path.name for path in journal.pending()] == ["usage.db.journal-a.000001.jsonl", "usage.db.journal-a.jsonl"]
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    for path in journal.pending():
        list(take_in(db, path, print))
    assert _count(db) == 251
    assert journal.pending() == []


def test_a_reading_that_is_cut_anywhere_is_begun_again(place: Place, db: Database, record: Any) -> None:
    journal = Journal(place, "a")
    journal.append(_entries(record, 350))
    for steps in range(4):
        reading = take_in(db, journal.path, print)
        for _ in range(steps):
            next(reading)
        reading.close()
        assert journal.path.exists()
    list(take_in(db, journal.path, print))
    assert _count(db) == 350
    assert not journal.path.exists()


def test_a_torn_last_line_is_dropped_and_other_damage_is_kept_aside(place: Place, db: Database, record: Any) -> None:
    journal, said = Journal(place, "a"), list[str]()
    journal.append(_entries(record, 2))
    with journal.path.open("ab") as file:
        file.write(b'{"v":1,"table":"usage","finished":true,"row":{"uid":"x"}}\n\xff\n')
        file.write(_entries(record, 1)[0].line()[:-30])
    list(take_in(db, journal.path, said.append))
    assert _count(db) == 2
    assert journal.path.with_name(journal.path.name + ".damaged").read_bytes().endswith(b'"row":{"uid":"x"}}\n\xff\n')
    assert said == [f"{journal.path}: 2 lines cannot be read and are kept in {journal.path.name}.damaged"]


def test_a_later_versions_journal_is_left_for_it(place: Place, db: Database) -> None:
    path, said = place.journal("a"), list[str]()
    path.write_bytes(b'{"v":2,"rows":[]}\n')
    list(take_in(db, path, said.append))
    assert path.exists()
    assert "later usagetap" in said[0]


def test_what_was_journaled_unpriced_is_priced_when_it_is_read(place: Place, db: Database, record: Any) -> None:
    journal = Journal(place, "a")
    journal.append([Entry(to_row(record(n, "complete")), finished=bool(n)) for n in (0, 1)])
    list(take_in(db, journal.path, print, lambda row: row | {"cost": "2"}))
    assert db.execute_sql("SELECT cost FROM usage ORDER BY uid").fetchall() == [("2",), (None,)]


def test_it_stops_at_its_limit_sealed_files_included_and_says_how_many_had_no_room(place: Place, record: Any) -> None:
    entries = _entries(record, 10)
    journal = Journal(place, "a", limit=sum(len(entry.line()) for entry in entries[:7]))
    assert journal.append(entries[:4]) == 0
    journal.seal()
    assert journal.append(entries[4:]) == 3
    assert journal.append(entries[:1]) == 1


def test_an_append_that_fails_half_way_adds_nothing(place: Place, record: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    journal = Journal(place, "a")
    journal.append(_entries(record, 1))
    before, write = journal.path.read_bytes(), os.write
    monkeypatch.setattr(os, "write", lambda fd, content: write(fd, content[: len(content) // 2]))
    with pytest.raises(OSError, match="No space"):
        journal.append(_entries(record, 3))
    assert journal.path.read_bytes() == before
