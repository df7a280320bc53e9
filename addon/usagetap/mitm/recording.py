"""Where records go: the writer thread, and what is done there to each before it is written.

One recording at a time for the whole process. It lives in this module, so that it outlives a script reload: what is
queued, and streams that go on, belong to the process and not to the script.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from mitmproxy import exceptions
from peewee import Database, PeeweeException

from usagetap.headline import headline
from usagetap.mitm import estimates
from usagetap.mitm.options import Settings
from usagetap.mitm.refusals import LIMIT as REFUSALS_KEPT
from usagetap.mitm.refusals import Refusals
from usagetap.mitm.resolve import Resolver
from usagetap.mitm.retention import Retention
from usagetap.model import Record, Usage
from usagetap.store.database import StoreError
from usagetap.store.finishing import Finish
from usagetap.store.instance import new_id
from usagetap.store.place import place_of
from usagetap.store.prune import prune_refusals
from usagetap.store.queries import open_reader, refusals
from usagetap.store.resolved import write_resolved
from usagetap.store.rows import from_iso
from usagetap.store.secret import fingerprint, load_secret
from usagetap.store.summing import Summing
from usagetap.store.writer import Writer

log = logging.getLogger(__name__)
logging.getLogger("peewee").setLevel(logging.WARNING)  # it logs every statement with its values

DRAIN = 5.0
"""Seconds that a stop waits for the writer: more than any batch takes, less than what a person waits for."""

FIRST_WAIT = 2.0
"""Seconds that the start waits for the database at most: while its tables are made, rows would wait in memory."""
REFRESH = 30.0
"""Seconds between two looks at table `refusals`: `usagetap refusals clear` is heard within that time."""

type Ended = Callable[[Sequence[Record]], None]
type Refused = tuple[str, str, float | None]


class Recording:
    """The writer with its instance, secret and prices, for one database."""

    def __init__(self, settings: Settings) -> None:
        """Raises `OptionsError` where the price file or the database's place is no good."""
        self.settings = settings
        self.instance = new_id()
        self.on_ended: Ended | None = None
        """Called on the writer's thread with the records that have ended, priced and on disk."""
        self.uids: Iterator[str] = (f"{self.instance}-{number}" for number in itertools.count(1))
        """The keys of the records to come; whoever reads flows from a file puts lasting ones in their place."""
        self._prices = _read_prices(settings.prices)
        self._secret = _secret(settings.db)
        _warm(settings.estimate)
        self.refusals = Refusals(_known_refusals(settings.db))
        self.writer = Writer(settings.db, instance=self.instance, finish=self._price, told=self._ended, log=_log)
        self.writer.start()
        self.writer.flush(FIRST_WAIT)
        self.resolver = Resolver(self._resolved, _log) if settings.resolve else None
        self._retention = Retention(self.writer.submit, settings.retention)
        self._retention.start()
        self._summing = Summing(settings.db, lambda text: _log(logging.DEBUG, text))
        self._summing.start()

    def uid(self) -> str:
        """A new record's key."""
        return next(self.uids)

    def fingerprint(self, content: bytes | None) -> str | None:
        """The keyed hash of `content`; `None` for nothing."""
        return fingerprint(self._secret, content) if content else None

    def put(self, record: Record, finish: Finish | None = None) -> None:
        """Hand a record to the writer: once when its request leaves, once when it has ended."""
        self.writer.put(record, finish)

    def refresh(self) -> None:
        """Take up what was learned by another proxy, or cleared by hand, since; read on the writer's thread."""
        self.writer.submit(self._learn)

    def _learn(self, db: Database) -> None:
        prune_refusals(db, datetime.now(UTC), REFUSALS_KEPT)
        self.refusals.replace(_refused(db))

    def stop(self) -> None:
        """Write what is queued and end."""
        self._retention.stop()
        self._summing.stop()
        if self.resolver is not None:
            self.resolver.stop()
        if not self.writer.stop(DRAIN):
            log.error("usage: the writer did not finish in %.0f s: what it had left may be lost", DRAIN)

    def _resolved(self, record: Record) -> None:
        """What a provider told after the end; called on the resolver's thread."""
        self.writer.submit(lambda db: write_resolved(db, record))
        if self.on_ended is not None:
            self.on_ended([record])

    def _price(self, record: Record) -> None:
        from usagetap import pricing

        pricing.apply(record, pricing.price(record, overrides=self._prices))

    def _ended(self, records: Sequence[Record]) -> None:
        """Tell of records that are on disk; together, for an entry in mitmproxy's log costs as much as a small row."""
        for level, some in (
            (logging.INFO, [record for record in records if record.end_reason != "no_usage"]),
            (logging.WARNING, [record for record in records if record.end_reason == "no_usage"]),
        ):
            if some:
                log.log(level, "%s", "\n".join(f"usage: {headline(record)}" for record in some))
        if self.on_ended is not None:
            self.on_ended(records)


