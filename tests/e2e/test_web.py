"""What a person sees: flows in a real mitmweb, the dashboard in it and beside it, in a real headless Chromium."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import wsproto
from tests.e2e.browser import Heard, running_browser
from tests.e2e.mitmweb import PASSWORD, Mitmweb, running_mitmweb
from tests.proxy import errors_in
from wsproto import events

from usagetap.upstream.server import Upstream, running_upstream

HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m\u202e"
ASK = [{"role": "user", "content": "Is <b>this</b> text?"}]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running_upstream() as running:
        yield running


@pytest.fixture(scope="module")
def mitmweb(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mitmweb]:
    prices = tmp_path_factory.mktemp("prices") / "prices.yaml"
    prices.write_text(PRICES)
    with running_mitmweb(tmp_path_factory.mktemp("mitmweb"), upstream.url, usage_prices=prices) as running:
        traffic(running)
        yield running


PRICES = """
prices:
  - model: gpt-5-mini
    input: 0.25
    output: 2
"""


def traffic(proxy: Mitmweb) -> None:
    """One flow of each kind, told apart by their tags."""
    post(proxy, "finished", "/v1/chat/completions", "chunks=20;reasoning=2;cached=8", {"model": "gpt-5-mini"})
    post(proxy, "tools", "/v1/chat/completions", "chunks=2;tools=2", {"model": "gpt-5-mini"})
    post(proxy, "anthropic", "/v1/messages", "chunks=4;tools=1", {"model": "claude-sonnet-4-5", "max_tokens": 9})
    post(proxy, "hostile", "/v1/chat/completions", "status=429", {"model": HOSTILE})
    with streaming(proxy, "aborted"):
        pass
    websocket(proxy, "websocket")
    proxy.ended(6)


def post(proxy: Mitmweb, tag: str, path: str, words: str, body: dict[str, Any]) -> bytes:
    """A request whose whole answer is read."""
    body = {"stream": True, "messages": ASK} | body
    headers = {"content-type": "application/json", "x-upstream": words, "x-usage-tag": tag}
    request = urllib.request.Request(f"http://127.0.0.1:{proxy.ports[0]}{path}", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            read: bytes = answer.read()
            return read
    except urllib.error.HTTPError as error:
        with error:
            return error.read()


@contextmanager
def streaming(proxy: Mitmweb, tag: str) -> Iterator[None]:
    """A stream that has begun, and that its client leaves at the end."""
    body = json.dumps({"model": "gpt-5-mini", "stream": True, "messages": ASK}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nx-usage-tag: {tag}\r\n"
        f"x-upstream: chunks=1000;delay=0.02\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", proxy.ports[0]), timeout=10) as line:
        line.sendall(head.encode() + body)
        received = b""
        while received.count(b"data: ") < 3:
            received += line.recv(65536)
        yield


def websocket(proxy: Mitmweb, tag: str) -> None:
    """A response over a WebSocket."""
    ws = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    extra = [(b"x-upstream", b"chunks=3"), (b"x-usage-tag", tag.encode())]
    with socket.create_connection(("127.0.0.1", proxy.ports[0]), timeout=10) as line:
        line.sendall(ws.send(events.Request("x", "/v1/responses", extra_headers=extra)))
        create = json.dumps({"type": "response.create", "model": "gpt-5-mini", "input": "hello"})
        heard = ""
        while "response.completed" not in heard:
            ws.receive_data(line.recv(65536))
            for event in ws.events():
                if isinstance(event, events.AcceptConnection):
                    line.sendall(ws.send(events.TextMessage(create)))
                elif isinstance(event, events.TextMessage):
                    heard += event.data
        line.sendall(ws.send(events.CloseConnection(1000)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running_browser() as running:
        yield running


@pytest.fixture
def page(browser: Any, mitmweb: Mitmweb) -> Iterator[Any]:
    """A page that is logged in; at the end it must not have complained."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    heard = Heard(page)
    page.goto(f"{mitmweb.web}/?token={PASSWORD}")
    yield page
    assert heard.complaints == []
    context.close()


def flow_of(proxy: Mitmweb, tag: str) -> dict[str, Any]:
    """The flow of a tag, by the id in its row."""
    (row,) = proxy.rows("tag = ?", tag)
    return next(flow for flow in proxy.flows() if flow["id"] == row["flow_id"])


