"""A mitmproxy script that ties a private proxy to the process that started it (used by `exec` and `demo`).

It tells the starter where the proxy listens, through the file named by USAGETAP_READY: the port was chosen by the
kernel, so nobody can take it in between. And it holds the leash: the proxy's standard input is a pipe from the
starter; when that closes, however the starter ended, the proxy shuts down in good order and its rows are written.

mitmproxy loads this by path, so nothing here imports the package.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

from mitmproxy import ctx

#: seconds that clients may take to leave after the starter
FAREWELL = 1.0


class Announce:
    """Says where the proxy listens, and stops it when the starter is gone."""

    def running(self) -> None:
        """The proxy listens: tell the starter, then wait for the end of the leash."""
        if credentials := os.environ.pop("USAGETAP_UPSTREAM_AUTH", None):
            ctx.options.update(upstream_auth=credentials)
        ready = Path(os.environ["USAGETAP_READY"])
        partial = ready.with_suffix(".partial")
        partial.write_text(json.dumps({"listen": ctx.master.addons.get("proxyserver").listen_addrs()}))
        partial.rename(ready)
        threading.Thread(target=self.hold_leash, name="usagetap-leash", daemon=True).start()

    def hold_leash(self) -> None:
        """Read standard input until it ends, then shut the proxy down.

        What a command has started may end a little later than the command: its streams were then left by their client,
        not stopped by us.
        """
        while os.read(sys.stdin.fileno(), 4096):
            pass
        until = time.monotonic() + FAREWELL
        while ctx.master.addons.get("proxyserver").connections and time.monotonic() < until:
            time.sleep(0.01)
        ctx.master.shutdown()


addons = [Announce()]
