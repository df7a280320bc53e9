"""Where records go: the writer thread, and what is done there to each before it is written."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mitmproxy import exceptions

from usagetap.mitm.options import Settings
from usagetap.mitm.refusals import Refusals
from usagetap.model import Record
from usagetap.store.instance import new_id
from usagetap.store.place import place_of
from usagetap.store.secret import fingerprint, load_secret
from usagetap.store.writer import Writer

log = logging.getLogger(__name__)
logging.getLogger("peewee").setLevel(logging.WARNING)  # it logs every statement with its values

DRAIN = 5.0
"""Seconds that `done` waits for the writer: more than any batch takes, less than what a person waits for."""


class Recording:
    """The writer with its instance, secret and prices, for one database."""

    def __init__(self, settings: Settings, on_finished: Callable[[Record], None] | None = None) -> None:
        """Raises `OptionsError` where the price file or the database's place is no good."""
        self.settings = settings
        self.instance = new_id()
        self._numbers = itertools.count(1)
        self._prices = _read_prices(settings.prices)
        self._on_finished = on_finished
        self._secret = _secret(settings.db)
        self.writer = Writer(settings.db, instance=self.instance, finish=self._finish, log=_log)
        self.writer.start()
        self.refusals = Refusals(_known_refusals(settings.db))

    def uid(self) -> str:
        """A new record's key."""
        return f"{self.instance}-{next(self._numbers)}"

    def fingerprint(self, content: bytes | None) -> str | None:
        """The keyed hash of `content`; `None` for nothing."""
        return fingerprint(self._secret, content) if content else None

    def stop(self) -> None:
        """Write what is queued and end."""
        if not self.writer.stop(DRAIN):
            log.error("usage: the writer did not finish in %.0f s; what it had left is in the journal or lost", DRAIN)

    def _finish(self, record: Record) -> None:
        """Price an ended record; on the writer's thread, where genai-prices may take its time to load."""
        from usagetap import pricing

        pricing.apply(record, pricing.price(record, overrides=self._prices))
        if self._on_finished is not None:
            self._on_finished(record)


def _log(level: int, message: str) -> None:
    """The writer's log. Never above WARNING while we start: mitmproxy exits on an error logged then."""
    log.log(min(level, logging.WARNING) if threading.current_thread().daemon else level, message)


def _secret(db: str) -> bytes:
    folder = place_of(db).folder
    try:
        return load_secret(folder)
    except OSError as error:
        log.warning("usage: no secret for fingerprints at %s (%s): those of this run compare only with each other", folder, error)
        import secrets

        return secrets.token_bytes(32)


def _read_prices(path: str) -> Any:
    if not path:
        return None
    from usagetap import pricing

    try:
        return pricing.read_prices(Path(path).expanduser())
    except pricing.PriceFileError as error:
        raise exceptions.OptionsError(str(error)) from error


def _known_refusals(db: str) -> Iterable[tuple[str, str, float | None]]:
    """What table `refusals` says at the start; nothing where there is no table yet."""
    from usagetap.store.database import StoreError
    from usagetap.store.queries import open_reader, refusals
    from usagetap.store.rows import from_iso

    try:
        reader = open_reader(db)
    except (StoreError, OSError):
        return []
    try:
        return [
            (row["host"], row["scope"], from_iso(row["expires_at"]) if row["expires_at"] else None)
            for row in refusals(reader)
        ]
    finally:
        reader.close()
