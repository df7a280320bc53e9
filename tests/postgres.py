"""A real PostgreSQL server for tests, in its own folder, by an unprivileged user; skipped where there is none."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest


class Postgres:
    """One server, which a test may stop and start again. `url` names its database."""

    def __init__(self, bin_folder: Path, folder: Path) -> None:
        self._control = [str(bin_folder / "pg_ctl"), "-D", "data", "-w", "-l", "log"]
        self._run: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if os.geteuid() == 0:  # the server refuses to run as root
            self._run |= {"user": "nobody", "env": {"PATH": os.environ["PATH"]}}
            os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._listen = f"-p {port} -k {folder} -F -c listen_addresses=127.0.0.1"
        self.url = f"postgresql://tester@127.0.0.1:{port}/postgres"
        make = [str(bin_folder / "initdb"), "-D", "data", "-U", "tester", "-A", "trust", "-N", "-E", "UTF8"]
        subprocess.run([*make, "--locale=C"], check=True, **self._run)

    def start(self) -> None:
        """Up when this returns."""
        subprocess.run([*self._control, "-o", self._listen, "start"], check=True, **self._run)

    def empty(self) -> str:
        """The URL of a new database."""
        import psycopg

        name = f"t{uuid4().hex}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url.removesuffix("postgres") + name

    def stop(self) -> None:
        """Gone at once, as in a crash."""
        subprocess.run([*self._control, "-m", "immediate", "stop"], check=True, **self._run)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server that is up, and gone afterwards; the test is skipped where PostgreSQL is not installed."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (extra `postgres`)")
    initdb = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
    if initdb is None:
        pytest.skip("no PostgreSQL server here: neither `initdb` on PATH nor under /usr/lib/postgresql")
    folder = Path(tempfile.mkdtemp(prefix="usagetap-pg-"))
    server = Postgres(Path(initdb).parent, folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
