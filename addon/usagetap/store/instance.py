"""Which proxy process is alive: who wrote an open row, and whether it can still end it.

On one host a held lock file is the proof: the kernel lets go of it when the process dies, however it dies, and a new
process that got the old one's pid does not hold it. Across hosts (PostgreSQL, a shared folder) a heartbeat stands in.
A process that was wrongly taken for dead (suspended for minutes) loses nothing: its ends replace `proxy_died`.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import time
import weakref
from dataclasses import dataclass, field
from pathlib import Path

from peewee import Database

from usagetap import __version__

from .database import transaction
from .place import Place
from .rows import from_iso, now_iso

#: seconds between signs of life, and without one until an instance on another host counts as dead
HEARTBEAT = 15.0
DEAD_AFTER = 90.0

_BEAT = (
    "INSERT INTO instance (id, pid, host, version, started_at, heartbeat_at, lock_path) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at, stopped_at = NULL"
)
_DIED = (
    "UPDATE usage SET status = 'error', end_reason = 'proxy_died', usage_quality = COALESCE(usage_quality, 'missing')"
    " WHERE status = 'open' AND instance = ?"
)

_held: weakref.WeakSet[Instance] = weakref.WeakSet()


def new_id() -> str:
    """A random id for this run of the process."""
    return secrets.token_hex(6)


@dataclass(eq=False)
class Instance:
    """This process as the others see it: a held lock file and a row in table `instance`."""

    id: str
    place: Place
    started_at: str = field(default_factory=now_iso)
    _descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock file. Raises `OSError` where none can be made; the heartbeat must do then."""
        if self._descriptor is not None:
            return
        path = self.place.lock(self.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        # locked before it gets its name, so that nobody ever sees it unlocked while we live
        unnamed = path.with_name(f".{path.name}")
        descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(unnamed, path)
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        _held.add(self)

    def release(self) -> None:
        """Let go of the lock file and remove it, unless another run under the same id has taken its place."""
        if self._descriptor is None:
            return
        path = self.place.lock(self.id)
        try:
            if os.path.samestat(os.fstat(self._descriptor), path.stat()):
                path.unlink()
        except FileNotFoundError:
            pass
        finally:
            os.close(self._descriptor)
            self._descriptor = None
            _held.discard(self)

    def close_in_child(self) -> None:
        """After a fork: the child must not keep the parent's lock alive (closing does not unlock it)."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def beat(self, db: Database) -> None:
        """Write the row in table `instance`, or a sign of life into it."""
        lock = str(self.place.lock(self.id)) if self._descriptor is not None else None
        values = (self.id, os.getpid(), socket.gethostname(), __version__, self.started_at, now_iso(), lock)
        with transaction(db):
            db.execute_sql(_BEAT.replace("?", db.param), values)

    def sign_off(self, db: Database) -> None:
        """Note that this instance stopped in good order."""
        with transaction(db):
            sql = f"UPDATE instance SET stopped_at = {db.param} WHERE id = {db.param}"
            db.execute_sql(sql, (now_iso(), self.id))


def _close_all_in_child() -> None:
    for instance in list(_held):
        instance.close_in_child()
    _held.clear()


os.register_at_fork(after_in_child=_close_all_in_child)


def lock_state(path: Path) -> bool | None:
    """`True`: a live process holds this lock file; `False`: nobody does; `None`: there is none."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def dead_instances(db: Database, place: Place, own: str) -> list[str]:
    """Instances that have left something behind (open rows, a journal, a lock file) and are not alive."""
    candidates = {name for name, _ in (*place.journals(), *place.locks())}
    candidates |= {name for (name,) in db.execute_sql("SELECT DISTINCT instance FROM usage WHERE status = 'open'")}
    known = {row[0]: row[1:] for row in db.execute_sql("SELECT id, host, pid, heartbeat_at, stopped_at FROM instance")}
    alive = {own} | {instance.id for instance in _held}
    return [name for name in sorted(candidates - alive) if not _lives(place.lock(name), known.get(name))]


def _lives(lock: Path, known: tuple[str, int, str, str | None] | None) -> bool:
    held = lock_state(lock)
    if held is not None and (held or known is None or known[0] == socket.gethostname()):
        return held
    if known is None:
        return False
    host, pid, heartbeat_at, stopped_at = known
    # without a lock file: it let go of it when it stopped, and could not sign off, as the database was locked or gone
    if held is None and host == socket.gethostname() and not _runs(pid):
        return False
    # a heartbeat from the future is one from before the clock was set back: as good as none, once it is far off
    return stopped_at is None and abs(time.time() - from_iso(heartbeat_at)) < DEAD_AFTER


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True


def bury(db: Database, place: Place, instance: str) -> int:
    """Close what a dead instance left open (its journals must have been read in) and remove its lock file."""
    with transaction(db):
        ended = db.execute_sql(_DIED.replace("?", db.param), (instance,)).rowcount
    place.lock(instance).unlink(missing_ok=True)
    return int(ended)
