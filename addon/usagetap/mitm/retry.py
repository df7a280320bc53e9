"""A request that upstream refused because of our field is sent again as the client made it, and the client sees only
that second answer.

mitmproxy's own replay makes the second connection; it is marked as ours, so that no hook (of ours or of another addon)
takes it for traffic. The answer arrives whole, once per host: the refusal is remembered.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator

from mitmproxy import ctx, http
from mitmproxy.addons.clientplayback import ReplayHandler
from mitmproxy.connection import Client
from mitmproxy.proxy import commands
from mitmproxy.proxy.layers.http import (
    HttpErrorHook,
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpResponseHeadersHook,
    HttpResponseHook,
)

log = logging.getLogger(__name__)

ANSWER_LIMIT = 64 << 20
"""Bytes of a second answer, which is held whole; beyond, the client gets the refusal."""

_running: weakref.WeakKeyDictionary[Client, set[SecondTry]] = weakref.WeakKeyDictionary()


class SecondTry(ReplayHandler):
    """One replay of one request, unseen by other addons; it can be stopped, and then closes its upstream."""

    def __init__(self, flow: http.HTTPFlow) -> None:
        super().__init__(flow, ctx.options)
        self.body: list[bytes] = []
        self.size = 0
        self.stopped = False

    async def handle_hook(self, hook: commands.StartHook) -> None:
        """Keep HTTP's hooks to ourselves; connections and TLS are set up by mitmproxy's own addons as ever."""
        if isinstance(hook, HttpResponseHeadersHook):
            assert self.flow.response is not None
            self.flow.response.stream = self._gather
        elif isinstance(hook, HttpResponseHook | HttpErrorHook):
            self.stop(stopped=self.stopped)
        elif not isinstance(hook, HttpRequestHeadersHook | HttpRequestHook):
            await super().handle_hook(hook)

    def _gather(self, chunk: bytes) -> bytes:
        self.size += len(chunk)
        if self.size > ANSWER_LIMIT:
            self.stop()
        else:
            self.body.append(chunk)
        return chunk

    def stop(self, *, stopped: bool = True) -> None:
        """Close the upstream connection and wake whoever waits; `stopped`: before the answer was whole."""
        self.stopped = stopped
        for transport in list(self.transports.values()):
            if transport.handler:
                transport.handler.cancel()
            if transport.writer:  # a task that is cancelled in the middle of an event leaves its socket open
                transport.writer.close()
        self.done.set()


async def ask_again(flow: http.HTTPFlow, original: bytes, accept_encoding: str | None) -> bool:
    """Send the request with its original body; puts the answer into `flow` and returns true where there is one."""
    again = flow.copy()
    again.response = again.error = None
    again.is_replay = "request"
    again.request.stream = False
    again.request.raw_content = original
    if "transfer-encoding" not in again.request.headers:
        again.request.headers["content-length"] = str(len(original))
    if accept_encoding is not None:
        again.request.headers["accept-encoding"] = accept_encoding
    second = SecondTry(again)
    _running.setdefault(flow.client_conn, set()).add(second)
    try:
        await second.replay()
    finally:
        _running[flow.client_conn].discard(second)
    if second.stopped or again.response is None or again.error is not None:
        return False
    again.response.stream = False
    again.response.raw_content = b"".join(second.body)
    flow.response = again.response
    return True


def stop_for(client: Client) -> None:
    """The client has gone: nobody waits for its second tries any more."""
    for second in tuple(_running_of(client)):
        second.stop()


def _running_of(client: Client) -> Iterator[SecondTry]:
    yield from _running.get(client, ())
