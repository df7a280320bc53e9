from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from peewee import DatabaseError, OperationalError

from usagetap.store.database import NewerSchema, StoreError, connect, what_failed
from usagetap.store.migrations import migrate


def test_everything_is_for_the_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        db = connect(tmp_path / "u.db")
        migrate(db)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        db.close()
    finally:
        os.umask(before)
    assert modes == {"u.db": 0o600, "u.db-wal": 0o600, "u.db-shm": 0o600}


def test_a_reader_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="run the proxy first"):
        connect(tmp_path / "u.db", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    connect(tmp_path / "u.db").close()
    db = connect(tmp_path / "u.db", read_only=True)
    with pytest.raises(OperationalError, match="readonly"):
        db.execute_sql("CREATE TABLE x (y)")
    db.close()


def test_a_second_connection_does_not_cost_the_first_its_lock(tmp_path: Path) -> None:
    """Or another process that comes and goes takes itself for the last, and deletes the log that we write."""
    path = tmp_path / "u.db"
    first = connect(path)
    first.execute_sql("CREATE TABLE x (y)")
    connect(path).close()
    look = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); print(*db.execute('SELECT COUNT(*) FROM x'));"
    for count in range(2):
        seen = subprocess.run([sys.executable, "-c", look + "db.close()", path], capture_output=True, check=True)
        assert seen.stdout == b"(%d,)\n" % count
        first.execute_sql("INSERT INTO x VALUES (1)")
    first.close()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DatabaseError("file is not a database"), "move it away"),
        (OperationalError("database is locked"), "another process holds its lock"),
        (NewerSchema("upgrade"), "upgrade"),
        (OSError(28, "No space left on device"), "No space left"),
        (ValueError(""), "ValueError"),
    ],
)
def test_a_failure_is_told_in_one_line(error: Exception, words: str) -> None:
    assert words in what_failed(error)
    assert "\n" not in what_failed(error)
