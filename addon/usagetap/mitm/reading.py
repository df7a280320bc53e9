"""Flows from a file into the table, by the very hooks that live traffic takes.

Reading is exactly once. A row's key is made of what a flow keeps for ever: its id (for HAR, which has none, a digest
of the exchange), the moment of its request (a client replay keeps the id) and the number of the response in it. So the
same flow out of the same file, a copy of it, or a longer one finds its own row. A flow that was recorded live when it
passed is found by its id and moment, and left out.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from mitmproxy import exceptions, flow, http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.io import FlowReader
from mitmproxy.io.har import request_to_flow
from mitmproxy.master import Master
from mitmproxy.options import Options
from peewee import Database

from usagetap.dialects import detect
from usagetap.mitm import exchange, recording
from usagetap.mitm.incoming import plain_body, request_of
from usagetap.mitm.tap import Tap
from usagetap.mitm.websocket import Sockets
from usagetap.store.rows import from_iso

FLUSH_EVERY = 500
"""Rows after which we wait for the writer: far less than it keeps in memory before it turns to its journal."""
FLUSH_TIMEOUT = 120.0
SAME_MOMENT = 10.0
"""Seconds between the moments of one request, told by the live addon and by the flow (hooks of other addons wait)."""

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


class _Unseen:
    """Of a body that broke off and that the file does not have, nothing can be counted: no estimate, rather than 0."""

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Comes after the tap's own hook, before anything is read."""
        known = exchange.of(flow)
        if known is not None and flow.response is not None and flow.response.raw_content is None:
            known.passed = None


class Reading:
    """The addon without a proxy: made inside a running event loop, fed one flow after the other, closed at the end."""

    def __init__(self, db: Database, url: str, specs: Sequence[str] = ()) -> None:
        """Read into the database at `url`; `db` is a connection to it, `specs` are options (`name=value`).

        Requests are what they were: nothing is injected into a flow from a file. Raises `OptionsError`.
        """
        self.outcome = Outcome()
        self._db = db
        self._seen: set[str] = set()
        self._unended: list[flow.Flow] = []
        self._unflushed = 0
        self._master = Master(Options())
        self._master.options.set(f"usage_db={url}", defer=True)
        self._master.addons.add(Proxyserver(), Sockets(), Tap(), _Unseen())
        self._master.options.set("usage_include=off", *specs)

    async def take(self, one: flow.Flow) -> None:
        """Run one flow through the addon's hooks."""
        self.outcome.flows += 1
        if not isinstance(one, http.HTTPFlow):
            self.outcome.other += 1
            return
        if _body_is_missing(one):
            if self._is_model_request(one):
                self.outcome.without_body += 1
            else:
                self.outcome.other += 1
            return
        uids = Uids(f"{one.id}-{round(one.request.timestamp_start * 1000)}")
        known = self._known(one, uids.prefix)
        if known == "live":
            self.outcome.known += 1
            return
        if one.client_conn.peername and one.client_conn.peername[1] == 0:  # made up by mitmproxy: a HAR does not say
            one.client_conn.peername = None  # type: ignore[assignment]
        recording.current().uids = uids
        await self._master.load_flow(one)
        if not uids.taken:
            self.outcome.other += 1
        elif known or uids.prefix in self._seen:
            self.outcome.known += 1
        else:
            self.outcome.recorded += 1
            self.outcome.rows += uids.taken
        if uids.taken:
            self._seen.add(uids.prefix)
            if one.response is None and one.error is None:
                self._unended.append(one)  # what is known of it lives as long as the flow; it ends with `close`
            self._flush(uids.taken)

    async def close(self) -> None:
        """End what the files left open, write everything down."""
        self._flush(FLUSH_EVERY)
        self._master.should_exit.set()
        await self._master.done()

    def _flush(self, rows: int) -> None:
        self._unflushed += rows
        if self._unflushed >= FLUSH_EVERY:
            self._unflushed = 0
            recording.current().writer.flush(FLUSH_TIMEOUT)

    def _is_model_request(self, one: http.HTTPFlow) -> bool:
        hosts = recording.current().settings.hosts
        hosts = recording.current().settings.hosts
        request = request_of(one, plain_body(one, one.request.raw_content or b"")[0])
        place = (request.host, request.port, request.path)
        return detect(request, openai_compatible=hosts.covers(*place)) is not None

    def _known(self, one: http.HTTPFlow, prefix: str) -> Literal["live", "file"] | None:
        """Whether the table has this flow: from when it passed, or from an earlier reading that came to its end."""
        sql = "SELECT uid, started_at, status, end_reason FROM usage WHERE flow_id = ?".replace("?", self._db.param)
        moment = one.request.timestamp_end or one.request.timestamp_start
        for uid, started_at, status, end_reason in self._db.execute_sql(sql, (one.id,)).fetchall():
            if uid.startswith(prefix):
                if status != "open" and end_reason != "proxy_died":
                    return "file"
            elif abs(from_iso(started_at) - moment) <= SAME_MOMENT:
                return "live"
        return None


