"""The fault table, line by line, on real files."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from usagetap.store import backing
from usagetap.store.queries import open_reader
from usagetap.store.writer import Writer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backing, "RETRY_LAST", 0.2)
    monkeypatch.setattr(backing, "LOCK_PATIENCE", 0.0)


def _uids(path: Path) -> list[str]:
    db = open_reader(path)
    try:
        return [uid for (uid,) in db.execute_sql("SELECT uid FROM usage ORDER BY uid").fetchall()]
    finally:
        db.close()


def _remove(path: Path) -> None:
    for beside in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        beside.unlink(missing_ok=True)


def test_a_lock_held_by_another_is_told_once_and_rows_wait_in_the_journal(
    path: Path, start: Callable[..., Writer], record: Any, lines: Any, eventually: Any
) -> None:
    writer = start(path)
    assert writer.flush(10)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for number in range(3):
        writer.put(record(number))
        writer.put(record(number, "complete"))
        assert writer.flush(10)
    assert writer.journals()
    eventually(lambda: lines.about("another process holds its lock"))
    other.execute("COMMIT")
    other.close()
    eventually(lambda: not writer.journals())
    assert _uids(path) == ["i-0", "i-1", "i-2"]
    eventually(lambda: lines.about("nothing was lost"))
    assert len(lines.about("cannot be written")) == len(lines.about("nothing was lost")) == 1


@pytest.mark.parametrize("replacement", [None, "empty", "an older copy"])
def test_a_file_that_is_deleted_or_replaced_while_running_is_noticed(
    path: Path, start: Callable[..., Writer], record: Any, lines: Any, replacement: str | None
) -> None:
    writer = start(path)
    mine = {"instance": writer.instance}
    writer.put(record(1, **mine))
    writer.put(record(2, **mine))
    assert writer.flush(10)
    if replacement == "an older copy":
        with sqlite3.connect(path) as source, sqlite3.connect(path.with_name("copy")) as target:
            source.backup(target)
        source.close()
        target.close()
    elif replacement == "empty":
        path.with_name("copy").touch()
    _remove(path)
    if replacement:
        path.with_name("copy").rename(path)
    writer.put(record(2, "complete", **mine))
    writer.put(record(3, **mine))
    assert writer.flush(10)
    assert _uids(path) == (["i-1", "i-2", "i-3"] if replacement == "an older copy" else ["i-2", "i-3"])
    assert len(lines.about("removed or replaced while running")) == 1
    assert len(lines) == 1


def test_what_went_into_a_file_that_was_deleted_meanwhile_goes_into_the_next(path: Path, lines: Any) -> None:
    behind = backing.Backing(str(path), "a", lines, finish=lambda row: row)
    behind.open()
    seen: list[int] = []

    def work(db: Any) -> None:
        seen.append(path.stat().st_ino)
        db.execute_sql("INSERT INTO refusals (host, scope, refused_at) VALUES ('h', '', 't')")
        if len(seen) == 1:
            _remove(path)

    assert behind.attempt(work)
    assert len(seen) == 2
    behind.close()
    db = open_reader(path)
    assert db.execute_sql("SELECT COUNT(*) FROM refusals").fetchone() == (1,)
    db.close()


def test_a_damaged_file_is_left_as_it_is_until_somebody_moves_it_away(
    path: Path, start: Callable[..., Writer], record: Any, lines: Any, eventually: Any
) -> None:
    damaged = b"not a database at all " * 500
    path.write_bytes(damaged)
    writer = start(path)
    for number in range(3):
        writer.put(record(number, "complete"))
        assert writer.flush(10)
    eventually(lambda: lines.about("it is damaged"))
    assert "move it away" in lines.about("it is damaged")[0]
    assert len(lines) == 1
    assert path.read_bytes() == damaged
    path.rename(path.with_name("damaged"))
    eventually(lambda: path.exists() and not writer.journals())
    assert _uids(path) == ["i-0", "i-1", "i-2"]


def test_a_newer_schema_is_not_written_to(
    path: Path, start: Callable[..., Writer], record: Any, lines: Any, eventually: Any
) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 99")
        raw.execute("CREATE TABLE usage (later)")
    raw.close()
    writer = start(path)
    writer.put(record(1, "complete"))
    assert writer.flush(10)
    assert writer.stop(10)
    assert [line for line in lines if "schema version 99" in line and "upgrade usagetap" in line]
    assert len(lines) == 1
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT COUNT(*) FROM usage").fetchone() == (0,)
    raw.close()
    _remove(path)  # as good as the upgrade
    again = start(path)
    eventually(lambda: path.exists() and not again.journals(of_all=True))
    assert _uids(path) == ["i-1"]


def test_neither_database_nor_journal_then_memory_and_then_the_oldest_are_lost_loudly(
    path: Path, start: Callable[..., Writer], record: Any, lines: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backing, "MEMORY_LIMIT", 50)
    folder = path.with_name("gone")
    folder.write_text("a file where the folder should be")
    writer = start(folder / "usage.db", journal_dir=folder)
    for number in range(60):
        writer.put(record(number, "complete"))
    assert writer.flush(10)
    eventually(lambda: lines.about("LOST"))
    assert writer.lost == 10
    assert len(lines.about("cannot be written either")) == 1
    folder.unlink()
    folder.mkdir()
    eventually(lambda: (folder / "usage.db").exists() and not writer.journals())
    eventually(lambda: len(_uids(folder / "usage.db")) == 50)
    assert "i-59" in _uids(folder / "usage.db")
    assert "i-9" not in _uids(folder / "usage.db")


def test_a_journal_at_its_limit_drops_what_is_new_and_counts_it(
    path: Path, start: Callable[..., Writer], record: Any, lines: Any
) -> None:
    path.write_bytes(b"damaged" * 100)
    writer = start(path, journal_limit=5_000)
    for number in range(100):
        writer.put(record(number, "complete"))
    assert writer.flush(10)
    (journal,) = writer.journals()
    assert journal.stat().st_size <= 5_000
    assert writer.lost == 100 - len(journal.read_bytes().splitlines())
    assert lines.about("LOST")


def test_a_journal_of_a_dead_process_is_read_in_by_the_next_start(
    path: Path, start: Callable[..., Writer], record: Any, eventually: Any
) -> None:
    start(path).stop(10)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    first = start(path)
    first.put(record(1))
    first.put(record(2, "complete"))
    assert first.stop(10)
    other.execute("COMMIT")
    other.close()
    assert _uids(path) == []
    second = start(path)
    eventually(lambda: not second.journals(of_all=True))
    eventually(lambda: _uids(path) == ["i-1", "i-2"])


# Each of these runs in a process of its own: what it does to itself (limits, user) must not reach the tests.
PRELUDE = """
import os, resource, sys, threading, time
from pathlib import Path
from usagetap.model import Record, Usage
from usagetap.store import backing, queries
from usagetap.store.writer import Writer
backing.RETRY_LAST = 0.2
path = Path(sys.argv[1])
lines = []
writer = Writer(str(path), instance="a", finish=None, log=lambda level, text: lines.append(text))
writer.start()
assert writer.flush(10)

