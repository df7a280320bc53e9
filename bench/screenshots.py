"""Pictures of the dashboard and of mitmweb for the README, from made-up traffic, in real headless Chromium.

python -m bench.screenshots [FOLDER]      # docs/screenshots
"""

from __future__ import annotations

import json
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.e2e.browser import running_browser
from tests.e2e.mitmweb import PASSWORD, Mitmweb, running_mitmweb

from bench.demo_rows import build
from usagetap.store.queries import by_flow, open_reader
from usagetap.upstream.server import running_upstream

FOLDER = Path(__file__).parents[1] / "docs" / "screenshots"
PRICES = """
prices:
  - {model: gpt-5-mini, input: 0.25, output: 2}
  - {model: claude-sonnet-4-5, input: 3, output: 15}
"""
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
#: path, model, the fake upstream's words
CALLS = (
    (CHAT, "gpt-5-mini", "chunks=24;reasoning=4;input=3115;cached=2048;output=511"),
    (MESSAGES, "claude-sonnet-4-5", "chunks=12;tools=1;input=37352;cached=30000;output=313"),
    (CHAT, "gpt-5-mini", "chunks=9;tools=2;input=2460;output=184"),
    (CHAT, "gpt-5-mini", "status=429"),
    (CHAT, "gpt-5-mini", "chunks=400;delay=0.05"),
    (MESSAGES, "claude-sonnet-4-5", "chunks=40;input=8250;output=702"),
)
SHOTS = (("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390))


def main() -> None:
    """Take every picture."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, running_browser() as browser, month_of_traffic(Path(name)) as proxy:
        for scheme, width in SHOTS:
            dashboard(browser, proxy, folder / f"dashboard-{scheme}-{width}.png", scheme, width)
        one_row(browser, proxy, folder / "response.png")
        in_mitmweb(browser, proxy, folder)
    for path in sorted(folder.glob("*.png")):
        print(f"{path}  {path.stat().st_size >> 10} KiB")


@contextmanager
def month_of_traffic(folder: Path) -> Iterator[Mitmweb]:
    """A mitmweb over a database of a month, and a few flows of now."""
    prices = folder / "prices.yaml"
    prices.write_text(PRICES)
    database = build(folder / "usage.db")
    with (
        running_upstream() as upstream,
        running_mitmweb(folder, upstream.url, usage_prices=prices, usage_db=database) as proxy,
    ):
        for path, model, words in CALLS:
            call(proxy, path, model, words)
        proxy.ended(len(CALLS), "instance <> 'demo'")
        yield proxy


def call(proxy: Mitmweb, path: str, model: str, words: str) -> None:
    """One request; a slow one is left after the first bytes."""
    question = [{"role": "user", "content": "Which unit tests does this change need? Answer briefly."}]
    body = json.dumps({"model": model, "stream": True, "max_tokens": 800, "messages": question}).encode()
    headers = {"content-type": "application/json", "x-upstream": words, "x-usage-tag": "code-review"}
    request = urllib.request.Request(f"http://127.0.0.1:{proxy.ports[0]}{path}", body, headers)
    with suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=20) as answer:
        answer.read(2000 if "delay" in words else None)


def dashboard(browser: Any, proxy: Mitmweb, path: Path, scheme: str, width: int) -> None:
    """The page, whole on the desk, its beginning on the phone."""
    height, scale = (1400, 1.25) if width > 500 else (844, 1.5)
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=scale
    )
    page = context.new_page()
    page.goto(f"{proxy.web}/usage?token={PASSWORD}")
    page.locator("#chart-rates .boxes").first.wait_for(state="attached")
    page.screenshot(path=path)
    context.close()


def one_row(browser: Any, proxy: Mitmweb, path: Path) -> None:
    """A response's own page."""
    db = open_reader(proxy.db)
    row = by_flow(db, proxy.flows()[1]["id"])[0]
    db.close()
    context = browser.new_context(viewport={"width": 1100, "height": 900}, device_scale_factor=1.5)
    page = context.new_page()
    page.goto(f"{proxy.web}/usage/row/{row['id']}?token={PASSWORD}")
    page.screenshot(path=path)
    context.close()


def in_mitmweb(browser: Any, proxy: Mitmweb, folder: Path) -> None:
    """The list of flows, and a flow with its answer put together again."""
    context = browser.new_context(viewport={"width": 1280, "height": 420}, device_scale_factor=1.5)
    page = context.new_page()
    page.goto(f"{proxy.web}/?token={PASSWORD}")
    page.get_by_text("claude-sonnet-4-5").first.wait_for(state="attached")
    page.screenshot(path=folder / "mitmweb-list.png")
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto("about:blank")
    page.goto(f"{proxy.web}/#/flows/{proxy.flows()[1]['id']}/response")
    page.get_by_text("Tool call").first.wait_for()
    page.screenshot(path=folder / "mitmweb-flow.png")
    context.close()


if __name__ == "__main__":
    main()
