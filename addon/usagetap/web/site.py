"""The pages themselves: an address in, an answer out. Knows no server; Tornado and the proxy's magic host call it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from itertools import repeat
from pathlib import Path
from typing import Any

from peewee import PeeweeException
from tornado.template import Loader

from usagetap import __version__
from usagetap.headline import percent
from usagetap.store.database import StoreError, what_failed

from . import rows, view
from .ask import FILTERS, GROUPS, RANGES, STATUSES, Ask, AskError, parse
from .board import PAGE, Board

ROOT = "/usage"
PATIENCE = 0.25
"""Seconds that a page waits for the database; then it says so and asks again."""
_HERE = Path(__file__).parent
_STATIC = {
    "app.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "charts.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
#: nothing inline, no foreign address, no frame. Plotly would write style elements of its own: it leaves that to our
#: stylesheet where one bears its name and `no-inline-styles` (github.com/plotly/plotly.js/pull/7109; see `style_marks`)
POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SECURITY = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

UNREADABLE = (StoreError, PeeweeException, OSError)
"""What a database that cannot be read raises."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: status, body, headers (beyond `SECURITY`, which every answer carries), and what follows the body.

    `more` may raise: what was sent until then is a part only, and must not look whole.
    """

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    more: AsyncIterator[bytes] | None = None


class Site:
    """The dashboard over one board. `answer` is for an event loop, `respond` is what it runs on the worker thread.

    `flow_link` and `home` lead to mitmweb, where the site is a part of it. Pages that are not `live` do not refresh by
    themselves.
    """

    def __init__(
        self, board: Board, flow_link: rows.FlowLink | None = None, home: str | None = None, *, live: bool = True
    ) -> None:
        self._board = board
        self._flow_link = flow_link
        self._home = home
        self._live = live
        self._plotly = find_plotly()
        self._loader = Loader(str(_HERE / "templates"), autoescape="xhtml_escape")
        self._worker = ThreadPoolExecutor(1, "usagetap-web")
        self._worker.submit(self._loader.load, "board.html")  # compiled before anybody asks for it
        self._closed = False
        self._running: dict[tuple[str, str, str | None], Future[Answer]] = {}

    async def answer(self, path: str = "", query: str = "", etag: str | None = None) -> Answer:
        """The answer for `path` (below `ROOT`), without ever holding up the event loop.

        The dashboard's page does not wait longer than `PATIENCE` for slow sums: it comes without them, and asks again.
        """
        if path.strip("/") == "responses.csv":
            return await self._csv(query)
        key = (path, query, etag)
        future = self._running.get(key)
        if future is None:
            try:
                future = self._running[key] = self._worker.submit(self.respond, path, query, etag)
            except RuntimeError:  # closed: the proxy stops, or has reloaded the script
                return self._stopping()
            future.add_done_callback(lambda _: self._running.pop(key, None))
        done, _ = await asyncio.wait([asyncio.wrap_future(future)], timeout=PATIENCE if path in ("", "/") else None)
        return future.result() if done else self._busy(query)

    def respond(self, path: str = "", query: str = "", etag: str | None = None) -> Answer:
        """The answer for `path`; total: what is wrong becomes a page that says so."""
        try:
            return self._route(path.strip("/"), query, etag)
        except AskError as error:
            return self._not_ours(error)
        except UNREADABLE as error:
            self._board.close()
            return self._unreadable(error)

    def close(self) -> None:
        """Stop what is running and let the database go, any number of times; does not wait."""
        if self._closed:
            return
        self._closed = True
        for waiting in list(self._running.values()):
            waiting.cancel()
        self._board.interrupt()
        self._worker.submit(self._board.close)  # on the thread that opened it
        self._worker.shutdown(wait=False)

    def _route(self, path: str, query: str, etag: str | None) -> Answer:
        if path == "":
            return self._dashboard(parse(query), etag)
        if match := re.fullmatch(r"row/([0-9]{1,18})", path):
            return self._row(int(match[1]))
        if match := re.fullmatch(r"static/([a-z.]+)", path):
            return self._static(match[1])
        return self._message(404, "There is no such page", "The dashboard is the way back.")

    def _dashboard(self, ask: Ask, etag: str | None) -> Answer:
        scene = self._board.scene(ask)
        seal = hashlib.blake2b(f"{__version__} {scene.stamp}".encode(), digest_size=12).hexdigest()
        headers = {"ETag": f'W/"{seal}"', "Cache-Control": "private, no-cache"}
        if etag is not None and seal in etag:
            return Answer(304, b"", headers)
        groups = view.groups(ask, scene.course) if scene.course else []
        lines = [rows.line(row, self._board.zone, scene.now, self._flow_link) for row in (scene.rows or ())]
        page = self._render(
            "board.html",
            ask=ask,
            scene=scene,
            busy=False,
            cards=list(map(view.card, scene.glances or (), scene.waits or repeat(None))),
            groups=groups,
            shown=groups[:_GROUPS_SHOWN],
            priced=view.currency_of(group.total for group in groups) is not None,
            weighed=any(group.bar for group in groups),
            digits=view.digits_of(group.total for group in groups),
            charts=_inert(view.charts(scene, groups)) if self._plotly else None,
            marks=style_marks(self._plotly) if self._plotly else (),
            speeds=view.speeds(scene)[:_GROUPS_SHOWN],
            wasted=view.wasted(ask, scene.waste or ())[:_GROUPS_SHOWN],
            notices=view.notices(scene.models or ()),
            lines=lines[:PAGE],
            older=lines[PAGE - 1].id if len(lines) > PAGE else None,
        )
        return Answer(200, page, {"Content-Type": _HTML, **headers})

    def _busy(self, query: str) -> Answer:
        try:
            ask = parse(query)
        except AskError as error:
            return self._not_ours(error)
        return Answer(
            200, self._render("board.html", ask=ask, busy=True, charts=None), {"Content-Type": _HTML, **_NEVER_KEPT}
        )

    def _row(self, row_id: int) -> Answer:
        found = self._board.row(row_id)
        if found is None:
            return self._message(
                404, "There is no such row", "It may have been deleted since (usage_retention, prune)."
            )
        row, others = found
        zone, now = self._board.zone, self._now()
        page = self._render(
            "row.html",
            line=rows.line(row, zone, now, self._flow_link),
            chapters=rows.chapters(row),
            usage=rows.usage_facts(row),
            raw=rows.raw_usage(row),
            others=[rows.line(each, zone, now, None) for each in others],
        )
        return Answer(200, page, {"Content-Type": _HTML, **_NEVER_KEPT})

    async def _csv(self, query: str) -> Answer:
        """All rows that the page is about, not only those of its table; some at a time, however many there are."""
        try:
            pieces = self._pieces(rows.to_csv(self._board.each_row(parse(query))))
            heading, some = await anext(pieces), await anext(pieces, b"")
        except AskError as error:
            return self._not_ours(error)
        except UNREADABLE as error:
            return self._unreadable(error)
        except RuntimeError:
            return self._stopping()
        headers = {"Content-Type": "text/csv; charset=utf-8", **_NEVER_KEPT}
        headers["Content-Disposition"] = 'attachment; filename="usage.csv"'
        return Answer(200, heading + some, headers, pieces)

    async def _pieces(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        """The same, each made on the worker, between two of which it has time for others."""
        loop = asyncio.get_running_loop()
        try:
            while (piece := await loop.run_in_executor(self._worker, next, pieces, None)) is not None:
                yield piece
        except UNREADABLE:
            self._worker.submit(self._board.close)
            raise

    def _static(self, name: str) -> Answer:
        kept = {"Cache-Control": "private, max-age=31536000, immutable"}  # the address carries the version
        if name == "plotly.js" and self._plotly is not None:
            return Answer(200, self._plotly.read_bytes(), {"Content-Type": _STATIC["app.js"], **kept})
        if name not in _STATIC:
            return self._message(404, "There is no such file", "The dashboard is the way back.")
        return Answer(200, (_HERE / "static" / name).read_bytes(), {"Content-Type": _STATIC[name], **kept})

    def _not_ours(self, error: AskError) -> Answer:
        return self._message(400, "That address is not one of ours", str(error))

    def _unreadable(self, error: Exception) -> Answer:
        sentence = f"{what_failed(error).rstrip('.')}."
        return self._message(503, "The database cannot be read", sentence[:1].upper() + sentence[1:])

    def _stopping(self) -> Answer:
        return self._message(503, "The proxy is stopping", "Load the page again once it is back.")

    def _message(self, status: int, title: str, sentence: str) -> Answer:
        page = self._render("message.html", title=title, sentence=sentence, status=status)
        return Answer(status, page, {"Content-Type": _HTML, **_NEVER_KEPT})

    def _render(self, template: str, **values: Any) -> bytes:
        # tornado's own names in a template are few, but `escape` and `datetime` are among them
        return self._loader.load(template).generate(
            root=ROOT, version=__version__, plotly=self._plotly, home=self._home, live=self._live,
            zone=str(self._board.zone),
            ranges=RANGES, groupings=GROUPS, statuses=STATUSES, filters=FILTERS, name_of=view.name_of, costs=view.costs,
            percent=percent, share=view.share, plural=view.plural, tokens=_count, **values,
        )  # fmt: skip

    def _now(self) -> Any:
        from datetime import datetime

        return datetime.now(self._board.zone)


_GROUPS_SHOWN = 25
_HTML = "text/html; charset=utf-8"
_NEVER_KEPT = {"Cache-Control": "private, no-store"}


def _count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"


def _inert(value: Any) -> str:
    """JSON that can stand inside a script element whatever strings are in it."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def find_plotly() -> Path | None:
    """Plotly's script in the installed package (extra `web`), found without importing it (that takes a second)."""
    spec = find_spec("plotly")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, "package_data", "plotly.min.js")
        if path.is_file():
            return path
    return None


@lru_cache(2)
def style_marks(plotly: Path) -> tuple[str, ...]:
    """The ids under which Plotly's bundle adds styles of its maps, if the page has no element of that id yet."""
    return tuple(
        sorted({found.decode() for found in re.findall(rb'getElementById\("([0-9a-f]{64})"\)', plotly.read_bytes())})
    )