def put(number):
    writer.put(Record(uid=f"a-{number}", flow_id="f", started_at=0.0, instance="a", status="ok", tag="x" * 200))
    assert writer.flush(10)

def count():
    db = queries.open_reader(path)
    try:
        return db.execute_sql("SELECT COUNT(*), COUNT(DISTINCT uid) FROM usage").fetchone()
    finally:
        db.close()

def eventually(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, lines
        time.sleep(0.01)
"""

# No file may grow beyond a size (RLIMIT_FSIZE) that the database has and a row's pages in the write-ahead log need, but
# the journal does not: SQLite gets errors as on a full disk. Then there is room again.
DISK_FULL = """
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
for number in range(40):
    put(number)
assert writer.journals(), lines
assert len([line for line in lines if "cannot be written" in line]) == 1, lines
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
eventually(lambda: not writer.journals())
assert count() == (40, 40)
assert writer.lost == 0 and writer.stop(10)
"""

# root may write everywhere, so this becomes somebody who owns nothing here
READ_ONLY = """
put(0)
for beside in path.parent.iterdir():
    beside.chmod(0o444)
path.parent.chmod(0o777)
writer.stop(10)
os.setegid(65534); os.seteuid(65534)
writer = Writer(str(path), instance="a", finish=None, log=lambda level, text: lines.append(text))
writer.start()
for number in range(1, 5):
    put(number)
assert writer.journals(), lines
assert len([line for line in lines if "cannot be written" in line]) == 1, lines
os.seteuid(0)
path.chmod(0o666)
for beside in path.parent.glob("usage.db-*"):
    beside.chmod(0o666)
os.seteuid(65534)
eventually(lambda: not writer.journals())
assert count() == (5, 5)
assert writer.stop(10)
"""


def _run(script: str, path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PRELUDE + script, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_full_disk_is_told_once_and_rows_wait_in_the_journal(path: Path) -> None:
    _run(DISK_FULL, path)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root can")
def test_a_read_only_file_is_told_once_and_rows_wait_in_the_journal() -> None:
    # not under pytest's own temporary folder, which nobody else may enter
    folder = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    folder.chmod(0o755)
    try:
        _run(READ_ONLY, folder / "usage.db")
    finally:
        shutil.rmtree(folder)
