from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from mitmproxy import http
from mitmproxy.connection import Client
from mitmproxy.test import tflow, tutils
from tornado.web import Application, RequestHandler

from usagetap.mitm import dashboard
from usagetap.mitm.dashboard import flow_link, is_magic, is_this_machine, magic, whole
from usagetap.store.database import connect
from usagetap.store.migrations import migrate
from usagetap.store.queries import open_reader
from usagetap.web.board import Board
from usagetap.web.site import Answer, Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    db = connect(tmp_path / "usage.db")
    migrate(db)
    db.close()
    site = Site(Board(lambda: open_reader(tmp_path / "usage.db"), ZoneInfo("UTC")), live=False)
    yield site
    site.close()
    site._worker.shutdown(wait=True)


def flow_to(
    path: str = "/usage", *, host: str = "usage.it", peer: str = "127.0.0.1", scheme: str = "http", **fields: Any
) -> http.HTTPFlow:
    headers = http.Headers([(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()])
    method = headers.pop("method", "GET").encode()
    request = tutils.treq(method=method, scheme=scheme.encode(), host=host, path=path.encode(), headers=headers)
    client = Client(peername=(peer, 50_000), sockname=("127.0.0.1", 8080), timestamp_start=0.0)
    return tflow.tflow(req=request, client_conn=client, live=True)


def answered(site: Site, flow: http.HTTPFlow) -> Answer:
    return asyncio.run(magic(site, flow))


def test_the_magic_host_is_the_dashboard(site: Site) -> None:
    assert answered(site, flow_to("/")).headers == {"Location": "/usage"}
    page = answered(site, flow_to())
    assert page.status == 200
    assert b"usagetap" in page.body
    assert answered(site, flow_to("/usage/static/app.js")).status == 200
    assert answered(site, flow_to("/usagex")).status == answered(site, flow_to("/favicon.ico")).status == 404


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"peer": "192.0.2.7"}, 403),
        ({"peer": "2001:db8::1"}, 403),
        ({"scheme": "https"}, 403),
        ({"method": "POST"}, 405),
        ({"method": "PUT"}, 405),
        ({"service_worker": "script"}, 405),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}, 403),
    ],
)
def test_whom_it_is_not_for_is_turned_away(site: Site, fields: dict[str, Any], status: int) -> None:
    answer = answered(site, flow_to(**fields))
    assert answer.status == status
    assert b"<html" not in answer.body


@pytest.mark.parametrize(
    ("host", "option", "mine"),
    [
        ("usage.it", "usage.it", True),
        ("USAGE.IT", "usage.it", True),
        ("evil.example", "usage.it", False),
        ("usage.it.evil.example", "usage.it", False),
        ("usage.it", "", False),
        ("", "", False),
    ],
)
def test_only_the_magic_host_is_magic(host: str, option: str, mine: bool) -> None:
    assert is_magic(flow_to(host=host), option) is mine


def test_a_flow_that_was_answered_already_is_left_alone() -> None:
    flow = flow_to()
    flow.response = http.Response.make(200)
    assert not is_magic(flow, "usage.it")
    replayed = flow_to()
    replayed.live = False
    assert not is_magic(replayed, "usage.it")


@pytest.mark.parametrize(
    ("address", "mine"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False),
        ("::ffff:192.0.2.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("", False),
        ("localhost", False),
    ],
)
def test_this_machine_s_addresses(address: str, mine: bool) -> None:
    assert is_this_machine(address) is mine


def test_a_reload_of_the_script_puts_in_its_own_site(site: Site) -> None:
    app = Application([])
    before = len(app.default_router.rules)
    dashboard.serve_under(app, RequestHandler, "old")  # type: ignore[arg-type]
    dashboard.serve_under(app, RequestHandler, site)
    assert len(app.default_router.rules) == before + 1
    (rule,) = (rule for rule in app.default_router.rules if rule.matcher.__class__.__name__ == "HostMatches")
    assert rule.target.rules[0].target_kwargs["site"]() is site


def test_a_closed_site_says_so(site: Site) -> None:
    site.close()
    assert answered(site, flow_to()).status == 503


def test_flows_that_mitmweb_has_no_more_are_not_linked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Master:
        view: Any = None

    monkeypatch.setattr(dashboard, "ctx", type("Context", (), {"master": Master()}))
    assert flow_link("x") is None
    Master.view = type("View", (), {"get_by_id": lambda self, flow_id: flow_id == "here" or None})()
    assert flow_link("here") == "/#/flows/here/response"
    assert flow_link("gone") is None


def test_an_answer_in_pieces_is_put_together_or_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async def more() -> AsyncIterator[bytes]:
        yield b"b" * 3
        yield b"c" * 3

    assert asyncio.run(whole(Answer(200, b"a", {}, more()))) == Answer(200, b"abbbccc", {})
    monkeypatch.setattr(dashboard, "HELD", 6)
    refused = asyncio.run(whole(Answer(200, b"a", {}, more())))
    assert refused.status == 400
    assert b"ask for less" in refused.body
