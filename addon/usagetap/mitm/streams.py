"""The callables that mitmproxy puts into a stream: for a response that is read as it passes, for a request that is
gathered.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from mitmproxy import ctx, http
from mitmproxy.hooks import UpdateHook
from mitmproxy.utils import human

from usagetap.encoding import codings
from usagetap.headline import clean
from usagetap.mitm import exchange
from usagetap.mitm.exchange import Exchange
from usagetap.mitm.guard import fail_open, report
from usagetap.mitm.incoming import place_of
from usagetap.rewrite import Stripper

log = logging.getLogger(__name__)

GATHER_LIMIT = 16 << 20
"""Bytes of a streamed request that are gathered for the edit; a longer one is passed on untouched."""
SHOWN_WITHIN = 0.3
"""Seconds after its end within which a stream's body is shown: its final comment mostly comes before."""

type StreamTap = Callable[[bytes], bytes | Iterable[bytes]]
type Failed = Callable[[Exception], None]


def tap_response(flow: http.HTTPFlow, known: Exchange, keep_limit: int, failed: Failed) -> None:
    """Put the reader into the response's stream; with it, where wanted, the stripper and what keeps a copy for the UI.

    A callable that somebody else has put there gets every chunk after us.
    """
    assert flow.response is not None
    assert known.reader is not None
    reader, response = known.reader, flow.response
    tap: StreamTap = reader.tap(failed)
    if keep_limit:
        known.keep_limit = keep_limit
        reader.keep = known.keep
    if known.strip and known.dialect.takes_include_usage:
        tap = _stripping(tap, flow, known, failed)
    other = response.stream
    if callable(other):
        tap = _chained(tap, other)

    def first(chunk: bytes) -> bytes | Iterable[bytes]:
        if known.first_chunk_at is None and chunk:
            known.first_chunk_at = time.monotonic()
        if response.stream is first:  # else an addon after us has put its own callable around it: that must stay
            response.stream = tap
        return tap(chunk)

    response.stream = first
    known.tapped = True


def keep_whole(flow: http.HTTPFlow, known: Exchange) -> bool:
    """Give the flow what was kept of its streamed body, so that the UI has something to show; it is not sent. Returns
    whether there was something.
    """
    kept, known.kept = known.kept, []
    if not kept or flow.response is None or flow.response.raw_content is not None:
        return False
    flow.response.raw_content = b"".join(kept)
    return True


def keep_whole_once_shown(flow: http.HTTPFlow, known: Exchange) -> None:
    """The same, where a UI would be told of the body three times over: by mitmproxy when the stream has ended, twice,
    and by us with its comment. mitmweb hashes the whole body each time, so it gets it with the comment alone; where
    that does not come (nothing is recorded, or the database is stuck), a moment later.
    """
    if not hasattr(ctx.master, "view") or ctx.options.save_stream_file:  # `-w` writes a flow when it has ended
        keep_whole(flow, known)
    elif known.kept:
        asyncio.get_running_loop().call_later(SHOWN_WITHIN, _show_whole, known, flow)


@fail_open
def _show_whole(known: Exchange, flow: http.HTTPFlow) -> None:
    if exchange.of(flow) is known and keep_whole(flow, known):  # else it was replayed meanwhile, or is there already
        ctx.master.addons.trigger(UpdateHook([flow]))


def _stripping(tap: StreamTap, flow: http.HTTPFlow, known: Exchange, failed: Failed) -> StreamTap:
    assert flow.response is not None
    kind = flow.response.headers.get("content-type", "").lower()
    if kind and not kind.startswith("text/event-stream"):  # some name no type (ChatGPT's Codex backend)
        return tap
    if codings(flow.response.headers.get("content-encoding")):
        log.warning("usage: %s compresses although asked not to: its usage frame is not withheld", flow.request.host)
        return tap
    known.stripper = stripper = Stripper()
    stripping = True

    def strip(chunk: bytes) -> bytes | Iterable[bytes]:
        nonlocal stripping
        tap(chunk)
        if not stripping:
            return chunk
        held = stripper.held
        try:
            passed = stripper.feed(chunk) if chunk else stripper.release()
        except Exception as error:  # noqa: BLE001 - the one promise: what is held goes on, and nothing is held any more
            stripping = False
            failed(error)
            passed = held + chunk
        return passed or []  # never b"": on a chunked response that is the end of the body

    return strip


def _chained(first: StreamTap, second: Callable[[bytes], Any]) -> StreamTap:
    def chained(chunk: bytes) -> bytes | Iterable[bytes]:
        passed = first(chunk)
        if isinstance(passed, bytes):
            return second(passed)  # type: ignore[no-any-return]
        return [piece for part in passed for piece in _pieces(second(part))]

    return chained


def _pieces(passed: bytes | Iterable[bytes]) -> Iterable[bytes]:
    return [passed] if isinstance(passed, bytes) else passed


def streamed_request(flow: http.HTTPFlow, outgoing: Callable[[bytes], bytes]) -> None:
    """Gather a request body that `stream_large_bodies` would stream past us, and send it edited, in one piece.

    The headers leave before the body is known, so its length must not be in them: chunked on HTTP/1.1, no length on
    HTTP/2. An HTTP/2 request to an HTTP/1.1 upstream has neither way: it is left alone.
    """
    request = flow.request
    path = place_of(flow)[2].rstrip("/")
    if request.method != "POST" or not path.endswith("/completions") or not _would_stream(request):
        return
    if request.is_http2 and flow.server_conn.alpn != b"h2":
        log.info("usage: %s streamed over HTTP/2 to an unknown upstream: left as it is", clean(path))
        return
    request.headers.pop("content-length", None)
    if not request.is_http2:
        request.headers["transfer-encoding"] = "chunked"
    gathered: list[bytes] = []
    size = 0

    def gather(chunk: bytes) -> bytes | Iterable[bytes]:
        nonlocal size
        if size > GATHER_LIMIT:
            return chunk
        size += len(chunk)
        gathered.append(chunk)
        if chunk and size <= GATHER_LIMIT:
            return []
        body = b"".join(gathered)
        gathered.clear()
        if size > GATHER_LIMIT:
            log.info("usage: %s has more than %d bytes: left as it is", clean(path), GATHER_LIMIT)
            return body
        try:
            return outgoing(body)
        except Exception as error:  # noqa: BLE001 - the one promise
            report(flow, "editing a streamed request", error)
            return body

    request.stream = gather


def _would_stream(request: http.Request) -> bool:
    limit = human.parse_size(ctx.options.stream_large_bodies) or 0
    length = request.headers.get("content-length", "")
    return not length.isdecimal() or int(length) > limit
