"""A bad disk, a locked, deleted, corrupted or newer database: a line in the log, traffic unharmed, rows taken in later.

Each with a real mitmdump. What the store does in detail is in tests/unit/store.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.client import CHAT, STREAM, Http1
from tests.proxy import USAGE, Mitmdump, rows

from usagetap.store.migrations import SCHEMA_VERSION
from usagetap.upstream.server import Upstream

STALL = Path(__file__).parent / "scripts" / "stall.py"
CLOCK = Path(__file__).parent / "scripts" / "clock.py"

type Start = Callable[..., Mitmdump]


class Traffic:
    """Calls through a proxy, each compared with what the upstream sent."""

    def __init__(self, proxy: Mitmdump, upstream: Upstream) -> None:
        self.proxy = proxy
        self.upstream = upstream
        self.tags: list[str] = []
        self.stall = ""

    def __call__(self, count: int = 4) -> None:
        for _ in range(count):
            tag = f"call-{len(self.tags)}"
            before = len(self.upstream.requests)
            with Http1(self.proxy.port) as line:
                received = line.post(STREAM, CHAT, x_upstream="chunks=3", x_usage_tag=tag, x_stall=self.stall).read()
            assert received.ending == "complete"
            assert received.body == bytes(self.upstream.requests[before].sent)
            self.tags.append(tag)

    def all_recorded(self, db: Path, timeout: float = 20) -> None:
        """Every call has exactly one row, and the right one."""
        found = self.proxy.ended(len(self.tags), timeout=timeout) if db == self.proxy.db else rows(db)
        assert sorted(row["tag"] for row in found) == sorted(self.tags)
        assert {(row["status"], row["output_tokens"]) for row in found} == {("ok", 3)}


def journals(folder: Path) -> list[Path]:
    return list(folder.glob("*.journal-*.jsonl"))


def taken_in(folder: Path, timeout: float = 20) -> None:
    """No journal is left; waited for."""
    deadline = time.monotonic() + timeout
    while left := journals(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)  # a folder has no event to wait for


def told(proxy: Mitmdump, what: str) -> int:
    return sum(what in line for line in proxy.lines)


@contextmanager
def locked(db: Path) -> Iterator[None]:
    """Another process's lock on the whole file."""
    with closing(sqlite3.connect(db, isolation_level=None, timeout=10)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


def test_locked_by_another_process(upstream: Upstream, start: Start, tmp_path: Path) -> None:
    db = tmp_path / "usage.db"
    proxy = start(f"reverse:{upstream.url}", usage_db=db)
    traffic = Traffic(proxy, upstream)
    traffic()
    traffic.all_recorded(db)
    with locked(db):
        traffic()
        proxy.wait_for_line("cannot be written: .*lock.*rows are kept in")
        traffic()
        deadline = time.monotonic() + 10
        while len(rows_while_locked(journals(tmp_path))) < 8:
            assert time.monotonic() < deadline, journals(tmp_path)
            time.sleep(0.02)  # a file has no event to wait for
    traffic.all_recorded(db)
    proxy.wait_for_line("is written again after .* nothing was lost")
    taken_in(tmp_path)
    assert told(proxy, "cannot be written") == 1


def rows_while_locked(files: list[Path]) -> list[str]:
    return [line for file in files for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_locked_for_a_minute(upstream: Upstream, start: Start, tmp_path: Path) -> None:
    """An end of the proxy and a start fall into it, too."""
    db = tmp_path / "usage.db"
    proxy = start(f"reverse:{upstream.url}", usage_db=db)
    traffic = Traffic(proxy, upstream)
    until = time.monotonic() + 60
    with locked(db):
        while time.monotonic() < until - 30:
            traffic(20)
        assert proxy.stop() == 0
        traffic.proxy = start(f"reverse:{upstream.url}", usage_db=db)
        while time.monotonic() < until:
            traffic(20)
    traffic.all_recorded(db, timeout=60)
    taken_in(tmp_path)


def test_locked_and_then_kill_9(upstream: Upstream, start: Start, tmp_path: Path) -> None:
    """What only the journal has is taken in by the next start, once."""
    db = tmp_path / "usage.db"
    proxy = start(f"reverse:{upstream.url}", usage_db=db)
    traffic = Traffic(proxy, upstream)
    traffic(2)
    traffic.all_recorded(db)
    with locked(db):
        traffic(3)
        proxy.wait_for_line("cannot be written: .*lock")
        proxy.stop(signal.SIGKILL)
    again = start(f"reverse:{upstream.url}", usage_db=db)
    traffic.proxy = again
    traffic.all_recorded(db)
    taken_in(tmp_path)


def test_locked_from_start_to_end(upstream: Upstream, start: Start, tmp_path: Path) -> None:
    db = tmp_path / "usage.db"
    start(f"reverse:{upstream.url}", usage_db=db).stop()
    with locked(db):
        proxy = start(f"reverse:{upstream.url}", usage_db=db)
        traffic = Traffic(proxy, upstream)
        traffic()
        assert proxy.stop() == 0
        assert journals(tmp_path)
    traffic.proxy = start(f"reverse:{upstream.url}", usage_db=db)
    traffic.all_recorded(db)


def test_deleted_while_running(upstream: Upstream, start: Start, tmp_path: Path) -> None:
    db = tmp_path / "usage.db"
    proxy = start(f"reverse:{upstream.url}", usage_db=db)
    traffic = Traffic(proxy, upstream)
    traffic(1)
    traffic.all_recorded(db)
    for file in tmp_path.glob("usage.db*"):
        file.unlink()
    traffic.tags.clear()
    traffic()
    proxy.wait_for_line("was removed or replaced while running")
    traffic.all_recorded(db)


def test_replaced_while_running(upstream: Upstream, start: Start, tmp_path: Path) -> None:
    db = tmp_path / "usage.db"
    proxy = start(f"reverse:{upstream.url}", usage_db=db)
    traffic = Traffic(proxy, upstream)
    traffic(2)
    traffic.all_recorded(db)
    with closing(sqlite3.connect(db)) as source, closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        source.backup(copy)
    for file in tmp_path.glob("usage.db*"):
        file.unlink()
    os.replace(tmp_path / "copy.db", db)
    traffic()
    traffic.all_recorded(db)
    assert told(proxy, "was removed or replaced") == 1


def test_corrupted_at_start(upstream: Upstream, start: Start, tmp_path: Path) -> None:
    """The user's file stays as it is; once it is moved away, the journal goes into a new one."""
    db = tmp_path / "usage.db"
    db.write_bytes(b"no database at all" * 1000)
    proxy = start(f"reverse:{upstream.url}", usage_db=db)
    traffic = Traffic(proxy, upstream)
    traffic()
    proxy.wait_for_line("cannot be written: .*rows are kept in")
    assert db.read_bytes() == b"no database at all" * 1000
    db.rename(tmp_path / "broken.db")
    traffic.all_recorded(db)
    assert told(proxy, "cannot be written") == 1


def test_newer_schema(upstream: Upstream, start: Start, tmp_path: Path) -> None:
    db = tmp_path / "usage.db"
    start(f"reverse:{upstream.url}", usage_db=db).stop()
    with closing(sqlite3.connect(db)) as later:
        later.execute("PRAGMA user_version = 99")
    before = db.read_bytes()
    proxy = start(f"reverse:{upstream.url}", usage_db=db)
    traffic = Traffic(proxy, upstream)
    traffic()
    proxy.wait_for_line("schema version 99.*upgrade usagetap")
    assert proxy.stop() == 0
    assert db.read_bytes() == before
    with closing(sqlite3.connect(db)) as later:
        later.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")  # as if usagetap had been upgraded
    traffic.proxy = start(f"reverse:{upstream.url}", usage_db=db)
    traffic.all_recorded(db)


def test_a_place_that_cannot_be(upstream: Upstream, start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    proxy = start(f"reverse:{upstream.url}", usage_db=tmp_path / "file" / "usage.db")
    Traffic(proxy, upstream)()
    proxy.wait_for_line("cannot be written|cannot be made|no secret")


# -- disks

needs_mount = pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode != 0,
    reason="mounts a small disk, which only root can, and only where mounting is allowed",
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], check=False).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@needs_mount
def test_disk_full(upstream: Upstream, start: Start, disk: Path) -> None:
    """Also the journal has no room: rows wait in memory."""
    db = disk / "usage.db"
    proxy = start(f"reverse:{upstream.url}", usage_db=db)
    traffic = Traffic(proxy, upstream)
    traffic(2)
    traffic.all_recorded(db)
    filler = disk / "filler"
    with filler.open("wb") as full:
        while True:
            try:
                os.write(full.fileno(), bytes(shutil.disk_usage(disk).free or 4096))
            except OSError:
                break
    traffic(60)
    proxy.wait_for_line("cannot be written")
    filler.unlink()
    traffic.all_recorded(db, timeout=30)
    proxy.wait_for_line("nothing was lost")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="takes a right from root, with setpriv")
