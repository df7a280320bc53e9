"""A real `mitmweb` with the addon, in front of the fake upstream."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.proxy import Mitmdump, free_ports

_MITMWEB = "from mitmproxy.tools.main import mitmweb; mitmweb()"
PASSWORD = "a password of the test's own"


class Mitmweb(Mitmdump):
    """One process: a reverse proxy to the upstream (`ports[0]`), a regular one (`ports[1]`), and the web page."""

    program = _MITMWEB

    def __init__(self, folder: Path, upstream: str, **options: object) -> None:
        (self.web_port,) = free_ports(1)
        web = {"web_port": self.web_port, "web_open_browser": "false", "web_password": PASSWORD}
        super().__init__(folder, f"reverse:{upstream}", "regular", **(web | options))

    @property
    def web(self) -> str:
        """Where the pages are."""
        return f"http://127.0.0.1:{self.web_port}"

    def flows(self) -> list[dict[str, Any]]:
        """The flows as mitmweb's own page gets them."""
        found: list[dict[str, Any]] = json.loads(self.ask("/flows.json"))
        return found

    def view(self, flow_id: str, message: str, name: str = "auto") -> dict[str, Any]:
        """A message as a content view shows it."""
        name = urllib.request.quote(name)
        found: dict[str, Any] = json.loads(self.ask(f"/flows/{flow_id}/{message}/content/{name}.json"))
        return found

    def ask(self, path: str) -> bytes:
        """A page, with the password."""
        request = urllib.request.Request(self.web + path, headers={"Authorization": f"Bearer {PASSWORD}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            body: bytes = answer.read()
            return body


@contextmanager
def running_mitmweb(folder: Path, upstream: str, **options: object) -> Iterator[Mitmweb]:
    """A mitmweb that is up, and gone afterwards."""
    proxy = Mitmweb(folder, upstream, **options)
    try:
        proxy.wait_until_listening()
        proxy.wait_for_line("Web server listening")
        yield proxy
    finally:
        proxy.close()
