"""Deleting rows that are older than `usage_retention` days: at the start and once a day, a batch at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from peewee import Database

from usagetap.store.prune import BATCH, delete_batch

log = logging.getLogger(__name__)

DAY = 86400.0


class Retention:
    """A thread that only waits; the deleting is done by the writer's, between its own batches (`submit`)."""

    def __init__(self, submit: Callable[[Callable[[Database], object]], None], days: float) -> None:
        self._submit = submit
        self._days = days
        self._deleted = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage-retention", daemon=True)

    def start(self) -> None:
        """Begin; without days there is nothing to begin."""
        if self._days:
            self._thread.start()

    def stop(self) -> None:
        """End; rows that are still too old go the next time."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._submit(self._delete)
            self._stopped.wait(DAY)

    def _delete(self, db: Database) -> None:
        """One batch, on the writer's thread; the next one goes to the end of its queue, after the rows that wait."""
        count = delete_batch(db, datetime.fromtimestamp(max(time.time() - self._days * DAY, 0.0), UTC))
        self._deleted += count
        if count == BATCH and not self._stopped.is_set():
            self._submit(self._delete)
        elif self._deleted:
            log.info("usage: %d rows older than %g days deleted", self._deleted, self._days)
            self._deleted = 0
