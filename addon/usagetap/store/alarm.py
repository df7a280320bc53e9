"""Goes off when somebody is stuck: a turn that takes longer than it may, and again for as long as it does."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Alarm:
    """Calls `late`, on a thread of its own, whenever a turn has taken `patience` seconds more."""

    def __init__(self, patience: float, late: Callable[[], None]) -> None:
        self._patience = patience
        self._late = late
        self._changed = threading.Condition()
        self._turns = self._turn = 0
        """How many there were, and which it is now; 0 between two of them."""
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="usage-alarm", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def begin(self) -> None:
        """A turn begins."""
        with self._changed:
            self._turns += 1
            self._turn = self._turns
            self._changed.notify()

    def end(self) -> None:
        """It has ended. Nobody is woken for that: who waits for it sees so when the next one begins, or in time."""
        with self._changed:
            self._turn = 0

    def stop(self) -> None:
        """Go off no more."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._turn or self._stopped)
                over = self._changed.wait_for(self._other_than(self._turn), self._patience)
                if self._stopped:
                    return
            if not over:
                self._late()

    def _other_than(self, turn: int) -> Callable[[], bool]:
        return lambda: self._turn != turn or self._stopped
