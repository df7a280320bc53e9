from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peewee import OperationalError

from usagetap.store.queries import open_reader
from usagetap.web import rows
from usagetap.web import site as module
from usagetap.web.ask import parse
from usagetap.web.board import Board
from usagetap.web.site import POLICY, Answer, Site, find_plotly, style_marks

from .conftest import ZONE, get, site_over

HOSTILE = "</script><img src=x onerror=alert(1)>\x1b[31m\u202e'\"&" + "x" * 3000


def text(site: Site, path: str = "", query: str = "") -> str:
    answer = get(site, path, query)
    assert answer.status == 200
    return answer.body.decode()


def test_an_empty_database_says_what_to_do(site: Site) -> None:
    page = text(site)
    assert "Nothing has been recorded yet" in page
    assert "usagetap exec -- COMMAND" in page


def test_nothing_under_these_filters_says_so(site: Site, put: Callable[..., None]) -> None:
    put()
    assert "Nothing in this time with these filters." in text(site, query="tag=none")


def test_a_response_is_in_every_part(site: Site, put: Callable[..., None]) -> None:
    put()
    page = text(site)
    for part in ("glances", "course", "speed", "waste", "responses"):
        assert re.search(rf'data-part="{part}"', page)
    assert 'href="/usage/row/1"' in page
    assert page.count("1,234") >= 4


@pytest.mark.parametrize("query", ["", "by=tag", "by=provider&range=all", "range=today"])
def test_hostile_text_stays_text(site: Site, put: Callable[..., None], query: str) -> None:
    for name in ("request_model", "provider", "tag", "client_address", "response_id", "error_message"):
        put("upstream_error", **{name: HOSTILE})
        put(**{name: HOSTILE})
    pages = [text(site, query=query), text(site, "row/1"), text(site, "row/2"), text(site, query="tag=" + "%3Cimg%3E")]
    for page in pages:
        assert "<img" not in page
        assert "\x1b" not in page
        assert "\u202e" not in page
    block = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', pages[0], re.DOTALL)
    assert block is not None
    json.loads(block[1])


def test_no_page_has_inline_scripts_or_styles(site: Site, put: Callable[..., None]) -> None:
    put()
    for path in ("", "row/1", "nowhere"):
        page = get(site, path).body.decode()
        assert re.findall(r"<script(?![^>]*(?:src=|application/json))", page) == []
        assert re.findall(r"\sstyle=|<style|\son[a-z]+=|https?://", page) == []
    assert "unsafe" not in POLICY


def test_plotly_finds_every_style_it_would_write_already_there(site: Site, put: Callable[..., None]) -> None:
    plotly = find_plotly()
    if plotly is None:
        pytest.skip("plotly is not installed (extra `web`)")
    put()
    page = text(site)
    for name in ("plotly.js-style-global", *style_marks(plotly)):
        assert f'id="{name}"' in page


def test_what_has_not_changed_is_not_sent_again(site: Site, put: Callable[..., None]) -> None:
    put()
    first = get(site)
    again = get(site, etag=first.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    assert get(site, query="range=30d", etag=first.headers["ETag"]).status == 200


@pytest.mark.parametrize(
    ("path", "query", "status", "sentence"),
    [
        ("", "range=never", 400, "choose from today"),
        ("responses.csv", "by=x", 400, "choose from model"),
        ("row/99", "", 404, "There is no such row"),
        ("row/x", "", 404, "There is no such page"),
        ("static/passwd", "", 404, "There is no such file"),
        ("static/../site.py", "", 404, "There is no such page"),
    ],
)
def test_what_there_is_not_gets_a_page_that_says_so(
    site: Site, path: str, query: str, status: int, sentence: str
) -> None:
    answer = get(site, path, query)
    assert answer.status == status
    assert sentence in answer.body.decode()


def test_a_database_that_cannot_be_read_is_a_sentence_not_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "noise.db").write_bytes(b"no database" * 999)
    for name in ("none.db", "noise.db"):
        with site_over(tmp_path / name) as site:
            answer = get(site)
        assert answer.status == 503
        assert "The database cannot be read" in answer.body.decode()