# -- in the flow list


@pytest.mark.parametrize(
    ("tag", "comment", "mark"),
    [
        ("finished", r"11→22 · \$0\.00\d+ · gpt-5-mini$", ""),
        ("aborted", r"gpt-5-mini · aborted: client_disconnected$", "🛑"),
        ("hostile", r"\?→\? .* error: http_error$", "🔴"),
        ("anthropic", r"11→\d+ · .* · claude-sonnet-4-5$", ""),
        ("websocket", r"11→3 · \$0\.0\d+ · gpt-5-mini$", ""),
    ],
)
def test_a_flow_that_has_ended_shows_its_numbers_and_its_marker(mitmweb: Mitmweb, tag: str, comment: str, mark: str):
    flow = flow_of(mitmweb, tag)
    assert re.search(comment, flow["comment"])
    assert flow["marked"] == mark


def test_the_comment_column_is_there(page: Any, mitmweb: Mitmweb):
    page.get_by_role("columnheader", name="Comment").wait_for()
    page.get_by_text(re.compile(r"^11→22 · \$0")).first.wait_for()


@pytest.mark.parametrize("expression", ["~comment aborted", "~marker :stop_sign:"])
def test_flows_are_found_by_what_is_written_on_them(page: Any, mitmweb: Mitmweb, expression: str):
    page.get_by_text(re.compile(r"^11→22 · \$0")).first.wait_for()
    page.get_by_placeholder("Search").fill(expression)
    page.get_by_text(re.compile(r"^11→22 · \$0")).first.wait_for(state="detached")
    assert page.get_by_text("🛑").count() == 1


def test_columns_that_the_user_chose_stay(upstream: Upstream, tmp_path: Any):
    with running_mitmweb(tmp_path, upstream.url, web_columns=["path", "status"]) as proxy:
        assert json.loads(proxy.ask("/options.json"))["web_columns"]["value"] == ["path", "status"]


def test_a_comment_that_a_person_wrote_stays(mitmweb: Mitmweb):
    flow = flow_of(mitmweb, "tools")
    change(mitmweb, flow["id"], {"comment": "look at this again"})
    replay(mitmweb, flow["id"])
    mitmweb.ended(2, "flow_id = ?", flow["id"])
    assert flow_of_id(mitmweb, flow["id"])["comment"] == "look at this again"


def test_a_stream_that_runs_shows_how_far_it_is(page: Any, mitmweb: Mitmweb):
    with streaming(mitmweb, "running"):
        page.get_by_text(re.compile(r"^\?→\? · gpt-5-mini · [\d,]+ frames$")).first.wait_for(timeout=10_000)


def change(proxy: Mitmweb, flow_id: str, what: dict[str, Any]) -> None:
    ask(proxy, "PUT", f"/flows/{flow_id}", json.dumps(what).encode())


def replay(proxy: Mitmweb, flow_id: str) -> None:
    ask(proxy, "POST", f"/flows/{flow_id}/replay", b"")


def ask(proxy: Mitmweb, method: str, path: str, body: bytes) -> None:
    headers = {
        "Authorization": f"Bearer {PASSWORD}",
        "Cookie": "_mitmproxy_xsrf=x",
        "X-XSRFToken": "x",
        "Content-Type": "application/json",
    }
    urllib.request.urlopen(urllib.request.Request(proxy.web + path, body, headers, method=method), timeout=10).close()


def flow_of_id(proxy: Mitmweb, flow_id: str) -> dict[str, Any]:
    return next(flow for flow in proxy.flows() if flow["id"] == flow_id)


# -- in the flow


@pytest.mark.parametrize(
    ("tag", "shown"),
    [
        ("finished", ("── Reasoning", "── Answer", "input_tokens", "cache_read_input_tokens", "ok · finish stop")),
        ("aborted", ("── Answer", "Water boils", "aborted: client_disconnected")),
        ("tools", ("── Tool call: get_weather", '"city": "Zürich"', "tool_calls")),
        ("anthropic", ("── Tool call: get_weather", '"days": 1', "tool_use")),
        ("hostile", ("── Error", "rate_limit_error", "error: http_error")),
    ],
)
def test_the_answer_is_put_together_again(mitmweb: Mitmweb, tag: str, shown: tuple[str, ...]):
    view = mitmweb.view(flow_of(mitmweb, tag)["id"], "response")
    assert view["view_name"] == "LLM"
    assert [each for each in shown if each not in view["text"]] == []


