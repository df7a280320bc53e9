"""The addon: mitmproxy's hooks, one after the other, and the one finaliser that all of them lead to.

Traffic comes first. No hook waits, touches the disk or raises; whatever goes wrong here is logged once per flow, and the
flow goes on as if we were not there.
"""

from __future__ import annotations

import atexit
import functools
import logging
import time
from collections.abc import Callable
from typing import Any

from mitmproxy import ctx, exceptions, http
from mitmproxy.addonmanager import Loader
from mitmproxy.connection import Client, ConnectionState

from usagetap.dialects import detect
from usagetap.dialects.base import Dialect
from usagetap.ending import Cut, End, end_reason, usage_quality
from usagetap.headline import headline
from usagetap.mitm import edits, exchange, options, retry
from usagetap.mitm.exchange import Exchange
from usagetap.mitm.incoming import credential_of, plain_body, request_of, tag_of
from usagetap.mitm.recording import Recording
from usagetap.mitm.streams import streamed_request, tap_response
from usagetap.mitm.who import cut_of, watch_timeout
from usagetap.model import STATUS_OF_END, Record, Request
from usagetap.providers import provider
from usagetap.reader import Reader
from usagetap.rewrite import blames_us

log = logging.getLogger(__name__)

_recording: Recording | None = None
"""Outlives a script reload: what is queued, and streams that go on, belong to the process and not to the script."""


def recording() -> Recording:
    """The recording that `configure` opened."""
    assert _recording is not None
    return _recording


def fail_open[**P, T](hook: Callable[P, T]) -> Callable[P, T | None]:
    """A hook that never raises: a bug of ours is logged, once per flow, and the traffic goes on."""

    @functools.wraps(hook)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return hook(*args, **kwargs)
        except exceptions.OptionsError:
            raise
        except Exception as error:  # the one promise
            _report(args[1] if len(args) > 1 else None, hook.__name__, error)
            return None

    return guarded


def _report(flow: Any, where: str, error: Exception) -> None:
    known = exchange.of(flow) if isinstance(flow, http.HTTPFlow) else None
    if known is not None:
        if known.extras.get("reported"):
            return
        known.extras["reported"] = True
    log.error("usage: %s in %s: this flow passes on unrecorded from here", type(error).__name__, where, exc_info=error)


