"""The one thread that writes. Hooks hand it records and go on; what becomes of the disk is its affair alone.

The promise: what was put more than 100 ms before a `kill -9` is in the database or in the journal. So turns are 30 ms
apart and no longer; estimating has a thread of its own and a share of each turn, and what does not fit into it is added
after its row is safe; a locked database is waited for only briefly before the rows go to the journal; and where a turn
is stuck in the database all the same (a checkpoint on a busy disk, SQLite's own recovery after another's death, which
takes its time whatever timeout is set), an alarm puts into the journal what it has and what waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue

from peewee import Database, InterfaceError, OperationalError

from usagetap.model import Record

from .alarm import Alarm
from .backing import Backing, Log
from .finishing import Finish, Finisher
from .journal import JOURNAL_LIMIT, Entry
from .place import is_postgres
from .rows import Row, from_row, snapshot, to_iso, to_row
from .upsert import write_finish

Closure = Callable[[Database], object]
Told = Callable[[Sequence[Record]], None]

#: seconds between the beginnings of two turns: a row alone is written at once, what comes right after it together. Most
#: of what a row costs is its turn's: wake-ups that take the interpreter from the traffic, and a transaction
TURN_EVERY = 0.03
#: items per transaction, about ten milliseconds of work
BATCH_LIMIT = 250
#: seconds of each turn that rows wait for estimating
FINISH_BUDGET = 0.01
#: rows that may wait in memory, a few kilobytes each at most; from there on they go to the journal
QUEUE_LIMIT = 10_000
#: seconds that a turn may take until its rows and those that wait go to the journal as well; a network takes longer
STUCK, STUCK_FAR = 0.04, 1.0
#: times that a closure is tried again when the database fails it
CLOSURE_TRIES = 20


class Writer:
    """Writes records, refusals and small closures of others to the database at `url`, in batches, on its own thread.

    `finish` prices an ended record; whatever it raises is logged and costs the row nothing but its price. `told` gets
    ended records once they are priced and on disk, all of a turn together. Both run on the writer's thread and should
    be quick; for a record with a finish of its own, `finish` runs after that one, on a thread beside. `log` is called
    from both threads.
    """

    def __init__(
        self,
        url: str,
        *,
        instance: str,
        finish: Finish | None,
        log: Log,
        told: Told | None = None,
        journal_dir: Path | None = None,
        queue_limit: int = QUEUE_LIMIT,
        journal_limit: int = JOURNAL_LIMIT,
    ) -> None:
        self.instance = instance
        self._finish = finish
        self._log = log
        self._told = told
        self._queue_limit = queue_limit
        self._queue: SimpleQueue[_Item] = SimpleQueue()
        self._backing = Backing(url, instance, log, self._finish_row, journal_dir, journal_limit)
        self._finisher = Finisher(self._finish_record, lambda: self._queue.put(None))
        self._alarm = Alarm(STUCK_FAR if is_postgres(url) else STUCK, self._rescue)
        self._in_turn: Sequence[_Item] = ()
        self._rescued: set[str] = set()
        self._closures: deque[_Closure] = deque()
        self._set_aside: deque[_Item] = deque()
        self._standing_in = threading.Lock()
        self._stopping = False
        self._due = 0.0
        self._thread = threading.Thread(target=self._run, name="usage-writer", daemon=True)

    # called from the proxy's event loop: nothing here waits, or touches the disk

    def start(self) -> None:
        """Start the threads. What was put before is written too."""
        self._finisher.start()
        self._alarm.start()
        self._thread.start()

    def put(self, record: Record, finish: Finish | None = None) -> None:
        """Write `record` as it is now: once when its request leaves (`open`), once when it has ended.

        `finish` is run before the common one, for what only this record's origin knows, and may take its time.
        """
        copy = snapshot(record)
        copy.instance = copy.instance or self.instance  # a row of nobody's would be taken for one of the dead
        self._put(_Put(copy, finish))

    def put_refusal(
        self, host: str, scope: str, *, refused_at: float, reason: str | None = None, expires_at: float | None = None
    ) -> None:
        """Remember that `host` refuses our field, for the model or API version `scope` (empty: altogether)."""
        expires = None if expires_at is None else to_iso(expires_at)
        row: Row = {"host": host, "scope": scope, "refused_at": to_iso(refused_at), "expires_at": expires}
        self._put(Entry(row | {"reason": reason and reason[:500]}, "refusals"))

    def forget_refusals(self, host: str | None = None) -> None:
        """Forget what `host` has refused, or what anybody has."""
        where, values = ("", ()) if host is None else (" WHERE host = {}", (host,))
        self.submit(lambda db: db.execute_sql("DELETE FROM refusals" + where.format(db.param), values))

    def submit(self, closure: Closure) -> None:
        """Run `closure(database)` on the writer's thread, after what was put before it.

        It opens its own transaction if it needs one, and should be short: rows wait meanwhile. It waits for a database
        that cannot be written, but is not kept beyond the life of the process.
        """
        self._put(_Closure(closure))

    def flush(self, timeout: float) -> bool:
        """Wait (not in the event loop!) until all that was put before is on disk; whether it is."""
        done = threading.Event()
        self._put(done)
        return done.wait(timeout)

    def stop(self, timeout: float) -> bool:
        """Write what is queued and end the thread; whether that was done within `timeout` seconds."""
        self._stopping = True
        self._queue.put(None)
        if self._thread.ident is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def lost(self) -> int:
        """Rows that were dropped for want of room, in memory and on disk."""
        return self._backing.lost

    @property
    def waiting(self) -> int:
        """Items that are queued in memory at the moment."""
        return self._queue.qsize()

    def journals(self, *, of_all: bool = False) -> list[Path]:
        """The journal files that are still to be read in: this writer's, or those of all instances."""
        return self._backing.journals(of_all)

    def _put(self, item: _Item) -> None:
        self._queue.put(item)
        if self._queue.qsize() >= self._queue_limit and self._standing_in.acquire(blocking=False):
            threading.Thread(target=self._stand_in, name="usage-writer-stand-in", daemon=True).start()

    # on the writer's thread

    def _run(self) -> None:
        self._alarm.begin()
        self._backing.open()
        while True:
            try:
                self._alarm.end()
                items = self._gather()
                self._alarm.begin()
                self._turn(items)
                if self._stopping and self._queue.empty() and not self._set_aside:
                    break
                self._backing.chores()
            except Exception as error:  # noqa: BLE001 - without this thread nothing is recorded at all
                self._log(logging.ERROR, f"usage: the writer stumbled over {error!r}")
                time.sleep(TURN_EVERY)
        self._alarm.stop()
        self._finisher.stop()
        self._write_late(limit=self._finisher.behind)
        self._run_closures()
        self._backing.close()

    def _gather(self) -> list[_Item]:
        items = [self._set_aside.popleft() for _ in range(min(BATCH_LIMIT, len(self._set_aside)))]
        if not items:
            busy = (self._finisher.late or self._closures) and not self._backing.out
            try:
                items.append(self._queue.get(timeout=0.0 if busy else max(self._backing.idle_for(), 0.001)))
            except Empty:
                return []
        early = self._due - time.monotonic()
        if early > 0 and not self._stopping and self._queue.qsize() < BATCH_LIMIT:
            time.sleep(early)
        self._due = time.monotonic() + TURN_EVERY
        while len(items) < BATCH_LIMIT:
            try:
                items.append(self._queue.get_nowait())
            except Empty:
                break
        return items

    def _turn(self, items: Sequence[_Item]) -> None:
        self._in_turn = items
        ended: dict[str, _Put] = {}
        for item in items:
            if isinstance(item, _Put) and item.record.status != "open":
                ended.setdefault(item.record.uid, item)
        finished = self._finished(ended.values())
        entries: list[Entry] = []
        for item in items:
            if isinstance(item, _Put):
                if item is ended.get(item.record.uid, item):  # what has ended already needs no open row
                    entries.append(self._entry(item.record, finished))
            elif isinstance(item, Entry):
                entries.append(item)
            elif isinstance(item, _Closure):
                self._backing.save(entries)
                entries = []
                self._closures.append(item)
                self._run_closures()
        self._backing.save(entries)
        self._in_turn = ()
        self._tell(list(finished.values()))
        for item in items:
            if isinstance(item, threading.Event):
                item.set()
        self._run_closures()
        self._write_late(limit=BATCH_LIMIT)

    def _finished(self, ended: Collection[_Put]) -> dict[str, Record]:
        """These records priced, by their keys; without those whose estimate took more than this turn's share."""
        finished, slow = [], []
        for put in ended:
            if put.finish is None:
                self._finish_record(put.record, None)
                finished.append(put.record)
            else:
                slow.append((put.record, put.finish))
        patience = FINISH_BUDGET if self._finisher.behind < self._queue_limit else None
        return {record.uid: record for record in (*finished, *self._finisher.finish(slow, patience))}

    def _entry(self, record: Record, finished: dict[str, Record]) -> Entry:
        if record.status == "open":
            return Entry(to_row(record))
        priced = finished.get(record.uid)
        return Entry(to_row(priced or record), finished=priced is not None)

    def _finish_record(self, record: Record, own: Finish | None) -> None:
        for finish in (own, self._finish):
            if finish is not None:
                try:
                    finish(record)
                except Exception as error:  # noqa: BLE001 - others' code may cost the price, never the row
                    self._log(logging.ERROR, f"usage: pricing {record.flow_id} failed: {error!r}")

    def _finish_row(self, row: Row) -> Row:
        record = from_row(row)
        self._finish_record(record, None)
        if record.uid in self._rescued:  # its own turn tells of it
            self._rescued.discard(record.uid)
        else:
            self._tell([record])
        return to_row(record)

    def _tell(self, records: Sequence[Record]) -> None:
        if records and self._told is not None:
            try:
                self._told(records)
            except Exception as error:  # noqa: BLE001 - others' code
                self._log(logging.ERROR, f"usage: {error!r}")

    def _write_late(self, limit: int) -> None:
        """Add the prices that came after their rows."""
        if self._backing.out or not (records := self._finisher.take(limit)):
            return
        if not self._backing.attempt(lambda db: write_finish(db, [to_row(record) for record in records])):
            self._finisher.put_back(records)
        else:
            self._tell(records)

    def _run_closures(self) -> None:
        while self._closures and not self._backing.out:
            item = self._closures[0]
            try:
                done = self._backing.attempt_closure(item.closure)
            except (OperationalError, InterfaceError) as error:
                item.tries += 1
                if item.tries < CLOSURE_TRIES:
                    return
                self._log(logging.ERROR, f"usage: given up after {item.tries} tries: {error}")
            except Exception as error:  # noqa: BLE001 - others' code
                self._log(logging.ERROR, f"usage: {error!r}")
            else:
                if not done:
                    return
            self._closures.popleft()

    def _rescue(self) -> None:
        """The writer is stuck: journal the rows of its turn and those behind it. It goes on with both all the same;
        what is written twice is there once.
        """
        if not self._standing_in.acquire(blocking=False):
            return
        try:
            items = [*self._in_turn, *self._set_aside]
            while len(self._set_aside) < self._queue_limit:
                try:
                    items.append(self._queue.get_nowait())
                except Empty:
                    break
                self._set_aside.append(items[-1])
            entries = []
            for item in items:  # rows only: a refusal that is written twice might come back after it was forgotten
                if isinstance(item, _Put) and not item.journaled:
                    item.journaled = True
                    finished = item.record.status == "open"
                    if not finished:
                        self._rescued.add(item.record.uid)
                    entries.append(Entry(to_row(item.record), finished=finished))
            if entries:
                self._backing.spill(entries)
                self._backing.overflowed = True
        finally:
            self._standing_in.release()

    def _stand_in(self) -> None:
        """The writer is stuck (a stalled disk, an endless closure) and memory is at its bound: journal in its place.

        Prices come when the journal is read in.
        """
        try:
            while not self._queue.empty():
                entries: list[Entry] = []
                while len(entries) < BATCH_LIMIT:
                    try:
                        item = self._queue.get_nowait()
                    except Empty:
                        break
                    if isinstance(item, _Put):
                        entries.append(Entry(to_row(item.record), finished=item.record.status == "open"))
                    elif isinstance(item, Entry):
                        entries.append(item)
                    else:
                        self._set_aside.append(item)
                self._backing.spill(entries)
        finally:
            self._backing.overflowed = True
            self._standing_in.release()
            self._queue.put(None)  # the writer may be idle by now, and is to see that there is a journal


class _Put:
    """A record on its way, and the finish that only it has."""

    __slots__ = ("finish", "journaled", "record")

    def __init__(self, record: Record, finish: Finish | None) -> None:
        self.record = record
        self.finish = finish
        self.journaled = False


class _Closure:
    """A closure on its way, and how often the database has failed it."""

    __slots__ = ("closure", "tries")

    def __init__(self, closure: Closure) -> None:
        self.closure = closure
        self.tries = 0


_Item = _Put | Entry | _Closure | threading.Event | None
