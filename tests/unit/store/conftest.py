"""What the store's tests share: a place for a database, a real PostgreSQL where there is one, records, patience."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peewee import Database
from tests.postgres import Postgres, running_postgres

from usagetap.model import STATUS_OF_END, Record, Usage
from usagetap.store import writer as writing
from usagetap.store.database import connect
from usagetap.store.instance import new_id
from usagetap.store.migrations import migrate
from usagetap.store.writer import Writer

START = 1_750_000_000.0


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A real server, started for this session."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that does not exist yet (SQLite) or is empty (PostgreSQL)."""
    if request.param == "sqlite":
        return str(tmp_path / "usage.db")
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.empty()


@pytest.fixture
def db(url: str) -> Iterator[Database]:
    """That database, open, with its tables."""
    db = connect(url)
    migrate(db)
    yield db
    db.close()


def make_record(number: int = 1, end_reason: str | None = None, **fields: Any) -> Record:
    """A record as the tap would make it; ended with some usage if `end_reason` says how."""
    uid = fields.pop("uid", f"i-{number}")
    record = Record(uid=uid, flow_id=f"flow-{number}", started_at=START + number, instance="i")
    if end_reason is not None:
        record.status, record.end_reason = STATUS_OF_END[end_reason], end_reason
        record.usage, record.usage_quality = Usage(input_tokens=10, output_tokens=5), "exact"
    for name, value in fields.items():
        setattr(record, name, value)
    return record


@pytest.fixture
def record() -> Callable[..., Record]:
    return make_record


class Lines(list[str]):
    """What the writer has logged."""

    def __call__(self, _level: int, text: str) -> None:
        self.append(text)

    def about(self, words: str) -> list[str]:
        return [line for line in self if words in line]


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def start(tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Writer]]:
    """Start writers that are stopped when the test ends. A slow machine alone makes none of them stuck."""
    writers: list[Writer] = []
    monkeypatch.setattr(writing, "STUCK", 60)
    monkeypatch.setattr(writing, "STUCK_FAR", 60)

    def start(url: str | Path, **options: Any) -> Writer:
        options = {"instance": new_id(), "finish": None, "log": lines, "journal_dir": tmp_path} | options
        writers.append(Writer(str(url), **options))
        writers[-1].start()
        return writers[-1]

    yield start
    for writer in writers:
        writer.stop(5)


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """Wait until something is true that another thread or process will make true."""

    def eventually(condition: Callable[[], object], timeout: float = 15) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.005)

    return eventually