class Tap:
    """Records every model response that passes."""

    def __init__(self) -> None:
        self.settings: options.Settings | None = None

    def load(self, loader: Loader) -> None:
        """Declare the options."""
        options.declare(loader.add_option)

    def configure(self, updated: set[str]) -> None:
        """Check the options; open the database that they name. Raises `OptionsError`."""
        if "confdir" not in updated and not any(name.startswith("usage_") for name in updated):
            return
        global _recording
        settings = options.read(ctx.options)
        if _recording is None or _recording.settings != settings:
            fresh = Recording(settings)
            if _recording is not None:
                _recording.stop()
            _recording = fresh
            log.info("usage: recording to %s", settings)
        self.settings = settings

    # -- hooks

    @fail_open
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """A body that mitmproxy would stream away unread is gathered by ourselves."""
        if ctx.options.stream_large_bodies:
            streamed_request(flow, lambda raw: self._outgoing(flow, raw, streamed=True))

    @fail_open
    def request(self, flow: http.HTTPFlow) -> None:
        """The request is whole: edit it, and open its row."""
        known = exchange.of(flow)
        if known is not None and not known.ended and known.extras.get("streamed"):
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
        self._start_reader(flow, known)
        if flow.response.status_code < 400:
            known.original = None
        if flow.live and _wants_tap(flow, known):
            tap_response(flow, known, self._keep_limit(), lambda error: _report(flow, "the tap", error))

    async def response(self, flow: http.HTTPFlow) -> None:
        """The answer is whole; a refusal of our edit is answered by a second try."""
        known = exchange.of(flow)
        if known is not None and not known.ended and self._refused(flow, known):
            await self._ask_again(flow, known)
        self._answered(flow)

    def client_connected(self, client: Client) -> None:
        """Learn when mitmproxy itself closes an idle connection: it blames the client."""
        watch_timeout(client)

    def client_disconnected(self, client: Client) -> None:
        """Nobody waits for a second try any more."""
        retry.stop_for(client)

    @fail_open
    def _answered(self, flow: http.HTTPFlow) -> None:
        known = exchange.of(flow)
        if known is None or known.ended or flow.response is None or flow.response.status_code < 200:
            return
        if known.reader is None:
            self._start_reader(flow, known)
        assert known.reader is not None
        if known.first_chunk_at is None and not known.reader.chunks:
            known.reader.feed(flow.response.raw_content or b"")
        if not flow.error:  # of a flow read from a file both hooks are called
            self._end(flow, known, None)

    @fail_open
    def error(self, flow: http.HTTPFlow) -> None:
        """The exchange broke off."""
        known = exchange.of(flow)
        if known is not None and not known.ended:
            self._end(flow, known, cut_of(flow))

    def done(self) -> None:
        """The proxy stops (or only the script is reloaded: then everything goes on)."""
        if ctx.master.should_exit.is_set():
            self.stop()

    @fail_open
    def stop(self) -> None:
        """End what is in flight as `proxy_stopped`, and write everything down."""
        global _recording
        for flow, known in exchange.in_flight():
            self._end(flow, known, "stopped")
        if _recording is not None:
            _recording.stop()
            _recording = None

    # -- what the hooks do

    def _outgoing(self, flow: http.HTTPFlow, raw: bytes, *, streamed: bool) -> bytes:
        """Edit a request and open its row; returns its body as it goes on the wire."""
        settings = self.settings
        if settings is None:
            return raw
        plain, unreadable = plain_body(flow, raw)
        request = request_of(flow, plain)
        dialect = self._dialect(request, settings)
        if dialect is None:
            return raw
        coding = flow.request.headers.get("content-encoding")
        outcome = edits.edit(request, dialect, plain, coding, settings, recording().refusals)
        if unreadable and dialect.takes_include_usage:
            outcome.skipped = unreadable
        if outcome.skipped not in (None, "off", "no_inject", "refused_before"):
            log.info("usage: %s%s left as it is: %s", request.host, request.path, outcome.skipped)
        record = self._record(flow, request, dialect, raw, outcome)
        known = Exchange(record, dialect, time.monotonic(), usage_due=dialect.streams(request) and outcome.usage_asked)
        known.extras["streamed"] = streamed
        known.extras["request"] = request
        known.extras["strip"] = settings.strip_frame == "always" or (
            settings.strip_frame == "injected" and outcome.injected and outcome.client_include_usage is not True
        )
        if outcome.injected:
            known.original = raw
        if outcome.body is not None and not streamed:
            edits.apply(flow, outcome)
        flow.request.headers.pop(settings.tag_header, None)
        if known.extras["strip"] and known.usage_due and "accept-encoding" in flow.request.headers:
            known.extras["accept_encoding"] = flow.request.headers["accept-encoding"]
            flow.request.headers["accept-encoding"] = "identity"
        exchange.begin(flow, known)
        recording().writer.put(record)
        return raw if outcome.body is None else outcome.body

    def _dialect(self, request: Request, settings: options.Settings) -> Dialect | None:
        place = (request.host, request.port, request.path)
        if settings.hosts.excludes(*place):
            return None
        return detect(request, openai_compatible=settings.hosts.covers(*place))

    def _record(
        self, flow: http.HTTPFlow, request: Request, dialect: Dialect, raw: bytes, outcome: edits.Edit
    ) -> Record:
        assert self.settings is not None
        started_at = time.time() if flow.live else flow.request.timestamp_end or flow.request.timestamp_start
        peer = flow.client_conn.peername
        credential = credential_of(request)
        return Record(
            uid=recording().uid(),
            instance=recording().instance,
            flow_id=flow.id,
            started_at=started_at,
            replay=flow.is_replay is not None,
            client_address=peer[0] if peer else None,
            client_agent=(request.headers.get("user-agent") or "")[:300] or None,
            key_fingerprint=recording().fingerprint(credential.encode() if credential else None),
            tag=tag_of(request.headers.get(self.settings.tag_header)),
            server_address=f"{request.host}:{request.port}",
            path=request.path[:1000],
            provider=provider(request),
            dialect=dialect.name,
            operation=dialect.operation(request),
            stream=dialect.streams(request),
            request_model=dialect.model(request),
            client_include_usage=outcome.client_include_usage,
            injected=outcome.injected,
            inject_skipped=outcome.skipped,
            request_fingerprint=recording().fingerprint(raw),
        )

    def _start_reader(self, flow: http.HTTPFlow, known: Exchange) -> None:
        assert flow.response is not None and self.settings is not None
        headers = {name.lower(): value for name, value in flow.response.headers.items()}
        known.record.http_status = flow.response.status_code
        known.record.provider = provider(known.extras["request"], headers)
        known.reader = Reader(
            known.dialect,
            content_type=headers.get("content-type", ""),
            content_encoding=headers.get("content-encoding"),
            http_status=flow.response.status_code,
            headers=headers,
            stream=bool(known.record.stream),
            frame_limit=self.settings.frame_limit,
        )

    def _keep_limit(self) -> int:
        assert self.settings is not None
        if self.settings.keep_body is not None:
            return self.settings.keep_body
        return 1 << 20 if hasattr(ctx.master, "view") else 0

    def _end(self, flow: http.HTTPFlow, known: Exchange, cut: Cut | None) -> None:
        """The one finaliser: the first call wins."""
        if known.ended:
            return
        known.ended = True
        record, reader = known.record, known.reader
        now = time.monotonic()
        if flow.live:
            record.duration = round(now - known.sent_at, 3)
            record.ended_at = record.started_at + record.duration
            first = known.first_chunk_at
            record.time_to_first_chunk = None if first is None else round(first - known.sent_at, 3)
        elif flow.response is not None and flow.response.timestamp_end is not None:
            record.ended_at = flow.response.timestamp_end
            record.duration = round(max(record.ended_at - record.started_at, 0.0), 3)
        if reader is not None:
            reader.finish(complete=cut is None)
            _take(record, reader)
            end = End(
                cut=cut,
                http_status=record.http_status,
                transport=reader.transport,
                finish_ends=known.dialect.finish_ends,
                usage_due=known.usage_due and reader.transport == "sse",
                readable=not (reader.truncated or reader.opaque),
            )
            record.end_reason = end_reason(reader.seen, end)
            record.usage_quality = usage_quality(reader.seen, record.end_reason)
        else:
            record.end_reason = end_reason(_NOTHING.seen, End(cut=cut))
            record.usage_quality = usage_quality(_NOTHING.seen, record.end_reason)
        record.status = STATUS_OF_END[record.end_reason]
        if known.stripper is not None:
            record.stripped = known.stripper.stripped > 0
        if record.error_type is None and flow.error is not None and record.status == "error":
            record.error_type, record.error_message = record.end_reason, flow.error.msg[:500]
        recording().writer.put(record)
        level = logging.WARNING if record.end_reason == "no_usage" else logging.INFO
        log.log(level, "usage: %s", headline(record))

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
        host, scope, expires = recording().refusals.add(known.extras["request"])
        recording().writer.put_refusal(
            host, scope, refused_at=time.time(), expires_at=expires, reason=known.reader.seen.error_message
        )
        log.warning("usage: %s refuses stream_options: left alone from now on (`usagetap refusals`)", host)
        return True

    async def _ask_again(self, flow: http.HTTPFlow, known: Exchange) -> None:
        """Answer a refused request by sending what the client sent; on any failure the refusal stands."""
        original = known.original
        if original is None or not flow.live:
            return
        try:
            answered = await retry.ask_again(flow, original, known.extras.get("accept_encoding"))
        except Exception as error:  # the one promise: the client gets the answer that there is
            _report(flow, "the second try", error)
            return
        if answered:
            known.record.retried, known.record.injected = True, False
            known.record.inject_skipped = "refused"
            known.usage_due = known.record.client_include_usage is True
            known.reader = None
        elif flow.client_conn.state is not ConnectionState.OPEN:
            self._end(flow, known, "client")