def _body_is_missing(one: http.HTTPFlow) -> bool:
    """Whether the answer came to its end, and the file does not have it: then there is nothing to learn from it."""
    if one.response is None or one.error is not None or one.websocket is not None:
        return False
    return one.response.raw_content is None


def flows_in(path: Path, advance: Callable[[int], None]) -> Iterator[flow.Flow]:
    """Every flow of a mitmproxy flow file or a HAR file; `advance` hears of the bytes read. Raises `Unreadable`."""
    count = 0
    try:
        with path.open("rb") as file:
            for one in _har_flows(file, advance) if _is_har(file) else _saved_flows(file, advance):
                yield one
                count += 1
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror or error}") from error
    except exceptions.FlowReadException as error:
        if count:
            raise Unreadable(f"{path} is damaged: {count} of its flows could be read, the rest cannot be") from error
        raise Unreadable(f"{path} is neither a mitmproxy flow file nor a HAR file") from error


def _saved_flows(file: BinaryIO, advance: Callable[[int], None]) -> Iterator[flow.Flow]:
    before = 0
    for one in FlowReader(file).stream():
        yield one
        advance(file.tell() - before)
        before = file.tell()


def _is_har(file: BinaryIO) -> bool:
    start = file.read(4).removeprefix(b"\xef\xbb\xbf").lstrip()
    file.seek(0)
    return start.startswith(b"{")


def _har_flows(file: BinaryIO, advance: Callable[[int], None]) -> Iterator[flow.Flow]:
    """A HAR file's entries. It is read whole: JSON has no other way."""
    content = file.read()
    try:
        entries = json.loads(content.decode("utf-8-sig"))["log"]["entries"]
        for entry in entries:
            yield _har_flow(entry)
            advance(len(content) // len(entries))
    except (ValueError, KeyError, TypeError, AttributeError, exceptions.OptionsError) as error:
        raise exceptions.FlowReadException(str(error)) from error


def _har_flow(entry: dict[str, Any]) -> http.HTTPFlow:
    """mitmproxy's reading of an entry, and what it leaves out: an id, an error, and that a body is not there."""
    one = request_to_flow(entry)
    response, content = one.response, entry["response"]["content"]
    assert response is not None
    stamp = (
        entry["startedDateTime"],
        one.request.method,
        one.request.url,
        one.request.raw_content,
        response.raw_content,
    )
    one.id = str(uuid.uuid5(_HAR, hashlib.sha256(repr(stamp).encode()).hexdigest()))
    one.request.timestamp_end = one.request.timestamp_start  # the end of it all, says mitmproxy
    text = content.get("text", "")
    if not response.status_code:
        one.response = None
        one.error = flow.Error(entry["response"].get("_error") or "no response", one.request.timestamp_start)
    elif not text and response.status_code != 204:
        response.raw_content = None
    elif content.get("encoding") != "base64":
        # mitmproxy writes and reads a text without a charset as Latin-1, browsers as what it is
        with suppress(UnicodeError):
            response.raw_content = text.encode("latin-1")
            (response.raw_content or b"").decode()
            return one
        response.raw_content = text.encode("utf-8", "surrogateescape")
    return one
