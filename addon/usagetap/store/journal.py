"""The journal: rows that the database would not take, one JSON line each, beside it until it does.

Reading a journal in is harmless any number of times (`upsert`), so a file is removed only after all of it is committed:
a crash in between costs a second reading, never a row, and never counts one twice.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import batched
from pathlib import Path

import orjson
from peewee import Database

from .place import Place
from .rows import Row, from_row, to_row
from .upsert import write

#: bytes of journal that one instance keeps: some 200,000 rows, a working day without a database
JOURNAL_LIMIT = 256 * 1024 * 1024
#: entries read in per transaction, so that new rows wait at most some ten milliseconds in between
TAKE_IN_BATCH = 100

_FORMAT = 1
_REQUIRED = ("uid", "flow_id", "instance", "started_at", "status")
_REFUSAL_REQUIRED = ("host", "scope", "refused_at")


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to write: a row of `usage` or of `refusals`."""

    row: Row
    table: str = "usage"
    finished: bool = True
    """Whether price and estimates are in it."""

    def line(self) -> bytes:
        """The entry as a line of the journal; NULLs are left out."""
        row = {name: value for name, value in self.row.items() if value is not None}
        return orjson.dumps(
            {"v": _FORMAT, "table": self.table, "finished": self.finished, "row": row}, option=orjson.OPT_APPEND_NEWLINE
        )


class LaterFormat(Exception):
    """The journal was written by a later version of usagetap."""


def parse(line: bytes) -> Entry | None:
    """The entry on a line, or `None` for what is no entry (a torn line). Raises `LaterFormat`."""
    try:
        content = orjson.loads(line)
        if content["v"] > _FORMAT:
            raise LaterFormat
        row, table = content["row"], content["table"]
        required = _REQUIRED if table == "usage" else _REFUSAL_REQUIRED
        if not all(isinstance(row[name], str) for name in required):
            return None
        # through a record, so that every column is there, of its type, and in bounds
        row = to_row(from_row(row)) if table == "usage" else row
        return Entry(row, table, bool(content["finished"]))
    except (ValueError, TypeError, KeyError, ArithmeticError):
        return None


class Journal:
    """Appends for one instance, from the writer's thread or, when that is stuck, from the one that stands in."""

    def __init__(self, place: Place, instance: str, limit: int = JOURNAL_LIMIT) -> None:
        self._place = place
        self._instance = instance
        self._limit = limit
        self._lock = threading.Lock()
        self._seals = 0
        self.path = place.journal(instance)

    def append(self, entries: Sequence[Entry]) -> int:
        """Write. Returns how many entries had no room under the limit. Raises `OSError`, with none added.

        Without an fsync, as the database commits: it survives a `kill -9` of the process, and a busy disk would take
        longer for it than a row may wait. What a power failure can cost is the last seconds of an outage.
        """
        with self._lock:
            room = self._limit - sum(path.stat().st_size for path in self.pending())
            lines: list[bytes] = []
            for entry in entries:
                line = entry.line()
                room -= len(line)
                if room < 0:
                    break
                lines.append(line)
            if lines:
                self._append(b"".join(lines))
            return len(entries) - len(lines)

    def _append(self, content: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            before = os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, content) != len(content):
                    raise OSError(28, "No space left on device")
            except OSError:
                os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)

    def pending(self) -> list[Path]:
        """This instance's journal files that are still to be read in, the oldest first."""
        return [path for instance, path in self._place.journals() if instance == self._instance]

    def seal(self) -> None:
        """Close the current file to further appends, so that it can be read in while a new one grows."""
        with self._lock:
            if self.path.exists():
                self._seals += 1
                self.path.rename(self.path.with_name(f"{self.path.stem}.{self._seals:06d}.jsonl"))


def take_in(
    db: Database, path: Path, log: Callable[[str], None], finish: Callable[[Row], Row] | None = None
) -> Iterator[int]:
    """Read a journal into the database, a transaction at each step, and remove it at the end.

    Yields the number of entries written so far. `finish` prices what was journaled unpriced. What cannot be read is
    kept in a file named `….damaged`; only a last line without its newline, cut by a crash, is dropped.
    """
    done = 0
    damaged: list[bytes] = []
    try:
        with path.open("rb") as lines:
            for some in batched(lines, TAKE_IN_BATCH):
                entries = [(line, parse(line)) for line in some]
                damaged += [line for line, entry in entries if entry is None and line.endswith(b"\n")]
                good = [entry for _, entry in entries if entry is not None]
                rows = [e.row if e.finished or finish is None else finish(e.row) for e in good if e.table == "usage"]
                write(db, rows, [e.row for e in good if e.table == "refusals"])
                done += len(good)
                yield done
    except FileNotFoundError:
        return
    except LaterFormat:
        log(f"{path} was written by a later usagetap: it is left there for that one to read")
        return
    if damaged:
        keep = path.with_name(path.name + ".damaged")
        with open(os.open(keep, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as file:
            file.writelines(damaged)
        log(f"{path}: {len(damaged)} lines cannot be read and are kept in {keep.name}")
    path.unlink(missing_ok=True)
