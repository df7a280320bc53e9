"""Connections: SQLite by path, PostgreSQL by URL; what each needs so that a `kill -9` loses and harms nothing."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peewee import Database, OperationalError, PostgresqlDatabase, SqliteDatabase

from .place import is_postgres, sqlite_path

#: how long a reader or a command waits for a lock, in milliseconds
BUSY_TIMEOUT = 5_000
#: twice SQLite's own: a report from a cold disk reads half as many pages, a lone commit stays under 100 KiB of log
PAGE_SIZE = 8_192


class StoreError(Exception):
    """The database cannot be used as it is; the text says in one sentence what is wrong and what to do."""


class NewerSchema(StoreError):
    """The database was made by a later version of usagetap."""


def connect(url: str | Path, *, read_only: bool = False, busy_timeout: int = BUSY_TIMEOUT) -> Database:
    """An open connection to a SQLite file (path or `sqlite:///…`) or a PostgreSQL database (`postgresql://…`).

    A SQLite file that does not exist is made (0600), unless `read_only`. The schema is not looked at: `migrate` does.
    Raises `StoreError` where there is no database, peewee's or the operating system's error where it cannot be opened.
    """
    url = str(url)
    database = _postgres(url) if is_postgres(url) else _sqlite(sqlite_path(url), read_only, busy_timeout)
    database.connect()
    if not isinstance(database, SqliteDatabase):  # a statement, not a startup parameter: poolers refuse those
        database.execute_sql(f"SET lock_timeout = {busy_timeout}")
    return database


@contextmanager
def within(db: Database, seconds: float) -> Iterator[None]:
    """Cut the connection to a PostgreSQL server that takes longer: one that hangs while its machine answers for it
    would be waited for without end. A SQLite file is not timed: nothing can be cut there.
    """
    if isinstance(db, SqliteDatabase) or (connection := db.connection()).broken:  # the next statement will say so
        yield
        return
    timer = threading.Timer(seconds, _cut, (connection.fileno(),))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _cut(descriptor: int) -> None:
    try:
        with socket.socket(fileno=os.dup(descriptor)) as line:
            line.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # closed already


@contextmanager
def transaction(db: Database) -> Iterator[None]:
    """A transaction for writing, not to be nested. SQLite takes the write lock at once: later it cannot wait."""
    if not isinstance(db, SqliteDatabase):
        with db.atomic():
            yield
        return
    db.execute_sql("BEGIN IMMEDIATE")
    try:
        yield
        db.execute_sql("COMMIT")
    except BaseException:
        # a full disk has rolled back already; peewee's own context would say so instead of what happened
        if db.connection().in_transaction:
            db.execute_sql("ROLLBACK")
        raise


def execute_many(db: Database, sql: str, rows: list[tuple[Any, ...]]) -> None:
    """`sql` (with `?` for each value) for every row, in one call of the driver: four times as fast as one by one."""
    if rows:
        db.connection().cursor().executemany(sql.replace("?", db.param), rows)


def _sqlite(path: Path, read_only: bool, busy_timeout: int) -> SqliteDatabase:
    if read_only:
        if not path.exists():
            raise StoreError(f"there is no database at {path}: run the proxy first, or name another with --db")
        return SqliteDatabase(_read_only_uri(path), timeout=busy_timeout / 1000, uri=True)
    # Made by us before SQLite does, for the mode: the -wal and -shm files take theirs from it. But only where there is
    # none: closing a file drops every lock of this process on it, also those of its other connections. Whoever closes
    # the database next would take itself for the last, and delete the log that we go on writing: "How to corrupt" on
    # SQLite's pages, 2.2
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    # NORMAL: a commit survives the death of the process (`kill -9`) without an fsync of its own; what a power failure
    # can cost is the last commits, never the database
    pragmas = [("page_size", PAGE_SIZE), ("journal_mode", "wal"), ("synchronous", "normal")]
    return SqliteDatabase(str(path), pragmas=pragmas, timeout=busy_timeout / 1000)


def _read_only_uri(path: Path) -> str:
    # a WAL database needs its -shm file, which cannot be made in a folder that is read-only; nobody writes there either
    frozen = not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists()
    return f"{path.as_uri()}?{'immutable=1' if frozen else 'mode=ro'}"


def _postgres(url: str) -> PostgresqlDatabase:
    scheme_less = url.split("://", 1)[1]
    try:
        return PostgresqlDatabase(
            f"postgresql://{scheme_less}", prefer_psycopg3=True, connect_timeout=3, tcp_user_timeout=10_000
        )
    except Exception as error:
        raise StoreError(f"PostgreSQL needs psycopg: pip install 'usagetap[postgres]' ({error})") from error


def what_failed(error: BaseException) -> str:
    """A database error in words for the log, with what to do where there is something to do."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, StoreError):
        return text
    if "not a database" in text or "malformed" in text:
        return f"it is damaged ({text}): move it away, or repair it with `sqlite3 FILE .recover`; it is left as it is"
    if ("locked" in text or "lock timeout" in text) and isinstance(error, OperationalError):
        return "another process holds its lock"
    return text
