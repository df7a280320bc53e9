"""The addon: mitmproxy's hooks, one after the other, and the one finaliser that all of them lead to.

Traffic comes first. No hook waits, touches the disk or raises; whatever goes wrong here is logged once per flow, and
the flow goes on as if we were not there.
"""

from __future__ import annotations

import asyncio
import logging
import time

from mitmproxy import ctx, exceptions, http
from mitmproxy.addonmanager import Loader
from mitmproxy.connection import Client, ConnectionState
from mitmproxy.utils import asyncio_utils

from usagetap.dialects import UNKNOWN, detect
from usagetap.dialects.base import Dialect
from usagetap.ending import Cut, End
from usagetap.mitm import edits, estimates, exchange, options, recording, retry
from usagetap.mitm.clock import Clock
from usagetap.mitm.exchange import Exchange
from usagetap.mitm.guard import fail_open, report
from usagetap.mitm.idle import cut_upstream, idle
from usagetap.mitm.incoming import credential_of, headers_of, masked, plain_body, request_of
from usagetap.mitm.rows import conclude, conclude_unread, open_row, take_read, timed, timed_by_flow
from usagetap.mitm.streams import keep_whole_once_shown, streamed_request, tap_response
from usagetap.mitm.who import cut_of, killed, note_timeout
from usagetap.model import Observation, Request
from usagetap.providers import provider
from usagetap.reader import Reader
from usagetap.rewrite import blames_us

log = logging.getLogger(__name__)

UI_KEEPS = 1 << 20
"""Bytes of a streamed body that `usage_keep_body=auto` keeps where there is a UI to show it."""


