"""Who ended an exchange: read off mitmproxy's connection states, its messages, and where both leave it open, layers.

`flow.error.msg` alone lies: an upstream's RST_STREAM reads `stream reset by client (…)`, and an idle connection that
mitmproxy itself closes reads `Client disconnected.` (mitmproxy-facts.md, A).
"""

from __future__ import annotations

import re
import weakref

from mitmproxy import ctx, flow, http
from mitmproxy.connection import Client, ConnectionState

from usagetap.ending import Cut
from usagetap.mitm.exchange import Exchange

_RESET = "stream reset by client ("


def cut_of(http_flow: http.HTTPFlow) -> Cut:
    """Who cut an exchange that ended in the `error` hook."""
    message = http_flow.error.msg if http_flow.error else ""
    if message == flow.Error.KILLED_MESSAGE:
        return "killed"
    if not http_flow.live:  # read from a file: the connections are long closed
        return "client" if re.search("client disconnected|reset by client", message, re.IGNORECASE) else "upstream"
    client, server = http_flow.client_conn, http_flow.server_conn
    if client in _timed_out:
        return "idle"
    if client.state is not ConnectionState.OPEN:
        return "client"
    if http_flow.response is None and server.timestamp_tcp_setup is None:
        return "connect"
    if message.startswith(_RESET):
        return _resetter(http_flow, message)
    return "upstream"


def killed(http_flow: http.HTTPFlow, known: Exchange) -> bool:
    """Whether somebody killed a flow that was on its way, by hand or by script.

    mitmproxy lets its stream go on (#4711), and may end it with `response` or with another error than the kill's; what
    stays is that a killed flow is no longer live.
    """
    return known.live and not http_flow.live


def _resetter(http_flow: http.HTTPFlow, message: str) -> Cut:
    """An HTTP/2 stream was reset and both connections live on: the layer knows which side it came from.

    Without the layer (another mitmproxy version) the code decides: clients cancel, servers have other reasons.
    """
    try:
        handler = ctx.master.addons.get("proxyserver").connections[http_flow.client_conn.id]
        for layer in handler.layer.context.layers:
            for stream in getattr(layer, "streams", {}).values():
                if getattr(stream, "flow", None) is http_flow:
                    state = stream.client_state.__name__
                    return "client" if state in ("state_errored", "state_consume_request_body") else "upstream"
    except (AttributeError, KeyError, TypeError):
        pass
    return "client" if "CANCEL" in message or "NO_ERROR" in message else "upstream"


_timed_out: weakref.WeakSet[Client] = weakref.WeakSet()


def note_timeout(client: Client) -> None:
    """Note, when it happens, that mitmproxy's own `tcp_timeout` closes this client's connection.

    Nothing tells afterwards, so its watchdog's callback is followed. Another mitmproxy may not have it: then such an
    end counts as the client's.
    """
    try:
        watchdog = ctx.master.addons.get("proxyserver").connections[client.id].timeout_watchdog
        close = watchdog.callback
    except (AttributeError, KeyError, TypeError):
        return

    async def closing() -> None:
        _timed_out.add(client)
        await close()

    watchdog.callback = closing