def test_the_request_is_readable_and_says_what_was_changed(mitmweb: Mitmweb):
    view = mitmweb.view(flow_of(mitmweb, "finished")["id"], "request")
    assert view["view_name"] == "LLM"
    assert "Is <b>this</b> text?" in view["text"]
    assert "stream_options.include_usage is true: the client had said nothing" in view["text"]


def test_frames_are_shown_on_demand(mitmweb: Mitmweb):
    view = mitmweb.view(flow_of(mitmweb, "finished")["id"], "response", "LLM frames")
    assert view["text"].count("chat.completion.chunk") == 25
    assert "[DONE]" in view["text"]


def test_messages_of_a_websocket_are_readable(mitmweb: Mitmweb):
    flow_id = flow_of(mitmweb, "websocket")["id"]
    shown = json.loads(mitmweb.ask(f"/flows/{flow_id}/messages/content/auto.json"))
    assert {each["view_name"] for each in shown} == {"LLM"}
    assert any(each["text"].startswith("response.output_text.delta  ") for each in shown)
    assert "── Answer" in shown[-1]["text"]


def test_the_view_is_there_in_the_browser(page: Any, mitmweb: Mitmweb):
    page.goto("about:blank")  # mitmweb reads the address when it is loaded, not when it changes
    page.goto(f"{mitmweb.web}/#/flows/{flow_of(mitmweb, 'tools')['id']}/response")
    page.get_by_text("Tool call: get_weather").first.wait_for()


# -- the dashboard


