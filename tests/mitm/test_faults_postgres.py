"""PostgreSQL that goes away and comes back, is not there, or knows no such user: rows wait in the journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.client import CHAT, STREAM, Http1
from tests.postgres import Postgres, running_postgres
from tests.proxy import Mitmdump
from tests.tunnel import Tunnel, running_tunnel

from usagetap.store.database import StoreError
from usagetap.store.queries import open_reader, recent
from usagetap.upstream.server import Upstream

SECRET = "pg-password-4711"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def own(start: Callable[..., Mitmdump], upstream: Upstream, tmp_path: Path) -> Callable[[str], Mitmdump]:
    """Start a proxy whose journals and secret are in this test's folder."""

    def go(url: str) -> Mitmdump:
        return start(f"reverse:{upstream.url}", usage_db=url, environment={"XDG_STATE_HOME": str(tmp_path)})

    return go


def with_password(url: str, user: str = "tester") -> str:
    return url.replace("tester@", f"{user}:{SECRET}@")


def call(proxy: Mitmdump, upstream: Upstream, *tags: str) -> None:
    """Calls that arrive byte for byte."""
    for tag in tags:
        before = len(upstream.requests)
        with Http1(proxy.port) as line:
            received = line.post(STREAM, CHAT, x_upstream="chunks=3", x_usage_tag=tag).read()
        assert received.ending == "complete", (received, proxy.log)
        assert received.body == bytes(upstream.requests[before].sent)


def rows(url: str) -> list[dict[str, Any]]:
    try:
        with closing(open_reader(url)) as db:
            return [dict(row) for row in recent(db)]
    except StoreError:  # no table yet
        return []


def ended(url: str, *tags: str, timeout: float = 20) -> None:
    """Each of these calls, and no other, has one row that has ended well; waited for."""
    deadline = time.monotonic() + timeout
    while True:
        found = rows(url)
        if sorted(row["tag"] for row in found) == sorted(tags) and all(row["status"] != "open" for row in found):
            assert {(row["status"], row["output_tokens"]) for row in found} == {("ok", 3)}
            return
        assert time.monotonic() < deadline, [(row["tag"], row["status"]) for row in found]
        time.sleep(0.05)  # the database has no event to wait for


def taken_in(folder: Path, timeout: float = 20) -> None:
    """No journal is left; waited for."""
    deadline = time.monotonic() + timeout
    while left := journals(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)  # a folder has no event to wait for


def told(proxy: Mitmdump, what: str) -> int:
    return sum(what in line for line in proxy.lines)


def journals(folder: Path) -> list[Path]:
    return list(folder.rglob("*.journal-*.jsonl"))


def test_a_server_that_crashes_and_comes_back(
    postgres: Postgres, upstream: Upstream, own: Callable[[str], Mitmdump], tmp_path: Path
) -> None:
    url = postgres.empty()
    proxy = own(with_password(url))
    call(proxy, upstream, "1", "2")
    ended(url, "1", "2")
    postgres.stop()
    try:
        call(proxy, upstream, "3", "4", "5")
        proxy.wait_for_line("cannot be written: .*rows are kept in")
        call(proxy, upstream, "6")
        assert journals(tmp_path)
        assert {oct(file.stat().st_mode & 0o777) for file in tmp_path.rglob("pg-*")} == {"0o600"}
    finally:
        postgres.start()
    ended(url, "1", "2", "3", "4", "5", "6")
    proxy.wait_for_line("is written again after .* nothing was lost")
    taken_in(tmp_path)
    assert told(proxy, "cannot be written") == 1
    assert SECRET not in proxy.log


def test_a_server_that_is_down_from_start_to_end(
    postgres: Postgres, upstream: Upstream, own: Callable[[str], Mitmdump], tmp_path: Path
) -> None:
    """What one run could not write, the next takes in, once."""
    url = postgres.empty()
    postgres.stop()
    try:
        proxy = own(with_password(url))
        call(proxy, upstream, "1", "2")
        proxy.wait_for_line("cannot be written")
        assert proxy.stop() == 0
        assert SECRET not in proxy.log
        assert all(SECRET.encode() not in file.read_bytes() for file in tmp_path.rglob("pg-*"))
    finally:
        postgres.start()
    again = own(with_password(url))
    call(again, upstream, "3")
    ended(url, "1", "2", "3")
    taken_in(tmp_path)


