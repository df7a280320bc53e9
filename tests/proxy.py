"""A real `mitmdump` with the addon, started, watched and stopped by a test.

Nothing here sleeps for luck: the proxy is up when it says on which port it listens, a row is there when it has its end.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
USAGE = ROOT / "addon" / "usage.py"
STREAM_ONLY = ROOT / "tests" / "mitm" / "scripts" / "stream_only.py"
REDIRECT = ROOT / "tests" / "mitm" / "scripts" / "redirect.py"

_LISTENING = re.compile(r"listening at .*?:(\d+)\.?$")


class Mitmdump:
    """One process. `modes` get a free port each, in order: `ports`. `folder` holds database, CA and log."""

    program = "from mitmproxy.tools.main import mitmdump; mitmdump()"

    def __init__(
        self,
        folder: Path,
        *modes: str,
        scripts: Sequence[Path] = (USAGE,),
        environment: dict[str, str] | None = None,
        arguments: Sequence[str] = (),
        prefix: Sequence[str] = (),
        **options: object,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.db = Path(str(options.get("usage_db") or folder / "usage.db"))
        self.lines: list[str] = []
        self.ports = free_ports(len(modes))
        self._listening: set[int] = set()  # mitmproxy says so in any order
        self._said = threading.Condition()
        settings: dict[str, object] = {"confdir": folder / "conf", "flow_detail": 0, "ssl_insecure": "true"}
        if USAGE in scripts:
            settings["usage_db"] = self.db
        command = [*prefix, sys.executable, "-c", self.program]
        for script in scripts:
            command += ["-s", str(script)]
        for mode, port in zip(modes, self.ports, strict=True):
            command += ["--mode", f"{mode}@127.0.0.1:{port}"]
        for name, value in (settings | options).items():
            for one in value if isinstance(value, list) else [value]:
                command += ["--set", f"{name}={one}"]
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | (environment or {}),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as said:
            for line in said:
                with self._said:
                    self.lines.append(line.rstrip("\n"))
                    if found := _LISTENING.search(line.strip()):
                        self._listening.add(int(found[1]))
                    self._said.notify_all()
        with self._said:
            self._said.notify_all()

    def wait_until_listening(self, timeout: float = 30) -> Mitmdump:
        """Every mode has its port; AssertionError with the log if the process ends first, or the addon did not load."""
        self._wait(lambda: self._listening.issuperset(self.ports), timeout, "a listening port")
        assert not any(line.startswith("Traceback") for line in self.lines), self.log
        return self

    def wait_for_line(self, pattern: str, timeout: float = 30) -> str:
        """The first line of the log that `pattern` is found in."""
        self._wait(lambda: any(re.search(pattern, line) for line in self.lines), timeout, f"the line {pattern!r}")
        return next(line for line in self.lines if re.search(pattern, line))

    def _wait(self, reached: Any, timeout: float, what: str) -> None:
        with self._said:
            self._said.wait_for(lambda: reached() or not self._reader.is_alive() or self._over(), timeout)
            assert reached(), f"waited in vain for {what}:\n{self.log[-4000:]}"

    def _over(self) -> bool:
        return self.process.poll() is not None and not self._reader.is_alive()

    @property
    def port(self) -> int:
        """The first mode's port."""
        return self.ports[0]

    @property
    def log(self) -> str:
        """All that it has printed."""
        return "\n".join(self.lines)

    @property
    def rss(self) -> int:
        """Resident memory in bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def cpu(self) -> float:
        """Seconds of CPU used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, how: signal.Signals = signal.SIGINT, timeout: float = 15) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(how)
        return self.wait(timeout)

    def wait(self, timeout: float = 60) -> int:
        """Wait until it ends by itself; the exit code."""
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        return code

    def close(self) -> None:
        """End it at once; what matters is on disk, or the test would have stopped it."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._reader.join(10)

    # -- rows

    def rows(self, where: str = "1", *values: object) -> list[dict[str, Any]]:
        """The rows as they are now."""
        return rows(self.db, where, *values)

    def row(self, tag: str, timeout: float = 20) -> dict[str, Any]:
        """The one row of the call with that tag, once it has ended."""
        found = self.ended(1, "tag = ?", tag, timeout=timeout)
        assert len(found) == 1, f"{len(found)} rows for {tag}"
        return found[0]

    def ended(self, count: int, where: str = "1", *values: object, timeout: float = 10) -> list[dict[str, Any]]:
        """`count` rows that have ended, waited for."""
        deadline = time.monotonic() + timeout
        while True:
            found = self.rows(where, *values)
            if len(found) >= count and all(row["status"] != "open" for row in found):
                return found
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"{len(found)} of {count} rows, {[row['status'] for row in found]}\n{self.log[-4000:]}"
                )
            time.sleep(0.02)  # the database has no event to wait for


def rows(db: Path, where: str = "1", *values: object) -> list[dict[str, Any]]:
    """Rows of table `usage`; none where there is no table yet."""
    if not db.exists():
        return []
    with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True, timeout=10)) as connection:
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute(f"SELECT * FROM usage WHERE {where} ORDER BY id", values)]
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise


@contextmanager
def running_mitmdump(folder: Path, *modes: str, **options: Any) -> Iterator[Mitmdump]:
    """A proxy that is up, and gone afterwards."""
    proxy = Mitmdump(folder, *modes, **options)
    try:
        yield proxy.wait_until_listening()
    finally:
        proxy.close()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on. (mitmproxy takes port 0, but only once.)"""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def errors_in(log: str) -> list[str]:
    """Lines that no run should have: tracebacks, crashes, entries into the tap's catch-all."""
    telling = r"Traceback|has crashed|Addon error|goes on unrecorded|stumbled|pricing .* failed|given up|LOST"
    return [line for line in log.splitlines() if re.search(telling, line)]
