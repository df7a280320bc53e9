"""Finding mitmproxy and the addon script, and a private mitmdump that lives as long as we do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import unquote, urlsplit

import usagetap
from usagetap.launch.bundle import upstream_roots
from usagetap.launch.environment import OWN_PROXY

Tool = Literal["mitmdump", "mitmweb", "mitmproxy"]

#: an unasked usage frame crashes clients that index `choices[0]`: what we start withholds it (contract.md, section 2)
STRIP_INJECTED = "usage_strip_frame=injected"

START_SECONDS = 60.0
STOP_SECONDS = 15.0


class ProxyFailed(Exception):
    """The proxy did not start, or ended before its time; the text is fit for a person."""


def addon_script() -> Path:
    """The script that mitmproxy is given: inside the installed package, or beside it in a clone."""
    package = Path(usagetap.__file__).resolve().parent
    for candidate in (package / "usage.py", package.parent / "usage.py"):
        if candidate.is_file():
            return candidate
    raise ProxyFailed(f"the addon script usage.py is neither in {package} nor beside it: install usagetap again")


def tool_command(tool: Tool) -> list[str]:
    """The command that starts a mitmproxy front end of *this* environment, wherever PATH points."""
    suffix = ".exe" if sys.platform == "win32" else ""
    beside_python = Path(sys.executable).parent / f"{tool}{suffix}"
    if beside_python.is_file():
        return [str(beside_python)]
    return [sys.executable, "-c", f"import sys; from mitmproxy.tools.main import {tool}; sys.exit({tool}())"]


def upstream_of(environment: Mapping[str, str]) -> tuple[str, str | None] | None:
    """The proxy that the user's environment already names, as (mitmproxy mode, `user:password`), or `None`.

    A company's proxy stays in the path: ours passes everything on to it. Only http and https proxies can be
    chained; a SOCKS proxy is refused with a sentence. A proxy that `usagetap env` or an outer `usagetap exec` put
    there is ours and left out: two taps in a row would count everything twice.
    """
    names = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
    named = next((environment[name] for name in names if environment.get(name)), "")
    if not named or named == environment.get(OWN_PROXY):
        return None
    url = urlsplit(named if "://" in named else f"http://{named}")
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ProxyFailed(
            f"your environment names the proxy {url.scheme}://{url.hostname}, and only http and https proxies can be "
            "chained: unset HTTPS_PROXY and ALL_PROXY for this command"
        )
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    port = url.port or (443 if url.scheme == "https" else 80)
    credentials = None if url.username is None else f"{unquote(url.username)}:{unquote(url.password or '')}"
    return f"upstream:{url.scheme}://{host}:{port}", credentials


class PrivateProxy:
    """A mitmdump with the addon on a free loopback port, for the time of a `with` block.

    Its log goes to a file in `directory` (0700, removed at the end), so that the terminal is the command's alone.
    """

    def __init__(self, *, options: Sequence[str] = (), upstream: tuple[str, str | None] | None = None) -> None:
        self.arguments = [word for option in options for word in ("--set", option)]
        """The caller's settings as mitmproxy reads them."""
        self.upstream = upstream
        self.port = 0

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="usagetap-"))
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """What HTTP_PROXY is to be."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of mitmdump."""
        return self.process.pid

    def log(self, lines: int = 12) -> str:
        """The end of the proxy's log."""
        text = (self.directory / "proxy.log").read_text("utf-8", "replace")
        return "\n".join(text.splitlines()[-lines:])

    def close(self) -> None:
        """Let go of the leash, wait until the rows are written, and remove the directory. Twice is once."""
        process = getattr(self, "process", None)
        if process is not None and process.stdin is not None and not process.stdin.closed:
            process.stdin.close()
            for stop in (process.terminate, process.kill):
                try:
                    process.wait(STOP_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    stop()
            process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _start(self) -> None:
        mode, credentials = self.upstream or ("regular", None)
        ready = self.directory / "ready.json"
        environment = {**os.environ, "USAGETAP_READY": str(ready), "PYTHONUNBUFFERED": "1"}
        if credentials is not None:  # not on the command line, where every user of the machine can read it
            environment["USAGETAP_UPSTREAM_AUTH"] = credentials
        ours = [STRIP_INJECTED, "flow_detail=0", "termlog_verbosity=warn", *upstream_roots(os.environ)]
        command = [*tool_command("mitmdump"), "--mode", mode, "--listen-host", "127.0.0.1", "--listen-port", "0"]
        command += ["-s", str(addon_script()), "-s", str(Path(__file__).with_name("announce.py"))]
        command += [word for option in ours for word in ("--set", option)] + self.arguments
        with open(self.directory / "proxy.log", "wb") as log:
            self.process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the command; the proxy outlives it to write its rows
            )
        self._await_ready(ready)

    def _await_ready(self, ready: Path) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready.exists():
            if self.process.poll() is not None:
                raise ProxyFailed(f"mitmdump did not start (exit code {self.process.returncode}):\n{self.log()}")
            if time.monotonic() > deadline:
                raise ProxyFailed(f"mitmdump does not listen after {START_SECONDS:.0f} seconds:\n{self.log()}")
            time.sleep(0.02)
        self.port = json.loads(ready.read_text())["listen"][0][1]
