"""Debian's Chromium, headless, driven by playwright; tests that need it skip where it is not there, saying why.

`apt-get install chromium`, or USAGETAP_CHROMIUM names another. playwright is in the dev group; it downloads no browser.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


def chromium() -> str | None:
    """Where Chromium is."""
    names = (os.environ.get("USAGETAP_CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    return next(filter(None, (shutil.which(name) for name in names if name)), None)


@contextmanager
def running_browser() -> Iterator[Any]:
    """A browser; skips the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (dev group)")
    path = chromium()
    if path is None:
        pytest.skip("no Chromium: apt-get install chromium, or set USAGETAP_CHROMIUM")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


class Heard:
    """What a page complained about: console errors, exceptions, dialogs, breaches of its Content-Security-Policy."""

    def __init__(self, page: Any) -> None:
        self.complaints: list[str] = []
        page.on("console", lambda said: self._take(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self._take(str(error)))
        page.on("dialog", lambda dialog: (self._take(f"dialog: {dialog.message}"), dialog.dismiss()))

    def _take(self, text: str) -> None:
        self.complaints.append(text)