@cache
def _warm(estimate: bool) -> None:
    """Load price table and vocabulary before there is traffic, which would wait for a tenth of a second: the one is
    Python, the other Rust that keeps the interpreter to itself, on whatever thread.
    """
    from usagetap import pricing

    sample = Usage(input_tokens=1, output_tokens=1)
    record = Record("", "", time.time(), provider="openai", request_model="gpt-4o", status="ok", usage=sample)
    try:
        pricing.price(record)
        if estimate and estimates.available():
            estimates.estimator().count_request(None, {})
    except Exception as error:  # noqa: BLE001 - what is broken there may cost prices and estimates, never the proxy
        log.warning("usage: prices or estimates will be missing: %r", error)


_current: Recording | None = None
_running = False


def current() -> Recording:
    """The recording that `configure` opened."""
    assert _current is not None, "configure comes before every other hook"
    return _current


def opened() -> bool:
    """Whether there is one: not after an option that is no good, by which mitmproxy will end."""
    return _current is not None


def running() -> None:
    """The proxy has started."""
    global _running  # noqa: PLW0603 - the process has one recording, and so does this module
    _running = True


def _log(level: int, message: str) -> None:
    """The writer's log. An error logged while mitmproxy starts ends it, and a bad disk must not: a
    warning until then.
    """
    log.log(level if _running else min(level, logging.WARNING), "%s", message)


def open_for(settings: Settings) -> Recording:
    """The recording for these settings: the one there is, or a new one in its place. Raises `OptionsError`."""
    global _current  # noqa: PLW0603 - as above
    if _current is None or _current.settings != settings:
        fresh = Recording(settings)
        close()
        _current = fresh
        log.info("usage: recording to %s", settings)
        _say_what_is_missing(settings.estimate)
    return _current


@cache
def _say_what_is_missing(estimate: bool) -> None:
    """The packages that the addon does without, and what that costs; said once."""
    from usagetap import pricing
    from usagetap.estimate import Estimator

    missing = []
    if not pricing.installed():
        missing.append(("genai-prices", "no price table, so no cost but the providers' own and your price file's"))
    if estimate and not Estimator.available():
        missing.append(("bpe-openai", "no estimates where a provider's count never came"))
    if missing:
        without = "; ".join(f"without {package}: {cost}" for package, cost in missing)
        packages = " ".join(package for package, _ in missing)
        log.info("usage: %s (`%s -m pip install %s`)", without, sys.executable, packages)


def close() -> None:
    """Write everything down."""
    global _current
    former, _current = _current, None
    if former is not None:
        former.stop()


atexit.register(close)


def _secret(db: str) -> bytes:
    folder = place_of(db).folder
    try:
        return load_secret(folder)
    except OSError as error:
        log.warning("usage: no place for a secret in %s (%s): fingerprints hold for this run only", folder, error)
        return secrets.token_bytes(32)


def _read_prices(path: str) -> Any:
    if not path:
        return None
    from usagetap import pricing

    try:
        return pricing.read_prices(Path(path).expanduser())
    except pricing.PriceFileError as error:
        raise exceptions.OptionsError(str(error)) from error


def _known_refusals(db: str) -> list[Refused]:
    """What table `refusals` says at the start; nothing where there is no table yet."""
    try:
        with closing(open_reader(db)) as reader:
            return _refused(reader)
    except (StoreError, PeeweeException, OSError):  # the writer will say what is wrong with it
        return []


def _refused(db: Database) -> list[Refused]:
    return [
        (row["host"], row["scope"], from_iso(row["expires_at"]) if row["expires_at"] else None) for row in refusals(db)
    ]
