"""Tornado's side: the same pages under any request class, and the server of `usagetap web` with a token of its own.

Who may read: whoever has the token. It is in the address printed at start, becomes a cookie, and is gone from the
address after one redirect. A page from elsewhere cannot use the browser as its deputy: only our own addresses are
answered (DNS rebinding comes with a foreign `Host`), the cookie is `SameSite=Strict`, and nothing here writes.
"""

from __future__ import annotations

import hmac
import secrets
import socket
from collections.abc import Callable
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.web import Application, RequestHandler

from .site import ROOT, SECURITY, UNREADABLE, Answer, Site


class Pages:
    """What a request class needs to serve a site; mixed into mitmweb's own and into `TokenRequest`."""

    def initialize(self, site: Callable[[], Site]) -> None:
        """Tornado hands over the route's arguments here."""
        self._site = site()

    async def get(self, path: str | None = None) -> None:
        """Answer from the site."""
        request: Any = self
        etag = request.request.headers.get("If-None-Match")
        await send(request, await self._site.answer(path or "", request.request.query, etag))

    head = get


async def send(request: RequestHandler, answer: Answer) -> None:
    """Write an answer, no quicker than it is taken; where the rest fails, cut it: a part must not look whole."""
    request.set_status(answer.status)
    for name, value in (SECURITY | answer.headers).items():
        request.set_header(name, value)
    if answer.status != 304:
        request.write(answer.body)
    if answer.more is None or request.request.method == "HEAD":
        return
    connection: Any = request.request.connection
    try:
        await request.flush()
        async for piece in answer.more:
            request.write(piece)
            await request.flush()
    except StreamClosedError:
        return  # whoever asked has left
    except (*UNREADABLE, RuntimeError):
        connection.stream.close()


def routes(
    base: type[RequestHandler], site: Callable[[], Site]
) -> list[tuple[str, type[RequestHandler], dict[str, Any]]]:
    """The routes below `/usage`, for requests of class `base` (which decides who may ask)."""
    page = type("UsagePage", (Pages, base), {})
    return [(rf"{ROOT}(/.*)?", page, {"site": site})]


class TokenRequest(RequestHandler):
    """A request that must come to one of our own names and carry the token, in a cookie or (once) in the address."""

    def prepare(self) -> None:
        """Turn away whom the pages are not for, before anything is looked up."""
        guard: Guard = self.settings["guard"]
        if self.request.host.lower() not in guard.hosts:
            self._refuse(421, "This dashboard answers only to 127.0.0.1 and localhost.")
        elif self.request.headers.get("Sec-Fetch-Site", "none") == "cross-site" and not self._navigates():
            self._refuse(403, "Another site asked for this.")
        elif guard.knows(self.get_argument("token", "")):
            self.set_cookie(guard.cookie, guard.session, httponly=True, samesite="Strict", path="/")
            self.redirect(ROOT)
        elif not guard.remembers(self.get_cookie(guard.cookie, "") or ""):
            self._refuse(403, "Open the address that `usagetap web` printed: it carries the token.")

    def _navigates(self) -> bool:
        return self.request.headers.get("Sec-Fetch-Mode") == "navigate"

    def _refuse(self, status: int, sentence: str) -> None:
        self.set_status(status)
        for name, value in SECURITY.items():
            self.set_header(name, value)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{sentence}\n")

    def set_default_headers(self) -> None:
        """Say no more about ourselves than we must."""
        self.clear_header("Server")


class Root(TokenRequest):
    """`/`: the dashboard is one step down."""

    def get(self) -> None:
        """Go there."""
        self.redirect(ROOT)


class Guard:
    """The token, the cookie that stands for it, and the names under which we answer."""

    def __init__(self, port: int, token: str | None = None) -> None:
        self.token = token or secrets.token_urlsafe(24)
        self.session = secrets.token_urlsafe(24)
        self.cookie = f"usagetap-{port}"
        self.hosts = frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]"))

    def knows(self, token: str) -> bool:
        """Whether this is the token."""
        return hmac.compare_digest(token.encode(), self.token.encode())

    def remembers(self, session: str) -> bool:
        """Whether this is the cookie that we gave for it."""
        return hmac.compare_digest(session.encode(), self.session.encode())


def serve(site: Site, port: int = 0) -> tuple[HTTPServer, str]:
    """Listen on loopback; the server, and the address to open. Raises `OSError` where the port is taken."""
    listening = socket.create_server(("127.0.0.1", port))
    listening.setblocking(False)
    port = listening.getsockname()[1]
    guard = Guard(port)
    app = Application(
        [(r"/", Root), *routes(TokenRequest, lambda: site)],
        guard=guard,
        compress_response=True,
        log_function=lambda _: None,
    )
    server = HTTPServer(app)
    server.add_socket(listening)
    return server, f"http://127.0.0.1:{port}{ROOT}?token={guard.token}"
