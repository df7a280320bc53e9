"""The dashboard where mitmproxy is: at `/usage` in mitmweb, and at a magic host through the proxy, as mitm.it is.

In mitmweb it has mitmweb's own login. Through the proxy there is none, so only programs on this machine are answered:
a client elsewhere is pointed to mitmweb. A web page that the same browser shows cannot read it: it has another origin,
may not frame it, and a host name that was bound to another address (DNS rebinding) is not the magic one. Plain http
only: a service worker, which could outlive its page, needs https. Nothing here writes.
"""

from __future__ import annotations

import logging
import socket
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from mitmproxy import ctx, http
from mitmproxy.addonmanager import Loader
from tornado.web import RequestHandler

from usagetap.mitm import recording
from usagetap.mitm.guard import fail_open
from usagetap.store.queries import open_reader
from usagetap.web.app import routes
from usagetap.web.board import Board
from usagetap.web.site import ROOT, SECURITY, Answer, Site
from usagetap.web.zone import machine_zone

log = logging.getLogger(__name__)

MAGIC_HOST = "usage.it"
HELD = 32 << 20
"""Bytes of an answer through the proxy, which has to hold it: some sixty thousand rows."""
TOO_LONG = (
    b"That is more than 32 MiB: ask for less time, or for fewer by a filter."
    b" mitmweb's /usage, `usagetap web` and `usagetap export` give any number of rows.\n"
)
_SITE = "usagetap_site"


class Dashboard:
    """Serves the pages over the database that is recorded to."""

    def __init__(self) -> None:
        self._sites: list[Site] = []
        self._magic: Site | None = None

    def load(self, loader: Loader) -> None:
        """Declare the option."""
        loader.add_option(
            "usage_page_host",
            str,
            MAGIC_HOST,
            "Host name at which the dashboard answers through the proxy (http only, this machine only); empty: none.",
        )

    def running(self) -> None:
        """Join mitmweb's own server, if this is mitmweb."""
        app: Any = getattr(ctx.master, "app", None)
        if app is None or not hasattr(app, "add_handlers"):
            return
        try:
            from mitmproxy.tools.web.app import RequestHandler as Behind
        except ImportError:
            return
        serve_under(app, Behind, self._keep(Site(self._board(), flow_link, "/")))

    async def request(self, flow: http.HTTPFlow) -> None:
        """Answer what is meant for the magic host."""
        if not is_magic(flow, ctx.options.usage_page_host):
            return
        if self._magic is None:
            # every look would be a flow of its own in the list of flows: this one does not refresh by itself
            self._magic = self._keep(Site(self._board(), live=False))
        try:
            flow.response = to_response(await whole(await magic(self._magic, flow)))
        except Exception as error:  # a page must not harm the proxy: a bad answer instead of none
            log.error("usage: %s in the page at %s", type(error).__name__, flow.request.path, exc_info=error)
            flow.response = http.Response.make(500, "The page failed; the proxy's log says why.\n")

    @fail_open
    def done(self) -> None:
        """Let go of the database."""
        for site in self._sites:
            site.close()
        self._sites.clear()

    def _board(self) -> Board:
        return Board(lambda: open_reader(recording.current().settings.db), machine_zone())

    def _keep(self, site: Site) -> Site:
        self._sites.append(site)
        return site


def serve_under(app: Any, base: type[RequestHandler], site: Site) -> None:
    """Add our routes to mitmweb's application: once, for none is ever taken out; a reloaded script puts its site in."""
    added = _SITE in app.settings
    app.settings[_SITE] = site
    if not added:
        app.add_handlers(r".*", routes(base, lambda: app.settings[_SITE]))


def flow_link(flow_id: str) -> str | None:
    """Where mitmweb shows a flow, while it has it."""
    view = getattr(ctx.master, "view", None)
    return f"/#/flows/{flow_id}/response" if view is not None and view.get_by_id(flow_id) is not None else None


def is_magic(flow: http.HTTPFlow, host: str) -> bool:
    """Whether this request is for the dashboard: to the magic host, live, and not answered yet."""
    if not host or host not in (flow.request.host_header or flow.request.host).lower():  # every request passes here
        return False
    return bool(flow.live and not flow.response and not flow.error and flow.request.pretty_host.lower() == host)


async def magic(site: Site, flow: http.HTTPFlow) -> Answer:
    """The answer to a request for the magic host."""
    request, peer = flow.request, flow.client_conn.peername
    if request.scheme != "http":
        return Answer(403, b"Plain http only: open http://" + request.pretty_host.encode() + b"/\n", _TEXT)
    if peer is None or not is_this_machine(peer[0]):
        return Answer(403, b"Only for programs on the proxy's own machine; elsewhere use mitmweb's /usage.\n", _TEXT)
    if request.method not in ("GET", "HEAD") or "service-worker" in request.headers:
        return Answer(405, b"The dashboard is for reading.\n", _TEXT)
    if request.headers.get("sec-fetch-site") == "cross-site" and request.headers.get("sec-fetch-mode") != "navigate":
        return Answer(403, b"Another site asked for this.\n", _TEXT)
    path, _, query = request.path.partition("?")
    if path == "/":
        return Answer(302, b"", {"Location": ROOT})
    if path != ROOT and not path.startswith(f"{ROOT}/"):
        return Answer(404, b"The dashboard is at /usage.\n", _TEXT)
    return await site.answer(path.removeprefix(ROOT), query, request.headers.get("if-none-match"))


_TEXT = {"Content-Type": "text/plain; charset=utf-8"}


async def whole(answer: Answer) -> Answer:
    """The answer in one piece, for mitmproxy sends none of its own in several; what is too long is none, not a part."""
    if answer.more is None:
        return answer
    body = bytearray(answer.body)
    async for piece in answer.more:
        body += piece
        if len(body) > HELD:
            return Answer(400, TOO_LONG, _TEXT)
    return Answer(answer.status, bytes(body), answer.headers)


def to_response(answer: Answer) -> http.Response:
    """The answer as mitmproxy sends it.

    Without the opener policy: browsers heed it on https and localhost only, and complain about it elsewhere.
    """
    headers = {name: value for name, value in SECURITY.items() if name != "Cross-Origin-Opener-Policy"}
    return http.Response.make(answer.status, answer.body, headers | answer.headers)


@lru_cache(256)
def is_this_machine(address: str) -> bool:
    """Whether an address is one of this machine's: loopback, or one that a socket can be bound to.

    In transparent mode a program's own traffic comes from the machine's outer address.
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None) or parsed
    if mapped.is_loopback:
        return True
    if mapped.is_unspecified or mapped.is_multicast:
        return False
    try:
        with socket.socket(socket.AF_INET if mapped.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((str(mapped), 0))
    except OSError:
        return False
    return True
