from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest
from peewee import OperationalError

from usagetap.store.queries import StoredRow
from usagetap.web import rows
from usagetap.web.app import serve
from usagetap.web.ask import Ask
from usagetap.web.site import Site


@pytest.fixture
def address(site: Site) -> Iterator[str]:
    """The printed address of a server that runs in a thread."""
    found: list[str] = []
    ready, loop = threading.Event(), asyncio.new_event_loop()

    async def run() -> None:
        server, address = serve(site)
        found.append(address)
        ready.set()
        await stop.wait()
        server.stop()
        await server.close_all_connections()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert ready.wait(10)
    yield found[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


Asking = Callable[..., tuple[int, dict[str, str], bytes]]


@pytest.fixture
def ask(address: str) -> Asking:
    port = urlsplit(address).port

    def ask(path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            connection.request(method, path, headers=sent)
            with connection.getresponse() as answer:
                return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    return ask


def log_in(ask: Asking, address: str) -> str:
    parts = urlsplit(address)
    status, headers, _ = ask(f"{parts.path}?{parts.query}")
    assert (status, headers["location"]) == (302, "/usage")
    return headers["set-cookie"]


def test_without_the_token_there_is_nothing(ask: Asking) -> None:
    for path in ("/", "/usage", "/usage?token=wrong", "/usage/static/app.js", "/usage/responses.csv"):
        status, headers, body = ask(path)
        assert status == 403
        assert b"usagetap web" in body
        assert "set-cookie" not in headers


def test_the_token_becomes_a_cookie_and_leaves_the_address(ask: Asking, address: str) -> None:
    cookie = log_in(ask, address)
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert address.rpartition("=")[2] not in cookie
    status, headers, body = ask("/usage", Cookie=cookie.partition(";")[0])
    assert status == 200
    assert b"Nothing has been recorded yet" in body
    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1.evil.example", ""])
def test_a_foreign_name_for_this_machine_is_turned_away(ask: Asking, address: str, host: str) -> None:
    cookie = log_in(ask, address).partition(";")[0]
    status, _, body = ask("/usage", Host=host, Cookie=cookie)
    assert status in (400, 421)
    assert b"Nothing has been recorded" not in body


def test_another_site_cannot_use_the_browser_as_its_deputy(ask: Asking, address: str) -> None:
    cookie = log_in(ask, address).partition(";")[0]
    assert ask("/usage", Cookie=cookie, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")[0] == 403
    assert ask("/usage", Cookie=cookie, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")[0] == 200
    assert ask("/usage", Cookie=cookie, Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="cors")[0] == 200


def test_there_is_nothing_to_write(ask: Asking, address: str) -> None:
    cookie = log_in(ask, address).partition(";")[0]
    assert ask("/usage", "POST", Cookie=cookie)[0] == 405
    assert ask("/usage", "HEAD", Cookie=cookie)[2] == b""


def test_the_csv_comes_in_pieces_and_a_part_never_looks_whole(
    ask: Asking, address: str, site: Site, put: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "CSV_LINES", 1)
    for _ in range(3):
        put()
    cookie = log_in(ask, address).partition(";")[0]
    status, headers, body = ask("/usage/responses.csv", Cookie=cookie)
    assert (status, headers["transfer-encoding"], body.count(b"\r\n")) == (200, "chunked", 4)
    assert ask("/usage/responses.csv", "HEAD", Cookie=cookie)[2] == b""

    whole = site._board.each_row

    def broken(wanted: Ask) -> Iterator[StoredRow]:
        yield from whole(wanted)
        raise OperationalError("gone")

    monkeypatch.setattr(site._board, "each_row", broken)
    with pytest.raises(http.client.IncompleteRead):
        ask("/usage/responses.csv", Cookie=cookie)


def test_the_root_leads_to_the_dashboard(ask: Asking, address: str) -> None:
    cookie = log_in(ask, address).partition(";")[0]
    assert ask("/", Cookie=cookie)[1]["location"] == "/usage"
