"""What stands behind the writer: the database while it can be written, the journal while it cannot, memory while
neither can; and the way back. Nothing here raises: a failure is an outage, told once, and ends by itself."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from peewee import Database

from .database import connect, what_failed, within
from .instance import HEARTBEAT, Instance, bury, dead_instances
from .journal import JOURNAL_LIMIT, Entry, Journal, take_in
from .migrations import migrate
from .place import is_postgres, place_of, sqlite_path
from .rows import Row
from .upsert import write

Log = Callable[[int, str], None]

#: how long the writer waits for another process's lock, in milliseconds: its rows must be safe within 100
BUSY_TIMEOUT = 25
#: seconds between attempts while the database cannot be written, doubling from the first to the second
RETRY_FIRST, RETRY_LAST = 0.1, 3.0
#: a lock that is held no longer than this many seconds is not worth a line in the log
LOCK_PATIENCE = 2.0
#: seconds that PostgreSQL may take for a batch of rows, and for somebody else's work; less than a stop waits for rows
PATIENCE, CLOSURE_PATIENCE = 3.0, 60.0
#: seconds in which the same trouble, ended and come back, is not told again
REPEAT = 60.0
#: seconds between searches for proxies that died while this one runs
SWEEP = 300.0
#: rows in memory while neither database nor journal can be written; beyond it the oldest are lost
MEMORY_LIMIT = 20_000
_GONE = (0, 0)


class Backing:
    """Used from the writer's thread only, but for `spill`."""

    def __init__(
        self,
        url: str,
        instance: str,
        log: Log,
        finish: Callable[[Row], Row],
        folder: Path | None = None,
        journal_limit: int = JOURNAL_LIMIT,
    ) -> None:
        self._url = url
        self._path = None if is_postgres(url) else sqlite_path(url)
        self._shown = re.sub(r"//[^@/]*@", "//", url)
        self._log = log
        self._finish = finish
        self._place = place_of(url, folder)
        self._instance = Instance(instance, self._place)
        self._journal = Journal(self._place, instance, journal_limit)
        self._backlog: deque[Entry] = deque()
        self._spilling = threading.Lock()
        self.lost = 0
        """Rows that were dropped because there was no room for them anywhere."""
        self._loud_at = 1
        self._db: Database | None = None
        self._file: tuple[int, int] | None = None
        self._out = False
        self._troubled_since: float | None = None
        self._retry_at = 0.0
        self._delay = RETRY_FIRST
        self._told = self._journal_told = False
        self._told_at, self._told_reason = 0.0, ""
        self._recovery: Iterator[int] | None = None
        self.overflowed = False
        """Set by who spilled while the database was fine: the journal is to be read in all the same."""
        self._beat_at = self._sweep_at = 0.0

    # writing

    def save(self, entries: Sequence[Entry]) -> None:
        """Put entries where they survive this process: the database if it takes them, else the journal, else memory."""
        waiting = [self._backlog.popleft() for _ in range(len(self._backlog))]
        everything = [*waiting, *entries]
        if not everything:
            return
        rows = [entry.row for entry in everything if entry.table == "usage"]
        refusals = [entry.row for entry in everything if entry.table == "refusals"]
        if self._out or not self.attempt(lambda db: write(db, rows, refusals)):
            self.spill(everything)

    def spill(self, entries: Sequence[Entry]) -> None:
        """Put entries into the journal, else into memory. Safe from any thread."""
        with self._spilling:
            try:
                dropped = self._journal.append(entries)
            except OSError as error:
                if not self._journal_told:
                    self._journal_told = True
                    self._say(
                        f"{self._journal.path} cannot be written either ({what_failed(error)}): rows stay in memory"
                    )
                self._backlog.extend(entries)
                dropped = max(0, len(self._backlog) - MEMORY_LIMIT)
                for _ in range(dropped):
                    self._backlog.popleft()
            else:
                self._journal_told = False
            self._lose(dropped)

    def attempt(self, work: Callable[[Database], None]) -> bool:
        """Do `work` on the database; whether that worked. While it is out and no attempt is due, nothing is tried."""
        for _ in range(3):
            if (db := self._usable()) is None:
                return False
            try:
                with within(db, PATIENCE):
                    work(db)
            except Exception as error:  # noqa: BLE001 - whatever a driver raises, the rows go to the journal
                self._failed(error)
                return False
            if not self._moved():
                self._works()
                return True
        return False  # the file is replaced faster than we can write

    def attempt_closure(self, closure: Callable[[Database], object]) -> bool:
        """Run somebody else's work on the database; `False` if it is out. What the closure raises is the caller's."""
        if (db := self._usable()) is None:
            return False
        with within(db, CLOSURE_PATIENCE):
            closure(db)
        return True

    @property
    def out(self) -> bool:
        """Whether the database cannot be written at the moment."""
        return self._out or self._db is None

    def journals(self, of_all: bool) -> list[Path]:
        """The journal files that are still to be read in: our own, or everybody's."""
        return [path for _, path in self._place.journals()] if of_all else self._journal.pending()

    # chores

    def open(self) -> None:
        """Take the lock file and try the database for the first time."""
        try:
            self._instance.acquire()
        except OSError as error:
            self._log(
                logging.WARNING, f"no lock file beside the usage database ({what_failed(error)}): heartbeats must do"
            )
        self.attempt(self._instance.beat)

    def chores(self) -> None:
        """What is due: a new attempt, a heartbeat, a step of reading journals in."""
        now = time.monotonic()
        if self._out or self._backlog:
            if now >= self._retry_at:
                self._retry_at = 0.0
                if self.attempt(self._instance.beat):
                    self.save(())
                elif self._backlog:
                    self.spill([self._backlog.popleft() for _ in range(len(self._backlog))])
        elif now >= self._beat_at:
            self._beat_at = now + HEARTBEAT
            self.attempt(self._instance.beat)
        if not self._out and (self.overflowed or now >= self._sweep_at):
            self.overflowed = False
            self.reread()
        if not self._out and self._recovery is not None:
            self.attempt(self._recover_step)

    def idle_for(self) -> float:
        """Seconds until there is something to do without a new row."""
        if self._out or self._backlog:
            due = self._retry_at
        elif self._recovery is not None:
            due = 0.0
        else:
            due = min(self._beat_at, self._sweep_at)
        return max(0.0, due - time.monotonic())

    def reread(self) -> None:
        """Look again for journals, our own and those of dead proxies, and for what they left open."""
        self._sweep_at = time.monotonic() + SWEEP
        if self._db is not None:
            self._recovery = self._recover(self._db)

    def close(self) -> None:
        """The last thing: what is left goes to the journal, the instance signs off, the lock is released."""
        if self._backlog:
            self.save(())
        if not self._out:
            self.attempt(self._instance.sign_off)
        self._disconnect()
        self._instance.release()
        if self._backlog:
            self._lose(len(self._backlog))

    # the way out and back

    def _usable(self) -> Database | None:
        if self._out and time.monotonic() < self._retry_at:
            return None
        try:
            if self._db is not None and self._moved():
                self._say(
                    f"{self._shown} was removed or replaced while running: going on in the file that is there now"
                )
                self._disconnect()
            if self._db is None:
                self._connect()
        except Exception as error:  # noqa: BLE001 - as above
            self._failed(error)
            return None
        return self._db

    def _connect(self) -> None:
        db = connect(self._url, busy_timeout=BUSY_TIMEOUT)
        db.autoconnect = False
        try:
            self._file = self._identity()
            if self._file == _GONE:
                raise FileNotFoundError("the file vanished while it was opened")
            migrate(db)
            self._instance.beat(db)
        except BaseException:
            db.close()
            raise
        self._db = db
        self._beat_at = time.monotonic() + HEARTBEAT
        self.reread()

    def _disconnect(self) -> None:
        db, self._db, self._recovery = self._db, None, None
        if db is not None:
            try:
                db.close()
            except Exception as error:  # noqa: BLE001 - a connection that is broken already
                self._log(logging.DEBUG, f"closing {self._shown}: {error}")

    def _identity(self) -> tuple[int, int] | None:
        if self._path is None:
            return None
        try:
            found = os.stat(self._path)
        except OSError:
            return _GONE
        return (found.st_dev, found.st_ino)

    def _moved(self) -> bool:
        return self._file != self._identity()

    def _failed(self, error: Exception) -> None:
        now = time.monotonic()
        reason = what_failed(error)
        locked = "lock" in reason
        if not locked:
            self._disconnect()
        if self._troubled_since is None:
            self._troubled_since, self._told, self._delay = now, False, RETRY_FIRST
        self._out = True
        self._recovery = None
        self._retry_at = now + self._delay
        self._delay = min(self._delay * 2, RETRY_LAST)
        if reason == self._told_reason and now < self._told_at + REPEAT:
            return
        if not self._told and (not locked or now - self._troubled_since >= LOCK_PATIENCE):
            self._told, self._told_at, self._told_reason = True, now, reason
            self._say(f"{self._shown} cannot be written: {reason}; rows are kept in {self._journal.path} until it can")

    def _works(self) -> None:
        if self._out:
            self._out = False
            self.reread()

    def _recovered(self) -> None:
        """The journal is in the database: only now the trouble is over. (On a full disk small writes still succeed.)"""
        if self._troubled_since is not None and self._told:
            seconds = time.monotonic() - self._troubled_since
            lost = f"{self.lost} rows were lost for want of room" if self.lost else "nothing was lost"
            self._log(logging.WARNING, f"usage: {self._shown} is written again after {seconds:.0f} s; {lost}")
        self._troubled_since = None

    def _recover_step(self, _: Database) -> None:
        if self._recovery is not None and next(self._recovery, None) is None:
            self._recovery = None

    def _recover(self, db: Database) -> Iterator[int]:
        self._journal.seal()
        for path in self._journal.pending():
            yield from self._take_in(db, path)
        self._recovered()
        for dead in dead_instances(db, self._place, self._instance.id):
            for name, path in self._place.journals():
                if name == dead:
                    yield from self._take_in(db, path)
            ended = bury(db, self._place, dead)
            if ended:
                self._log(logging.WARNING, f"usage: proxy {dead} died with {ended} responses open: ended as proxy_died")

    def _take_in(self, db: Database, path: Path) -> Iterator[int]:
        done = 0
        for done in take_in(db, path, self._say, self._finish):
            yield done
        self._log(logging.INFO, f"usage: {done} entries of {path.name} are in the database now")

    def _lose(self, dropped: int) -> None:
        self.lost += dropped
        if dropped and self.lost >= self._loud_at:
            self._loud_at = self.lost * 2
            self._say(f"no room for rows, neither in {self._shown} nor in its journal: {self.lost} LOST so far")

    def _say(self, text: str) -> None:
        self._log(logging.ERROR, f"usage: {text}")
