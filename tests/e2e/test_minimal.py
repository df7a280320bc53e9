"""The addon beside mitmproxy, orjson and peewee alone.

A folder of links to these packages and to what they need stands in for an environment of their own.
"""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from tests.client import CHAT, STREAM, Http1
from tests.proxy import USAGE, Mitmdump, errors_in, free_ports, rows

from usagetap.upstream.server import Upstream, running_upstream

NEEDED = ("mitmproxy", "orjson", "peewee")


def closure(*names: str) -> set[str]:
    """The distributions that these need, themselves included; extras are not followed."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:
            continue  # for another platform or Python
        found.add(name)
        waiting += [re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in requires if "extra ==" not in each]
    return found


def environment(folder: Path, *names: str) -> Path:
    """A folder for `sys.path` with these packages and what they need."""
    folder.mkdir()
    for name in closure(*names):
        one = distribution(name)
        tops = {file.parts[0] for file in one.files or () if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(one.locate_file(top))).resolve())
    return folder


def command(packages: Path, tool: str) -> list[str]:
    """`mitmdump` and its siblings, from another folder than ours, with nothing but `packages` to import from."""
    start = f"import os, sys; os.chdir('/'); sys.path.append({str(packages)!r})"
    return [sys.executable, "-u", "-I", "-S", "-c", f"{start}; from mitmproxy.tools.main import {tool}; {tool}()"]


def started(packages: Path, tool: str, folder: Path, *modes: str, **options: object) -> Mitmdump:
    """The tool as `tests.proxy` starts mitmdump."""

    class Minimal(Mitmdump):
        program = f"import os, sys; os.execv(sys.executable, {command(packages, tool)!r} + sys.argv[1:])"

    return Minimal(folder, *modes, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("minimal") / "packages", *NEEDED)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running_upstream() as running:
        yield running


def call(port: int) -> bytes:
    with Http1(port).post(STREAM, CHAT, x_usage_tag="minimal") as client:
        return client.read().body


def test_the_environment_has_no_more_than_it_says(packages: Path) -> None:
    code = "import sys; sys.path.append(sys.argv[1]); import mitmproxy, orjson, peewee\n"
    code += "import importlib.util as util\n"
    code += (
        "print([n for n in ('genai_prices', 'rich', 'platformdirs', 'bpe_openai', 'usagetap') if util.find_spec(n)])"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(packages)], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[]\n"


@pytest.mark.parametrize("tool", ["mitmdump", "mitmweb"])
def test_rows_are_written_and_what_is_missing_is_said_once(
    tool: str, packages: Path, upstream: Upstream, tmp_path: Path
) -> None:
    options = {"web_open_browser": "false", "web_port": free_ports(1)[0]} if tool == "mitmweb" else {}
    with closing(started(packages, tool, tmp_path, f"reverse:{upstream.url}", **options)) as proxy:
        proxy.wait_until_listening()
        assert b"[DONE]" in call(proxy.port)
        row = proxy.row("minimal")
        with Http1(proxy.port).post(STREAM, CHAT, x_upstream="die=3") as client:
            client.read()
        proxy.ended(2)
        assert proxy.stop() == 0
        broken = proxy.rows("end_reason = 'upstream_disconnected'")
    assert (row["status"], row["injected"], row["usage_quality"]) == ("ok", 1, "exact")
    assert row["input_tokens"] > 0
    assert (row["cost"], row["price_note"]) == (None, "no price table: genai-prices is not installed")
    assert [(each["usage_quality"], each["estimated_output_tokens"]) for each in broken] == [("missing", None)]
    said = [line for line in proxy.lines if "without genai-prices" in line]
    assert len(said) == 1
    assert f"`{sys.executable} -m pip install genai-prices bpe-openai`" in said[0]
    assert errors_in(proxy.log) == []


def test_the_console_records_too(packages: Path, upstream: Upstream, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (30, 120))
    arguments = ["-s", USAGE, "--mode", f"reverse:{upstream.url}@127.0.0.1:{port}", "--set", f"confdir={tmp_path}"]
    process = subprocess.Popen(
        [*command(packages, "mitmproxy"), *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(theirs)
    drain = threading.Thread(target=discard, args=(ours,), daemon=True)  # a full terminal would stop the console
    drain.start()
    try:
        wait_for_port(port, process)
        assert b"[DONE]" in call(port)
        deadline = time.monotonic() + 20
        while not rows(tmp_path / "usage.db", "status = 'ok'") and time.monotonic() < deadline:
            time.sleep(0.05)  # the database has no event to wait for
        (row,) = rows(tmp_path / "usage.db")
        assert (row["status"], row["injected"]) == ("ok", 1)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        drain.join(20)
        os.close(ours)


def discard(terminal: int) -> None:
    with suppress(OSError):  # what reading says when the other side is closed
        while os.read(terminal, 1 << 16):
            pass


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)  # the console says nothing that could be waited for
        else:
            return
    raise AssertionError(f"nobody listens on {port}; the exit code is {process.poll()}")


@pytest.mark.parametrize("missing", ["orjson", "peewee"])
def test_what_cannot_be_done_without_is_one_line(missing: str, tmp_path: Path) -> None:
    rest = environment(tmp_path / "packages", *(name for name in NEEDED if name != missing))
    with closing(started(rest, "mitmdump", tmp_path / "proxy", "regular")) as proxy:
        assert proxy.wait() == 1
    wanted = (
        f"the Python package {missing} is not installed: run `{sys.executable} -m pip install mitmproxy orjson peewee`"
    )
    assert len([line for line in proxy.lines if wanted in line]) == 1
    assert "Traceback" not in proxy.log