def test_without_the_login_there_is_nothing(mitmweb: Mitmweb):
    for path in ("/usage", "/usage/row/1", "/usage/responses.csv", "/usage/static/app.js"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(mitmweb.web + path, timeout=10)
        with refused.value as answer:
            assert (answer.code, answer.read()) == (403, b"")


def test_the_dashboard_shows_every_response_and_leads_to_its_flow(page: Any, mitmweb: Mitmweb):
    answer = page.goto(f"{mitmweb.web}/usage")
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["content-security-policy"].startswith("default-src 'self';")
    rows = page.locator("[data-row]")
    rows.nth(5).wait_for()
    page.locator("#chart-tokens .bars").first.wait_for(state="attached")
    page.goto(f"{mitmweb.web}/usage?tag=aborted")
    link = rows.get_by_role("link", name="The flow of response")
    flow_id = flow_of(mitmweb, "aborted")["id"]
    assert link.get_attribute("href") == f"/#/flows/{flow_id}/response"
    link.click()
    page.get_by_text("── How it ended").first.wait_for()


def test_filters_are_in_the_address(page: Any, mitmweb: Mitmweb):
    page.goto(f"{mitmweb.web}/usage")
    page.get_by_role("link", name="Tag", exact=True).click()
    page.get_by_role("rowheader", name="anthropic").get_by_role("link").click()
    assert page.url.endswith("/usage?by=tag&tag=anthropic")
    assert page.locator("[data-row]").count() == 1
    page.get_by_role("link", name="Remove the filter tag anthropic").click()
    page.locator("#filter-name").select_option("model")
    page.locator("#filter-value").fill("claude-sonnet-4-5")
    page.keyboard.press("Enter")
    page.wait_for_url("**/usage?**value=claude-sonnet-4-5")
    assert page.locator("[data-row]").count() == 1


def test_new_responses_come_by_themselves(page: Any, mitmweb: Mitmweb):
    page.goto(f"{mitmweb.web}/usage?tag=live")
    assert page.locator("[data-row]").count() == 0
    post(mitmweb, "live", "/v1/chat/completions", "chunks=3", {"model": "gpt-5-mini"})
    page.locator("[data-row]", has_text="gpt-5-mini").wait_for(timeout=15_000)
    page.get_by_role("button", name="Live").click()
    assert page.get_by_role("button", name="Live").get_attribute("aria-pressed") == "false"


def test_what_is_looked_at_stays_where_it_is(page: Any, mitmweb: Mitmweb):
    page.goto(f"{mitmweb.web}/usage")
    page.locator("#chart-rates .boxes").first.wait_for(state="attached")
    when = page.locator("[data-row] .when").first
    name = when.get_attribute("id")
    when.focus()
    place = "name => document.getElementById(name).getBoundingClientRect().top"
    before = page.evaluate(place, name)
    post(mitmweb, "above", "/v1/chat/completions", "chunks=3", {"model": "gpt-5-mini"})
    page.locator("[data-row]", has_text="above").first.wait_for(state="attached", timeout=15_000)
    page.wait_for_function(f"Math.abs(({place})({name!r}) - {before}) < 2")
    assert page.evaluate("document.activeElement.id") == name


def test_the_csv_has_every_row(page: Any, mitmweb: Mitmweb):
    page.goto(f"{mitmweb.web}/usage?range=all")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename == "usage.csv"
    assert download.value.path().read_text().count("\n") == len(mitmweb.rows()) + 1


def test_hostile_names_stay_text(page: Any, mitmweb: Mitmweb):
    page.goto(f"{mitmweb.web}/usage")
    page.get_by_text("<img src=x onerror=alert(1)>").first.wait_for()
    assert page.locator("img").count() == 0
    (row,) = mitmweb.rows("tag = 'hostile'")
    page.goto(f"{mitmweb.web}/usage/row/{row['id']}")
    assert "<img src=x onerror=alert(1)>�[31m�" in page.locator("h1").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(browser: Any, mitmweb: Mitmweb, scheme: str):
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{mitmweb.web}/usage?token={PASSWORD}")
    page.locator("#chart-tokens .bars").first.wait_for(state="attached")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    context.close()


def test_every_link_and_field_has_a_name_and_the_keyboard_reaches_it(page: Any, mitmweb: Mitmweb):
    page.goto(f"{mitmweb.web}/usage")
    nameless = page.evaluate(
        "[...document.querySelectorAll('a, button, input:not([type=hidden]), select')].filter((each) =>"
        " !(each.innerText.trim() || each.getAttribute('aria-label') || each.labels?.length)).length"
    )
    assert nameless == 0
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"


# -- through the proxy, and without one


def test_the_magic_host_answers_through_the_proxy(mitmweb: Mitmweb):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": f"http://127.0.0.1:{mitmweb.ports[1]}"}))
    with opener.open("http://usage.it/", timeout=10) as answer:
        assert answer.url == "http://usage.it/usage"
        assert b"claude-sonnet-4-5" in answer.read()
    with pytest.raises(urllib.error.HTTPError) as refused:
        opener.open(urllib.request.Request("http://usage.it/usage", b"x"), timeout=10)
    with refused.value as answer:
        assert answer.code == 405


def test_the_page_at_its_magic_name_works_in_a_browser(browser: Any, mitmweb: Mitmweb):
    context = browser.new_context(proxy={"server": f"http://127.0.0.1:{mitmweb.ports[1]}"})
    page = context.new_page()
    heard = Heard(page)
    page.goto("http://usage.it/")
    page.locator("#chart-tokens .bars").first.wait_for(state="attached")
    assert page.url == "http://usage.it/usage"
    assert heard.complaints == []
    context.close()


@pytest.fixture
def standalone(mitmweb: Mitmweb) -> Iterator[Callable[[], str]]:
    command = [sys.executable, "-m", "usagetap", "web", "--db", str(mitmweb.db), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield lambda: re.search(r"http://\S+", process.stdout.readline())[0]  # type: ignore[union-attr, index]
    process.terminate()
    process.wait(10)
    process.stdout.close()


def test_it_stands_alone_under_its_own_token(browser: Any, standalone: Callable[[], str]):
    address = standalone()
    context = browser.new_context()
    page = context.new_page()
    heard = Heard(page)
    page.goto(address)
    assert "token" not in page.url
    page.locator("[data-row]", has_text="claude-sonnet-4-5").first.wait_for()
    page.locator("[data-row] .when").first.click()
    page.get_by_text("What it used").wait_for()
    assert heard.complaints == []
    context.close()


def test_nothing_went_wrong_in_the_proxy(mitmweb: Mitmweb):
    assert errors_in(mitmweb.log) == []