def test_read_only(upstream: Upstream, start: Start, tmp_path: Path) -> None:
    """Neither the database nor its folder can be written: rows wait in memory."""
    db = tmp_path / "own" / "usage.db"
    db.parent.mkdir()
    start(f"reverse:{upstream.url}", usage_db=db).stop()
    files = [*db.parent.iterdir()]
    for file in files:
        file.chmod(0o444)
    db.parent.chmod(0o555)
    rights = ["setpriv", "--bounding-set", "-dac_override"]  # root may write everywhere
    proxy = start(f"reverse:{upstream.url}", usage_db=db, prefix=rights)
    traffic = Traffic(proxy, upstream)
    traffic(6)
    proxy.wait_for_line("cannot be written: .*readonly|cannot be written: .*Permission")
    db.parent.chmod(0o755)
    for file in files:
        file.chmod(0o600)
    traffic.all_recorded(db, timeout=30)


def test_a_disk_that_stalls(upstream: Upstream, start: Start, tmp_path: Path) -> None:
    """Of rows that wait for it, a bounded number is in memory and the rest in the journal; then each is there once."""
    db = tmp_path / "usage.db"
    proxy = start(f"reverse:{upstream.url}", usage_db=db, scripts=[USAGE, STALL])
    traffic = Traffic(proxy, upstream)
    traffic(2)
    traffic.all_recorded(db)
    traffic.stall = "on"
    traffic(1)
    traffic.stall = ""
    traffic(120)
    assert journals(tmp_path)
    assert len(rows_while_locked(journals(tmp_path))) >= 100
    traffic.stall = "off"
    traffic(1)
    traffic.all_recorded(db, timeout=30)
    taken_in(tmp_path)


