"""Usage beside the flow: its comment leads with the numbers, its marker shows what went wrong.

Nothing here runs per chunk. While streams run, a timer looks at them once a second, and shows anew what has four times
the frames; when one has ended, the writer says so once its record is priced. What a person wrote into a comment, or
marked, stays as it is.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Sequence
from decimal import Decimal

from mitmproxy import ctx, http
from mitmproxy.hooks import UpdateHook

from usagetap.headline import clean, headline, tokens
from usagetap.mitm import exchange, recording, told
from usagetap.mitm.exchange import Exchange
from usagetap.mitm.guard import fail_open
from usagetap.mitm.streams import keep_whole
from usagetap.model import Record, Usage

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two looks at the streams that run."""
GROWTH = 4
"""Times the frames after which a stream that runs is shown anew: an update costs mitmweb as much as some ten frames."""
MOST = 50
"""Flows that one look updates: mitmweb sends each to every browser, and hashes its bodies for that."""
LARGE = 1 << 20
"""Bytes of a request whose flow is not updated while it runs, for the same reason."""

MARKERS = {"aborted": ":stop_sign:", "error": ":red_circle:"}
MISSING_MARKER = ":grey_question:"
"""Usage that was due never came (mitmproxy.utils.emoji knows these names; mitmweb shows the signs)."""

# what we wrote last, beside the flow and not in the addon: a reload of the script must not make it a stranger's
_written: weakref.WeakKeyDictionary[http.HTTPFlow, tuple[str, str]] = weakref.WeakKeyDictionary()
_flows: weakref.WeakValueDictionary[str, http.HTTPFlow] = weakref.WeakValueDictionary()
_sums: weakref.WeakKeyDictionary[http.HTTPFlow, Record] = weakref.WeakKeyDictionary()


class Comments:
    """Writes comments and markers. It stands behind `Tap` and `Sockets` in the list of addons."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- hooks

    def configure(self, updated: set[str]) -> None:
        """Hear of every record that ends, also under a new database."""
        if recording.opened():
            recording.current().on_ended = self.ended

    def running(self) -> None:
        """Show the comments in mitmweb, and begin to look. Under mitmdump there is nobody to write them for."""
        show_column()
        if hasattr(ctx.master, "view"):
            self._loop = asyncio.get_running_loop()
            self._timer = self._loop.call_later(EVERY, self.look)

    def done(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()

    @fail_open
    def request(self, flow: http.HTTPFlow) -> None:
        """Remember the flow by its id: a record knows no more."""
        if exchange.of(flow) is not None:
            _flows[flow.id] = flow
            _sums.pop(flow, None)

    @fail_open
    def websocket_start(self, flow: http.HTTPFlow) -> None:
        """The same for a WebSocket, whose turns add up."""
        _flows[flow.id] = flow

    # -- what is written

    def look(self) -> None:
        """Bring the comments of the streams that run up to date."""
        assert self._loop is not None
        self._timer = self._loop.call_later(EVERY, self.look)
        fresh = 0
        for flow, known in exchange.in_flight():
            if fresh < MOST and not known.ended and len(flow.request.raw_content or b"") <= LARGE:
                fresh += bool(self._progress(flow, known))

    @fail_open
    def _progress(self, flow: http.HTTPFlow, known: Exchange) -> bool:
        if known.reader is None:
            return False
        line = running_line(known)
        if known.reader.frames < GROWTH * known.shown_frames:
            return False
        known.shown_frames = known.reader.frames
        return write(flow, line, None)

    def ended(self, records: Sequence[Record]) -> None:
        """Records have ended and are priced; called on the writer's thread. Does nothing without a view."""
        if self._loop is not None and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(self._finals, records)
            except RuntimeError:
                return  # the loop was closed in between: nobody looks any more

    def _finals(self, records: Sequence[Record]) -> None:
        for record in records:
            self._final(record)

    @fail_open
    def _final(self, record: Record) -> None:
        flow = _flows.get(record.flow_id)
        if flow is None:
            return
        known = exchange.of(flow)
        if record.turn:
            record = _with_earlier_turns(flow, record)
        flow.metadata[told.KEY] = told.told(record, body_cut=known is not None and known.kept_cut)
        turns = f" · {record.turn} turns" if record.turn > 1 else ""
        body = known is not None and known.ended and keep_whole(flow, known)
        write(flow, headline(record) + turns, marker_of(record), also=body)


