"""Flows from a file into the table, by the very hooks that live traffic takes.

Reading is exactly once. A row's key is made of what a flow keeps for ever: its id (for HAR, which has none, a digest of
the exchange), the moment of its request (a client replay keeps the id) and the number of the response in it. So the same
flow out of the same file, a copy of it, or a longer one finds its own row. A flow that was recorded live when it passed
is found by its id and moment, and left out.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from mitmproxy import exceptions, flow, http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.io import FlowReader
from mitmproxy.io.har import request_to_flow
from mitmproxy.master import Master
from mitmproxy.options import Options
from peewee import Database

from usagetap.dialects import detect
from usagetap.mitm import recording
from usagetap.mitm.incoming import plain_body, request_of
from usagetap.mitm.tap import Tap
from usagetap.store.rows import from_iso

FLUSH_EVERY = 500
"""Rows after which we wait for the writer: far less than it keeps in memory before it turns to its journal."""
FLUSH_TIMEOUT = 120.0
SAME_MOMENT = 10.0
"""Seconds between the moments of one request, as the live addon and as the flow tell it (hooks of other addons wait)."""

_HAR = uuid.UUID("b3f1c7de-6d1b-4f0e-9a53-5a1d0c3f6a10")


class Unreadable(Exception):
    """A file cannot be read, or only its beginning can; the message says which file and from where."""


@dataclass(slots=True)
class Outcome:
    """What was in the files. All but `rows` count flows."""

    flows: int = 0
    rows: int = 0
    """Responses that were not in the table before."""
    recorded: int = 0
    known: int = 0
    """Flows that the table had already, from an earlier reading or live."""
    without_body: int = 0
    """Model responses whose body the file does not have (mitmproxy keeps none of a body that it streamed)."""
    other: int = 0
    """No model requests."""


@dataclass(slots=True)
class Uids:
    """The keys of one flow's records, and how many were taken."""

    prefix: str
    taken: int = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.taken += 1
        return f"{self.prefix}-{self.taken}"


@dataclass(slots=True)
class Reading:
    """The addon without a proxy: made inside a running event loop, fed one flow after the other, closed at the end."""

    db: Database
    master: Master
    tap: Tap
    outcome: Outcome = field(default_factory=Outcome)
    _seen: set[str] = field(default_factory=set)
    _unended: list[flow.Flow] = field(default_factory=list)
    _unflushed: int = 0

    @classmethod
    def start(cls, db: Database, settings: dict[str, Any], specs: tuple[str, ...] = ()) -> Reading:
        """The addon with these options, and `specs` (`name=value`) over them. Raises `OptionsError`.

        `db` is the same database, for asking what it has.
        """
        master, tap = Master(Options()), Tap()
        master.addons.add(Proxyserver(), tap)
        if specs:
            options = master.options
            known = {spec.partition("=")[0]: options.parse_setval(options._options[spec.partition("=")[0]], ...) for spec in ()}
            settings = settings | known
        master.options.update(**settings)
        return cls(db, master, tap)