# -- time


def test_a_clock_that_is_set_back(upstream: Upstream, start: Start, tmp_path: Path) -> None:
    """By two hours, in mid-stream: told once; durations stay true, no row is lost or taken for another's."""
    db = tmp_path / "usage.db"
    proxy = start(f"reverse:{upstream.url}", usage_db=db, scripts=[CLOCK, USAGE])
    with Http1(proxy.port) as line:
        line.post(STREAM, CHAT, x_upstream="chunks=3;hold=2", x_usage_tag="begun before").read(lambda got: got.body)
        with Http1(proxy.port) as other:
            other.post(STREAM, CHAT, x_clock="-7200", x_upstream="chunks=3", x_usage_tag="begun after").read()
        upstream.release()
        received = line.read()
    assert received.ending == "complete"
    before, after = (proxy.row(f"begun {when}") for when in ("before", "after"))
    for row in (before, after):
        assert (row["status"], row["output_tokens"]) == ("ok", 3)
        assert 0 <= row["duration"] < 60
        assert row["started_at"] <= row["ended_at"]
    assert after["started_at"] < before["started_at"]
    proxy.wait_for_line("the clock was set back by 7200 s")
    sibling = start(f"reverse:{upstream.url}", usage_db=db)
    with Http1(proxy.port) as line:
        line.post(STREAM, CHAT, x_upstream="chunks=3;hold=2", x_usage_tag="open").read(lambda got: got.body)
        traffic = Traffic(sibling, upstream)
        traffic(2)
        assert [row["status"] for row in proxy.rows("tag = 'open'")] == ["open"], "a living one is taken for dead"
        upstream.release()
        line.read()
    assert proxy.row("open")["status"] == "ok"
    assert told(proxy, "set back") == 1


# -- company


def test_several_proxies_on_one_file(upstream: Upstream, start: Start, tmp_path: Path) -> None:
    """Each keeps its rows, and none takes another's open ones for dead."""
    db = tmp_path / "usage.db"
    first = start(f"reverse:{upstream.url}", usage_db=db)
    with Http1(first.port) as slow:
        slow.post(STREAM, CHAT, x_upstream="chunks=3;hold=2", x_usage_tag="slow").read(lambda got: got.body)
        second = start(f"reverse:{upstream.url}", usage_db=db)
        traffic = [Traffic(first, upstream), Traffic(second, upstream)]
        for _ in range(3):
            for each in traffic:
                each(1)
        assert len(second.ended(6, "tag LIKE 'call-%'")) == 6
        assert {row["status"] for row in first.rows("tag = 'slow'")} == {"open"}
        assert second.stop() == 0
        assert {row["status"] for row in first.rows("tag = 'slow'")} == {"open"}
        upstream.release()
        slow.read()
    assert first.row("slow")["status"] == "ok"


def test_script_reload_in_mid_stream(upstream: Upstream, start: Start, tmp_path: Path) -> None:
    script = tmp_path / "usage.py"
    shutil.copy(USAGE, script)
    proxy = start(
        f"reverse:{upstream.url}",
        scripts=[script],
        environment={"PYTHONPATH": str(USAGE.parent)},
        usage_db=tmp_path / "usage.db",
    )
    with Http1(proxy.port) as line:
        line.post(STREAM, CHAT, x_upstream="chunks=3;hold=2", x_usage_tag="reloaded").read(lambda got: got.body)
        later = script.stat().st_mtime + 10
        os.utime(script, (later, later))
        proxy._wait(lambda: told(proxy, "Loading script") == 2, 10, "the reload")
        upstream.release()
        assert line.read().ending == "complete"
    row = proxy.row("reloaded")
    assert (row["status"], row["output_tokens"], row["frames"]) == ("ok", 3, 7)
    traffic = Traffic(proxy, upstream)
    traffic(2)
    assert len(proxy.ended(3)) == 3


def test_files_are_private(upstream: Upstream, start: Start, tmp_path: Path) -> None:
    db = tmp_path / "own" / "usage.db"
    db.parent.mkdir()
    old = os.umask(0)
    try:
        proxy = start(f"reverse:{upstream.url}", usage_db=db)
    finally:
        os.umask(old)
    traffic = Traffic(proxy, upstream)
    traffic(2)
    traffic.all_recorded(db)
    with locked(db):
        traffic(2)
        proxy.wait_for_line("cannot be written")
        assert journals(db.parent)
        modes: dict[str, Any] = {file.name: oct(file.stat().st_mode & 0o777) for file in db.parent.iterdir()}
    assert set(modes.values()) == {"0o600"}, modes