def test_the_csv_is_what_is_shown(site: Site, put: Callable[..., None]) -> None:
    put(tag="a")
    put(tag="b")

    async def read() -> bytes:
        answer = await site.answer("responses.csv", "tag=b")
        assert answer.headers["Content-Disposition"] == 'attachment; filename="usage.csv"'
        return await drained(answer)

    body = asyncio.run(read())
    assert body.count(b"\r\n") == 2
    assert b",b," in body


async def drained(answer: Answer) -> bytes:
    assert answer.more is not None
    return answer.body + b"".join([piece async for piece in answer.more])


def test_the_csv_has_every_row_whatever_their_number(
    site: Site, put: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "CSV_LINES", 2)
    for number in range(7):
        put(tag=f"tag-{number}")

    async def read() -> list[bytes]:
        answer = await site.answer("responses.csv", "before=1")  # a page of the table is not all that there is
        await asyncio.wait_for(site.answer("row/1"), 10)  # others are served in between
        return (await drained(answer)).splitlines()

    lines = asyncio.run(read())
    assert [line.count(b",") for line in lines] == [lines[0].count(b",")] * 8
    assert [f"tag-{number}".encode() in line for number, line in enumerate(lines[1:])] == [True] * 7


def test_a_csv_whose_database_goes_fails_and_does_not_end(
    site: Site, put: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "CSV_LINES", 1)
    put()

    def each_row(*_: Any) -> Iterator[Any]:
        yield from open_rows
        raise OperationalError("gone")

    async def read(**expected: int) -> None:
        answer = await site.answer("responses.csv")
        assert answer.status == expected["status"]
        if answer.status == 200:
            with pytest.raises(OperationalError):
                await drained(answer)

    open_rows = list(site._board.each_row(parse("")))
    site._board.close()
    monkeypatch.setattr(site._board, "each_row", each_row)
    asyncio.run(read(status=200))
    open_rows.clear()
    asyncio.run(read(status=503))


def test_without_plotly_the_tables_stand_alone(
    database: Path, put: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put()
    monkeypatch.setattr(module, "find_plotly", lambda: None)
    with site_over(database) as site:
        page = text(site)
        assert get(site, "static/plotly.js").status == 404
    assert "<code>pip install 'usagetap[web]'</code>" in page
    assert "static/plotly.js" not in page
    assert "chart-cost" not in page


def test_all_but_plotly_is_small(site: Site, put: Callable[..., None]) -> None:
    for _ in range(60):
        put()
    files = [get(site, f"static/{name}") for name in ("app.css", "app.js", "charts.js", "icon.svg")]
    assert all(file.status == 200 for file in files)
    assert len(get(site).body) + sum(len(file.body) for file in files) < 1_000_000


def test_plotly_is_served_from_the_installed_package(site: Site) -> None:
    path = find_plotly()
    if path is None:
        pytest.skip("plotly is not installed (extra `web`)")
    assert get(site, "static/plotly.js").body == path.read_bytes()


class Slow(Board):
    """A board whose sums take until they are let go."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.go = threading.Event()

    def scene(self, ask: Any) -> Any:
        self.go.wait(10)
        return super().scene(ask)


def test_slow_sums_hold_up_neither_the_event_loop_nor_the_page(
    database: Path, put: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put()
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    board = Slow(lambda: open_reader(database), ZONE)
    site = Site(board)

    async def look() -> None:
        answer = await site.answer("", "by=tag")
        assert b" data-busy " in answer.body
        assert b'aria-current="true">Tag' in answer.body
        assert (await site.answer("", "by=nothing")).status == 400
        board.go.set()
        while b" data-busy " in (answer := await site.answer("", "by=tag")).body:
            await asyncio.sleep(0)
        assert b"untagged" in answer.body

    asyncio.run(look())
    site.close()
    site._worker.shutdown(wait=True)
