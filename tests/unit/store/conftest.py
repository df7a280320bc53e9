"""What the store's tests share: a place for a database, a real PostgreSQL where there is one, records, patience."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from usagetap.model import STATUS_OF_END, Record, Usage
from usagetap.store.instance import new_id
from usagetap.store.writer import Writer

START = 1_750_000_000.0


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a real server's database, started for this session in a temporary folder by an unprivileged user."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (extra `postgres`)")
    initdb = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
    if initdb is None:
        pytest.skip("no PostgreSQL server here: neither `initdb` on PATH nor under /usr/lib/postgresql")
    folder = Path(tempfile.mkdtemp(prefix="usagetap-pg-"))
    run: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if os.geteuid() == 0:  # the server refuses to run as root
        run |= {"user": "nobody", "env": {"PATH": os.environ["PATH"]}}
        os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    control = [str(Path(initdb).with_name("pg_ctl")), "-D", "data", "-w", "-l", "log"]
    subprocess.run(
        [initdb, "-D", "data", "-U", "tester", "-A", "trust", "-N", "-E", "UTF8", "--locale=C"], check=True, **run
    )
    subprocess.run(
        [*control, "-o", f"-p {port} -k {folder} -F -c listen_addresses=127.0.0.1", "start"], check=True, **run
    )
    try:
        yield f"postgresql://tester@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, **run)
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that does not exist yet (SQLite) or is empty (PostgreSQL)."""
    if request.param == "sqlite":
        return str(tmp_path / "usage.db")
    return empty_postgres(request.getfixturevalue("postgres_server"))


def empty_postgres(server: str) -> str:
    import psycopg

    name = f"t{new_id()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.rsplit("/", 1)[0] + f"/{name}"


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
def start(tmp_path: Path, lines: Lines) -> Iterator[Callable[..., Writer]]:
    """Start writers that are stopped when the test ends."""
    writers: list[Writer] = []

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