def running_line(known: Exchange) -> str:
    """A stream that runs, in a line: `1,234→? · gpt-5-mini · 37 frames`."""
    assert known.reader is not None
    seen = known.reader.peek()
    usage, model = seen.usage, seen.response_model or known.record.request_model
    known.reader.chunks  # noqa: B018 - counts what the tap has put off
    parts = [
        f"{tokens(usage.input_tokens)}→{tokens(usage.output_tokens)}",
        clean(model or "unknown model"),
        f"{known.reader.frames:,} frames",
    ]
    return " · ".join(parts)


def marker_of(record: Record) -> str:
    """The marker's name in mitmproxy; empty for what went well."""
    if record.end_reason == "no_usage":
        return MISSING_MARKER
    return MARKERS.get(record.status) or (MISSING_MARKER if record.usage_quality == "missing" else "")


def write(flow: http.HTTPFlow, comment: str, marker: str | None, *, also: bool = False) -> bool:
    """Put comment and marker (`None`: leave it) on the flow, where they are ours or empty, and show the flow anew if
    that changed anything, or something else has (`also`); true if so.
    """
    last_comment, last_marker = _written.get(flow) or _saved(flow)
    changed = also
    if flow.comment in ("", last_comment) and flow.comment != comment:
        flow.comment, changed = comment, True
        last_comment = comment
    if marker is not None and flow.marked in ("", last_marker) and flow.marked != marker:
        flow.marked, changed = marker, True
        last_marker = marker
    _written[flow] = (last_comment, last_marker)
    if changed and hasattr(ctx.master, "view"):
        ctx.master.addons.trigger(UpdateHook([flow]))
    return changed


def _saved(flow: http.HTTPFlow) -> tuple[str, str]:
    """What we had written on a flow that was saved to a file since: its metadata came back with it."""
    left = told.of(flow).get("headline")
    return (left, flow.marked) if isinstance(left, str) and flow.comment == left else ("", "")


def _with_earlier_turns(flow: http.HTTPFlow, record: Record) -> Record:
    """The record of a WebSocket's turn, with the tokens and cost of all turns before it added."""
    total = _sums.get(flow)
    if total is None or total.currency not in (None, record.currency):
        total = Record(uid=record.uid, flow_id=record.flow_id, started_at=record.started_at, usage=Usage())
    for name in ("status", "end_reason", "request_model", "response_model", "turn", "usage_quality", "provider"):
        setattr(total, name, getattr(record, name))
    for name in ("dialect", "finish_reasons", "error_type", "error_message", "cost_source"):
        setattr(total, name, getattr(record, name))
    for name in Usage.__slots__:
        count = getattr(record.usage, name)
        if count is not None:
            setattr(total.usage, name, (getattr(total.usage, name) or 0) + count)
    if record.cost is not None:
        total.cost, total.currency = (total.cost or Decimal(0)) + record.cost, record.currency
    _sums[flow] = total
    return total


def show_column() -> None:
    """Add mitmweb's comment column, unless its columns are not the usual ones: then somebody has chosen them."""
    if "web_columns" in ctx.options and not ctx.options.has_changed("web_columns"):
        columns = list(ctx.options.web_columns)
        if "comment" not in columns:
            place = columns.index("method") if "method" in columns else len(columns)
            ctx.options.update(web_columns=[*columns[:place], "comment", *columns[place:]])