class Tap:
    """Records every model response that passes."""

    def __init__(self) -> None:
        self._estimates = False
        self._rounds: asyncio.Task[None] | None = None

    def load(self, loader: Loader) -> None:
        """Declare the options."""
        options.declare(loader.add_option)

    def configure(self, updated: set[str]) -> None:
        """Check the options; open the database that they name. Raises `OptionsError`."""
        if "confdir" not in updated and not any(name.startswith("usage_") for name in updated):
            return
        try:
            settings = options.read(ctx.options)
            recording.open_for(settings)
        except exceptions.OptionsError as error:
            if self._rounds is not None or ctx.master.addons.get("errorcheck") is None:
                raise  # the option keeps its value
            log.error("usage: %s", error)  # errorcheck ends the start; raised, a traceback would be printed before it
        else:
            self._estimates = settings.estimate and estimates.available()

    # -- hooks

    def running(self) -> None:
        """The proxy has started."""
        recording.running()
        self._rounds = asyncio_utils.create_task(self._look_round(), name="usage: idle streams", keep_ref=True)

    async def _look_round(self) -> None:
        """Look for idle streams, as often as a quarter of what they may be idle, at the clock, and now and then for
        refusals.
        """
        refreshed, clock = time.monotonic(), Clock()
        while True:
            timeout = recording.current().settings.idle_timeout
            await asyncio.sleep(min(max(timeout / 4, 0.05), 1.0) if timeout else 1.0)
            clock.look()
            for flow, known in exchange.in_flight() if timeout else ():
                self._cut_if_idle(flow, known, timeout)
            if time.monotonic() - refreshed > recording.REFRESH:
                refreshed = time.monotonic()
                recording.current().refresh()

    @fail_open
    def _cut_if_idle(self, flow: http.HTTPFlow, known: Exchange, timeout: float) -> None:
        if idle(known, time.monotonic(), timeout):
            self._end(flow, known, "idle")
            cut_upstream(flow)

    @fail_open
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """A body that mitmproxy would stream away unread is gathered by ourselves."""
        if ctx.options.stream_large_bodies:
            streamed_request(flow, lambda raw: self._outgoing(flow, raw, streamed=True))

    @fail_open
    def request(self, flow: http.HTTPFlow) -> None:
        """The request is whole: edit it, and open its row."""
        known = exchange.of(flow)
        if known is not None and not known.ended and known.streamed:
            return
        raw = flow.request.raw_content
        if raw is not None and "websocket" not in flow.request.headers.get("upgrade", "").lower():
            self._outgoing(flow, raw, streamed=False)

    @fail_open
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """The answer begins: read it as it passes, if it is one that streams."""
        known = exchange.of(flow)
        if known is None or known.ended or flow.response is None or flow.response.status_code < 200:
            return
        streams = flow.live and _streams(flow, known)
        if streams:  # first of all: whatever fails below, the client does not wait for the whole of it
            flow.response.stream = flow.response.stream or True
        self._start_reader(flow, known)
        if flow.response.status_code < 400:
            known.original = None
        if streams:
            tap_response(flow, known, self._keep_limit(), lambda error: report(flow, "the tap", error))

    async def response(self, flow: http.HTTPFlow) -> None:
        """The answer is whole; a refusal of our edit is answered by a second try."""
        known = exchange.of(flow)
        if known is None or known.ended or flow.response is None or flow.response.status_code == 101:
            return
        if flow.response.status_code < 200:  # mitmproxy takes Early Hints for the answer, drops the real one (#2229)
            known.record.http_status = flow.response.status_code
            self._end(flow, known, "upstream")
            return
        if self._refused(flow, known):
            await self._ask_again(flow, known)
        self._answered(flow, known)

    @fail_open
    def error(self, flow: http.HTTPFlow) -> None:
        """The exchange broke off."""
        known = exchange.of(flow)
        if known is None or known.ended:
            return
        try:
            cut: Cut = "killed" if killed(flow, known) else cut_of(flow)
        except Exception as error:  # noqa: BLE001 - else the row would stay open
            self._give_up(flow, known, "upstream", error)
        else:
            self._end(flow, known, cut)

    @fail_open
    def client_connected(self, client: Client) -> None:
        """Learn when mitmproxy itself closes an idle connection: it blames the client."""
        note_timeout(client)

    @fail_open
    def client_disconnected(self, client: Client) -> None:
        """Nobody waits for a second try any more."""
        retry.stop_for(client)

    def done(self) -> None:
        """The proxy stops; at a mere reload of the script everything goes on."""
        if self._rounds is not None:
            self._rounds.cancel()
        if ctx.master.should_exit.is_set():
            self.stop()

    @fail_open
    def stop(self) -> None:
        """End what is in flight as `proxy_stopped`, and write everything down."""
        for flow, known in exchange.in_flight():
            self._end(flow, known, "stopped")
        recording.close()

    # -- what the hooks do

    def _outgoing(self, flow: http.HTTPFlow, raw: bytes, *, streamed: bool) -> bytes:
        """Edit a request and open its row; returns its body as it goes on the wire."""
        here = recording.current()
        settings = here.settings
        plain, unreadable = plain_body(flow, raw)
        request = request_of(flow, plain)
        dialect = _dialect(request, settings)
        if dialect is None:
            return raw
        coding = request.headers.get("content-encoding")
        if flow.live:
            edit = edits.edit(request, dialect, plain, coding, settings, here.refusals)
            if unreadable and dialect.takes_include_usage:
                edit.skipped = unreadable
            edits.say(request, edit)
        else:
            edit = edits.as_sent(request, dialect)  # a flow out of a file has happened already
        model, streams = dialect.model(request), dialect.streams(request)
        record = open_row(
            flow,
            request,
            here,
            dialect=dialect.name,
            operation=dialect.operation(request),
            model=model,
            stream=streams,
            edit=edit,
            raw=raw,
        )
        known = Exchange(record, request, dialect, time.monotonic(), live=flow.live, streamed=streamed)
        known.usage_due = streams and edit.usage_asked
        known.strip = edits.strips(edit, settings.strip_frame)
        known.credential = credential_of(request) if settings.resolve else None
        known.original = raw if edit.injected else None
        if self._estimates:
            known.passed = estimates.passed_for(request, model, dialect.name)
        if not streamed:
            edits.apply(flow, edit)
        if settings.tag_header in request.headers:
            flow.request.headers.pop(settings.tag_header, None)
        if known.strip and known.usage_due and "accept-encoding" in request.headers:
            known.accept_encoding = request.headers["accept-encoding"]
            flow.request.headers["accept-encoding"] = "identity"
        exchange.begin(flow, known)
        if dialect is not UNKNOWN:  # that one is ours only if it turns out to tell its usage
            here.put(record)
        return raw if edit.body is None else edit.body

    def _start_reader(self, flow: http.HTTPFlow, known: Exchange) -> None:
        assert flow.response is not None
        headers = headers_of(flow.response.headers)
        known.record.http_status = flow.response.status_code
        known.record.provider = provider(known.request, headers)
        known.reader = Reader(
            known.dialect,
            content_type=headers.get("content-type", ""),
            content_encoding=headers.get("content-encoding"),
            http_status=flow.response.status_code,
            headers=headers,
            stream=bool(known.record.stream),
            frame_limit=recording.current().settings.frame_limit,
            watch=known.passed.watch if known.passed and known.record.stream else None,
        )

    def _keep_limit(self) -> int:
        keep = recording.current().settings.keep_body
        if keep is not None:
            return keep
        return UI_KEEPS if hasattr(ctx.master, "view") else 0

    @fail_open
    def _answered(self, flow: http.HTTPFlow, known: Exchange) -> None:
        if known.ended or flow.response is None:
            return
        try:
            self._read_and_end(flow, known)
        except Exception as error:  # noqa: BLE001 - else the row would stay open
            self._give_up(flow, known, None, error)

    def _read_and_end(self, flow: http.HTTPFlow, known: Exchange) -> None:
        assert flow.response is not None
        if known.reader is None:
            self._start_reader(flow, known)
        assert known.reader is not None
        if not known.tapped and not known.reader.chunks:
            if flow.response.raw_content is not None:
                known.reader.feed(flow.response.raw_content)
            elif known.live:
                known.reader.blind("the body passed unread")
        if killed(flow, known):
            self._end(flow, known, "killed")
        elif not flow.error:  # of a flow read from a file both hooks are called
            self._end(flow, known, None)

    @fail_open
    def _end(self, flow: http.HTTPFlow, known: Exchange, cut: Cut | None) -> None:
        """The one finaliser: the first call wins. Whatever fails here, the row gets an end."""
        if known.ended:
            return
        known.ended = True
        try:
            self._conclude(flow, known, cut)
            keep_whole_once_shown(flow, known)
        except Exception as error:  # noqa: BLE001 - else the row would stay open
            self._give_up(flow, known, cut, error)
        else:
            self._hand_over(flow, known)

    def _give_up(self, flow: http.HTTPFlow, known: Exchange, cut: Cut | None, error: Exception) -> None:
        """We failed at the end of a flow: its row ends with what it has."""
        report(flow, "the end", error)
        known.ended = True
        conclude_unread(known.record, cut)
        self._hand_over(flow, known)

    def _conclude(self, flow: http.HTTPFlow, known: Exchange, cut: Cut | None) -> None:
        record, reader, seen = known.record, known.reader, Observation()
        if known.live:
            first = known.first_chunk_at
            timed(record, time.monotonic() - known.sent_at, None if first is None else first - known.sent_at)
        else:
            timed_by_flow(record, flow)
        end = End(cut=cut, finish_ends=known.dialect.finish_ends)
        if reader is not None:
            reader.finish(complete=cut is None)
            seen = reader.seen
            take_read(record, reader)
            end = End(
                cut=cut,
                http_status=record.http_status,
                transport=reader.transport,
                finish_ends=known.dialect.finish_ends,
                usage_due=known.usage_due and reader.transport == "sse",
                readable=not (reader.truncated or reader.opaque),
            )
        told = flow.error.msg if flow.error and cut != "idle" else None  # mitmproxy blames the client then
        conclude(record, seen, end, known.request, told)
        record.stripped = known.stripper is not None and known.stripper.stripped > 0

    def _hand_over(self, flow: http.HTTPFlow, known: Exchange) -> None:
        """Give an ended record to the writer, and to whoever asks what an abort cost."""
        record, request, passed, credential = known.record, known.request, known.passed, known.credential
        known.forget()
        if known.dialect is UNKNOWN and record.usage_raw is None:
            return
        here = recording.current()
        here.put(record, estimates.finish_for(record, passed))
        if here.resolver is not None and known.live:
            here.resolver.resolve(record, credential, request.host, request.port, flow.request.scheme)

    @fail_open
    def _refused(self, flow: http.HTTPFlow, known: Exchange) -> bool:
        """Whether upstream refused our field, by the words of its own answer; then it is remembered."""
        if not known.record.injected or flow.response is None or flow.response.raw_content is None:
            return False
        body = flow.response.get_content(strict=False) or b""
        if known.reader is None or not blames_us(flow.response.status_code, body):
            return False
        known.reader.feed(flow.response.raw_content)
        known.reader.finish(complete=True)
        here = recording.current()
        host, scope, expires = here.refusals.add(known.request)
        reason = masked(known.reader.seen.error_message or "", known.request) or None
        here.writer.put_refusal(host, scope, refused_at=time.time(), expires_at=expires, reason=reason)
        log.warning("usage: %s refuses stream_options: left alone from now on (`usagetap refusals`)", host)
        return True

    async def _ask_again(self, flow: http.HTTPFlow, known: Exchange) -> None:
        """Answer a refused request by sending what the client sent; on any failure the refusal stands."""
        original = known.original
        if original is None or not flow.live:
            return
        try:
            answered = await retry.ask_again(flow, original, known.accept_encoding)
        except Exception as error:  # noqa: BLE001 - the one promise: the client gets the answer that there is
            report(flow, "the second try", error)
            return
        if answered:
            known.record.retried, known.record.injected = True, False
            known.record.inject_skipped = "refused"
            known.usage_due = known.record.client_include_usage is True
            known.reader = None
            if known.passed is not None:
                known.passed = estimates.passed_for(known.request, known.record.request_model, known.dialect.name)
        elif flow.client_conn.state is not ConnectionState.OPEN:
            known.reader = known.record.http_status = None  # the refusal was ours, and nobody has seen it
            self._end(flow, known, "client")


def _dialect(request: Request, settings: options.Settings) -> Dialect | None:
    place = (request.host, request.port, request.path)
    if settings.hosts.excludes(*place):
        return None
    named = settings.hosts.covers(*place)
    found = detect(request, openai_compatible=named)
    return UNKNOWN if found is None and named and UNKNOWN.matches(request) else found


def _streams(flow: http.HTTPFlow, known: Exchange) -> bool:
    """Whether the body streams; a plain JSON answer is left to mitmproxy's own buffering, and an error too."""
    assert flow.response is not None
    if known.record.injected and flow.response.status_code in (400, 422):
        return False  # it may be a refusal of our edit, to be answered by a second try
    kind = flow.response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.endswith(("event-stream", "eventstream", "ndjson", "stream+json", "jsonl")):
        return True
    if flow.response.status_code >= 400:
        return False
    return bool(known.record.stream) or bool(ctx.options.stream_large_bodies)