def test_a_user_whom_it_does_not_know(
    postgres: Postgres, upstream: Upstream, own: Callable[[str], Mitmdump], tmp_path: Path
) -> None:
    proxy = own(with_password(postgres.empty(), "nobody_here"))
    call(proxy, upstream, "1")
    proxy.wait_for_line("cannot be written: .*nobody_here.*does not exist")
    assert proxy.stop() == 0
    assert journals(tmp_path)
    assert SECRET not in proxy.log


def test_sessions_that_are_terminated(postgres: Postgres, upstream: Upstream, own: Callable[[str], Mitmdump]) -> None:
    """An administrator ends every connection: the next batch makes a new one."""
    import psycopg

    url = postgres.empty()
    proxy = own(url)
    call(proxy, upstream, "1")
    ended(url, "1")
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    call(proxy, upstream, "2", "3")
    ended(url, "1", "2", "3")


def test_a_table_locked_by_another_session(
    postgres: Postgres, upstream: Upstream, own: Callable[[str], Mitmdump], tmp_path: Path
) -> None:
    import psycopg

    url = postgres.empty()
    proxy = own(url)
    call(proxy, upstream, "1")
    ended(url, "1")
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE usage IN ACCESS EXCLUSIVE MODE")
        call(proxy, upstream, "2", "3")
        proxy.wait_for_line("cannot be written")
        assert journals(tmp_path)
        other.rollback()
    ended(url, "1", "2", "3")
    assert told(proxy, "cannot be written") == 1


@pytest.fixture
def tunnel(postgres: Postgres) -> Iterator[Tunnel]:
    with running_tunnel(urlsplit(postgres.url).port or 0) as running:
        yield running


def through(tunnel: Tunnel, url: str) -> str:
    port = urlsplit(url).port
    return url.replace(f":{port}/", f":{tunnel.port}/")


def test_a_server_that_falls_silent(
    postgres: Postgres, tunnel: Tunnel, upstream: Upstream, own: Callable[[str], Mitmdump], tmp_path: Path
) -> None:
    """It takes connections and bytes, and answers nothing: rows go to the journal within seconds, and back, once."""
    url = postgres.empty()
    proxy = own(through(tunnel, url))
    call(proxy, upstream, "1")
    ended(url, "1")
    tunnel.freeze()
    call(proxy, upstream, "2", "3")
    proxy.wait_for_line("cannot be written: .*rows are kept in")
    call(proxy, upstream, "4")
    assert journals(tmp_path)
    tunnel.thaw()
    ended(url, "1", "2", "3", "4")
    proxy.wait_for_line("is written again after .* nothing was lost")
    taken_in(tmp_path)
    assert told(proxy, "cannot be written") == 1


@pytest.mark.parametrize("silent", ["from start to end", "at the end"])
def test_a_server_that_is_silent_when_the_proxy_stops(
    postgres: Postgres,
    tunnel: Tunnel,
    upstream: Upstream,
    own: Callable[[str], Mitmdump],
    tmp_path: Path,
    silent: str,
) -> None:
    """A stop waits for it no longer than for a disk, and loses nothing."""
    url = postgres.empty()
    if silent == "from start to end":
        tunnel.freeze()
    proxy = own(through(tunnel, url))
    call(proxy, upstream, "1")
    if silent == "at the end":
        ended(url, "1")
        tunnel.freeze()
    call(proxy, upstream, "2", "3")
    assert proxy.stop() == 0
    assert journals(tmp_path)
    tunnel.thaw()
    again = own(through(tunnel, url))
    call(again, upstream, "4")
    ended(url, "1", "2", "3", "4")
    taken_in(tmp_path)


def test_connections_that_drop_midway(
    postgres: Postgres, tunnel: Tunnel, upstream: Upstream, own: Callable[[str], Mitmdump]
) -> None:
    url = postgres.empty()
    proxy = own(through(tunnel, url))
    for number in range(6):
        call(proxy, upstream, str(number))
        tunnel.cut()
    ended(url, *map(str, range(6)))