def _wants_tap(flow: http.HTTPFlow, known: Exchange) -> bool:
    """Whether the body streams; a plain JSON answer is left to mitmproxy's own buffering, and an error too."""
    assert flow.response is not None
    kind = flow.response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.endswith(("event-stream", "eventstream", "ndjson", "stream+json", "jsonl")):
        return True
    if ctx.options.stream_large_bodies and flow.response.status_code < 400:  # would be streamed past us
        return True
    return bool(known.record.stream) and flow.response.status_code < 400


def _take(record: Record, reader: Reader) -> None:
    """Copy what the reader has seen into the row."""
    seen = reader.seen
    record.response_id, record.response_model = seen.response_id, seen.response_model
    record.service_tier = seen.service_tier
    record.finish_reasons = [seen.finish_reasons[index] for index in sorted(seen.finish_reasons)] or None
    record.usage, record.usage_raw = seen.usage, seen.usage_raw
    record.error_type, record.error_message = seen.error_type, seen.error_message
    record.cost, record.currency = seen.cost, seen.currency
    record.cost_source = None if seen.cost is None else "provider"
    record.transport, record.stream = reader.transport, reader.transport not in (None, "json")
    record.chunks, record.frames, record.body_bytes = reader.chunks, reader.frames, reader.body_bytes
    record.truncated = reader.truncated


class _Nobody(Dialect):
    name = "nothing"


_NOTHING = Reader(_Nobody())


def _at_exit() -> None:
    """Write what a hot `done` has left queued."""
    if _recording is not None:
        _recording.stop()


atexit.register(_at_exit)
