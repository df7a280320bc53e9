"""`usage_idle_timeout`: a stream that sends no frame for so long is recorded as `idle_timeout`, and then cut loudly.

Comments and keep-alives are no frames. `flow.kill()` stops nothing that already streams (mitmproxy #4711); what does
is to cancel the task that reads the upstream connection. That is mitmproxy's own affair, so another version may not
have it: then the row is written all the same, and the log says that the stream goes on.
"""

from __future__ import annotations

import logging
from typing import Any

from mitmproxy import ctx, http

from usagetap.mitm.exchange import Exchange

log = logging.getLogger(__name__)


def idle(known: Exchange, now: float, timeout: float) -> bool:
    """Whether the stream has had no new frame for `timeout` seconds; to be asked every now and then."""
    reader = known.reader
    if reader is None or not known.tapped:
        return False
    frames = reader.frames
    if frames != known.idle_frames:
        known.idle_frames, known.idle_since = frames, now
    return now - known.idle_since >= timeout


def cut_upstream(flow: http.HTTPFlow) -> None:
    """Close the upstream connection of a stream, so that its client sees a cut and not an end."""
    try:
        handler: Any = ctx.master.addons.get("proxyserver").connections[flow.client_conn.id]
        if flow.server_conn.alpn == b"h2" and _streams_of(handler, flow) > 1:
            log.warning("usage: %s is idle, but shares its HTTP/2 connection: it is not cut", flow.request.host)
            return
        transport = handler.transports[flow.server_conn]
        transport.handler.cancel("idle timeout")
        if transport.writer:  # a task that is cancelled in the middle of an event leaves its socket open
            transport.writer.close()
    except (AttributeError, KeyError, TypeError) as error:
        log.warning("usage: %s is idle, but cannot be cut (%r)", flow.request.host, error)


def _streams_of(handler: Any, flow: http.HTTPFlow) -> int:
    """Streams on the same upstream connection."""
    return sum(
        getattr(stream, "flow", None) is not None and stream.flow.server_conn is flow.server_conn
        for layer in handler.layer.context.layers
        for stream in getattr(layer, "streams", {}).values()
    )
