"""Pricing and estimating on a thread of their own: while a vocabulary is loaded or a long prompt is counted, rows go to
the disk all the same, and get their price and estimates when those are there."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

from usagetap.model import Record

from .rows import snapshot

Finish = Callable[[Record], None]


@dataclass(slots=True, eq=False)
class _Batch:
    """Records to finish, each with the finish that only it has, and those that are."""

    puts: Sequence[tuple[Record, Finish | None]]
    finished: list[Record] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    left: bool = False
    """Nobody waits for it any more: what is finished from now on is late."""


class Finisher:
    """Used from the writer's thread. `finish` works on a copy of each record; `wake` is called, from this one's
    thread, when late records are there to be taken."""

    def __init__(self, finish: Callable[[Record, Finish | None], None], wake: Callable[[], None]) -> None:
        self._finish = finish
        self._wake = wake
        self._queue: SimpleQueue[_Batch | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._late: deque[Record] = deque()
        self._waiting = 0
        self._thread = threading.Thread(target=self._run, name="usage-finisher", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def finish(self, puts: Sequence[tuple[Record, Finish | None]], patience: float | None) -> list[Record]:
        """The first of `puts`, finished: as many as were within `patience` seconds (`None`: all). The rest is late."""
        if not puts:
            return []
        batch = _Batch(puts)
        self._queue.put(batch)
        batch.over.wait(patience)
        with self._lock:
            batch.left = True
            self._waiting += len(puts) - len(batch.finished)
            return batch.finished

    @property
    def behind(self) -> int:
        """Records that are late, finished or not."""
        return self._waiting + len(self._late)

    @property
    def late(self) -> bool:
        """Whether there are late records to be taken."""
        return bool(self._late)

    def take(self, limit: int) -> list[Record]:
        """Late records that are finished by now, `limit` at most."""
        with self._lock:
            return [self._late.popleft() for _ in range(min(limit, len(self._late)))]

    def put_back(self, records: Sequence[Record]) -> None:
        """They could not be written."""
        with self._lock:
            self._late.extendleft(reversed(records))

    def stop(self) -> None:
        """Finish what is left, and end."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            for record, own in batch.puts:
                finished = snapshot(record)
                self._finish(finished, own)
                with self._lock:
                    if batch.left:
                        self._late.append(finished)
                        self._waiting -= 1
                    else:
                        batch.finished.append(finished)
            batch.over.set()
            if batch.left:
                self._wake()
