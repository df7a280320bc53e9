"""What the commands share: where the database is, which stretch of time is meant, how it is said."""

from __future__ import annotations

import importlib
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usagetap.report.periods import moment, zone_of
from usagetap.store.place import is_postgres, sqlite_path, without_password

if TYPE_CHECKING:
    from peewee import Database


def default_db() -> str:
    """Where the database is unless told otherwise: `USAGETAP_DB`, else mitmproxy's folder."""
    return os.environ.get("USAGETAP_DB") or str(Path("~/.mitmproxy/usage.db").expanduser())


def db_option[Command: Callable[..., Any]](command: Command) -> Command:
    """`--db`, the same for every command."""
    return click.option(
        "--db",
        metavar="PATH|URL",
        default=default_db,
        callback=_chosen,
        help="Database: SQLite path or URL. [default: $USAGETAP_DB, else ~/.mitmproxy/usage.db]",
    )(command)


def _chosen(_context: click.Context, _option: click.Parameter, value: str | None) -> str:
    url = value or default_db()
    if not is_postgres(url):
        _import_peewee_alone()
    return url


def _import_peewee_alone() -> None:
    """Without psycopg, which it takes along where it is installed: half of a report's time, for PostgreSQL only."""
    if {"peewee", "psycopg"}.isdisjoint(sys.modules):
        sys.modules["psycopg"] = None  # type: ignore[assignment]  # which Python takes for: not installed
        importlib.import_module("peewee")
        del sys.modules["psycopg"]


def range_options[Command: Callable[..., Any]](command: Command) -> Command:
    """`--since`, `--until` and `--timezone`, the same for every command."""
    for option in (
        click.option("--timezone", metavar="ZONE", help="Europe/Berlin, UTC, local. [default: local]"),
        click.option("--until", metavar="WHEN", help="The last day (or month, or moment) that counts."),
        click.option("--since", metavar="WHEN", help="7d, 24h, 2w, today, yesterday, 2026-01-31, 2026-01."),
    ):
        command = option(command)
    return command


@contextmanager
def opened(url: str, *, write: bool = False) -> Iterator[Database]:
    """The database, open; what goes wrong with it becomes one sentence and exit code 1."""
    from peewee import DatabaseError

    from usagetap.store.database import StoreError, what_failed

    try:
        db = _open(url, write)
        try:
            yield db
        finally:
            db.close()
    except (StoreError, DatabaseError, sqlite3.Error) as error:
        raise click.ClickException(_sentence(url, what_failed(error))) from error


def _sentence(url: str, failed: str) -> str:
    """What failed, and where, unless it says so itself; never the password of a database URL."""
    shown = without_password(url)
    if is_postgres(url):
        return f"{shown}: {failed.replace(url, shown)}"
    try:
        path = str(sqlite_path(url))
    except ValueError:
        path = url
    return failed if path in failed or url in failed else f"{shown}: {failed}"


def _open(url: str, write: bool) -> Database:
    """Open what is there; writing makes the tables new where they are old, but never a database where there is none."""
    from usagetap.store.database import StoreError, connect
    from usagetap.store.migrations import migrate
    from usagetap.store.queries import open_reader

    try:
        if not is_postgres(url) and sqlite_path(url).is_dir():
            raise StoreError(f"{url} is a folder, not a database: name the file in it")
        db = open_reader(url)
        if write:
            db.close()
            db = connect(url)
            migrate(db)
    except (OSError, ValueError) as error:
        raise StoreError(str(error)) from error
    return db


class Range:
    """`--since` and `--until` in the time zone that was asked for."""

    def __init__(self, since: str | None, until: str | None, timezone: str | None) -> None:
        self.zone = checked("--timezone", zone_of, timezone)
        now = datetime.now(self.zone)
        self.since = None if since is None else checked("--since", moment, since, now)
        self.until = None if until is None else checked("--until", _end, until, now)
        if self.since and self.until and self.since >= self.until:
            raise click.BadParameter(f"{since} is not before --until {until}", param_hint="--since")


def _end(text: str, now: datetime) -> datetime:
    return moment(text, now, end=True)


def checked[Checked](option: str, parse: Callable[..., Checked], *values: Any) -> Checked:
    """What `parse` makes of an option's value; its `ValueError` becomes a usage error that names the option."""
    try:
        return parse(*values)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from error


def say(lines: Sequence[str]) -> None:
    """Print lines as they are (click would take the colour out of a pipe that asked for it)."""
    click.echo("\n".join(lines), color=True)


def say_json(value: Any) -> None:
    """Print JSON for programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
