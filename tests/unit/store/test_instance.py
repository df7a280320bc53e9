from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from peewee import Database

from usagetap.store import instance as module
from usagetap.store.instance import DEAD_AFTER, Instance, bury, dead_instances, lock_state, new_id
from usagetap.store.place import Place
from usagetap.store.rows import now_iso, to_iso, to_row
from usagetap.store.upsert import write

HOLD = """
import sys
from pathlib import Path
from usagetap.store.instance import Instance
from usagetap.store.place import Place
held = Instance(sys.argv[2], Place(Path(sys.argv[1]), "usage.db"))
held.acquire()
if len(sys.argv) > 3:
    import os
    if os.fork() == 0:
        print("held", flush=True)
        sys.stdin.read()
        os._exit(0)
else:
    print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, "usage.db")


def _hold(place: Place, name: str, *more: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", HOLD, place.folder, name, *more], env=environment, **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def _note(
    db: Database, name: str, host: str, heartbeat_at: str, stopped_at: str | None = None, pid: int | None = None
) -> None:
    sql = "INSERT INTO instance (id, pid, host, version, started_at, heartbeat_at, stopped_at) VALUES (?,?,?,?,?,?,?)"
    values = (name, pid or os.getpid(), host, "0", now_iso(), heartbeat_at, stopped_at)
    db.execute_sql(sql.replace("?", db.param), values)


def _leave_open(db: Database, record: Any, name: str) -> None:
    write(db, [to_row(record(1, instance=name, uid=f"{name}-1"))])


def test_a_lock_file_is_held_until_its_process_dies_however(place: Place) -> None:
    process = _hold(place, "other")
    assert lock_state(place.lock("other")) is True
    _end(process)
    assert lock_state(place.lock("other")) is False
    assert lock_state(place.lock("nobody")) is None
    assert place.lock("other").stat().st_mode & 0o777 == 0o600


def test_a_forked_child_does_not_keep_its_parents_lock_alive(place: Place) -> None:
    process = _hold(place, "other", "fork")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    try:
        assert lock_state(place.lock("other")) is False
    finally:
        process.communicate()  # the child ends with its input


def test_releasing_removes_the_file_but_not_a_successors(place: Place) -> None:
    first, second = Instance("x", place), Instance("x", place)
    first.acquire()
    first.acquire()
    second.acquire()
    first.release()
    first.release()
    assert lock_state(place.lock("x")) is True
    second.release()
    assert lock_state(place.lock("x")) is None


def test_a_live_process_on_this_host_is_never_dead_and_a_killed_one_is(db: Database, place: Place, record: Any) -> None:
    process = _hold(place, "other")
    _leave_open(db, record, "other")
    _note(db, "other", module.socket.gethostname(), to_iso(0))  # no heartbeat for ever: the lock is what counts
    assert dead_instances(db, place, "me") == []
    _end(process)
    assert dead_instances(db, place, "me") == ["other"]


def test_nor_is_another_run_in_this_process(db: Database, place: Place, record: Any) -> None:
    sibling = Instance(new_id(), place)
    sibling.acquire()
    _leave_open(db, record, sibling.id)
    assert dead_instances(db, place, "me") == []
    sibling.release()
    assert dead_instances(db, place, "me") == [sibling.id]


@pytest.mark.parametrize(
    ("age", "stopped", "dead"),
    [(0, False, False), (DEAD_AFTER * 2, False, True), (-86_400, False, True), (0, True, True)],
    ids=["beating", "silent", "the clock was set back by a day", "stopped in good order"],
)
def test_on_another_host_the_heartbeat_counts(
    db: Database, place: Place, record: Any, age: float, stopped: bool, dead: bool
) -> None:
    _leave_open(db, record, "far")
    _note(db, "far", "elsewhere", to_iso(module.time.time() - age), now_iso() if stopped else None)
    assert dead_instances(db, place, "me") == (["far"] if dead else [])


def test_who_stopped_while_it_could_not_sign_off_is_dead_at_once(db: Database, place: Place) -> None:
    """Its lock file is gone, its heartbeat is fresh: its process tells, where it would be on this host."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for name, host, pid in (
        ("gone", module.socket.gethostname(), ended.pid),
        ("here", module.socket.gethostname(), os.getpid()),
        ("elsewhere", "other", ended.pid),
    ):
        _note(db, name, host, now_iso(), pid=pid)
        place.journal(name).write_text("")
    assert dead_instances(db, place, "me") == ["gone"]


def test_who_has_left_only_a_journal_is_found(db: Database, place: Place) -> None:
    place.journal("gone").touch()
    assert dead_instances(db, place, "me") == ["gone"]


def test_burying_ends_what_was_open_and_nothing_else(db: Database, place: Place, record: Any) -> None:
    _leave_open(db, record, "dead")
    _leave_open(db, record, "alive")
    write(db, [to_row(record(3, "complete", instance="dead"))])
    place.lock("dead").touch()
    assert bury(db, place, "dead") == 1
    columns = "instance, status, end_reason, usage_quality, ended_at, duration"
    assert db.execute_sql(f"SELECT {columns} FROM usage ORDER BY uid").fetchall() == [
        ("alive", "open", None, None, None, None),
        ("dead", "error", "proxy_died", "missing", None, None),
        ("dead", "ok", "complete", "exact", None, None),
    ]
    assert not place.lock("dead").exists()


def test_signs_of_life_and_the_sign_off_are_in_the_table(db: Database, place: Place) -> None:
    me = Instance("me", place)
    me.acquire()
    for _ in range(2):
        me.beat(db)
    me.sign_off(db)
    ((pid, lock_path, stopped_at),) = db.execute_sql("SELECT pid, lock_path, stopped_at FROM instance").fetchall()
    assert (pid, lock_path) == (os.getpid(), str(place.lock("me")))
    assert stopped_at is not None
    me.beat(db)
    assert db.execute_sql("SELECT stopped_at FROM instance").fetchall() == [(None,)]
    me.release()
