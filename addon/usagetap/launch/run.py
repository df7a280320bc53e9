"""`usagetap run`: mitmproxy with the addon, and three lines on how to point a program at it."""

from __future__ import annotations

import errno
import io
import logging
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from usagetap.launch.bundle import make_ca, upstream_roots
from usagetap.launch.hosts import allow_hosts
from usagetap.launch.proxy import STRIP_INJECTED, ProxyFailed, Tool, addon_script
from usagetap.launch.settings import check_options, confdir_of, setting, settings_in

DEFAULT_PORT = 8080


@click.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--web", "tool", flag_value="mitmweb", help="mitmweb: the flows and the dashboard in a browser.")
@click.option("--console", "tool", flag_value="mitmproxy", help="mitmproxy's console.")
@click.option("--dump", "tool", flag_value="mitmdump", default=True, help="mitmdump: one line a response [default].")
@click.option("--only-llm", is_flag=True, help="Decrypt TLS only of known model hosts and those in usage_hosts.")
@click.option("-p", "--port", type=click.IntRange(0, 65535), help="Port to listen on [8080].")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(tool: Tool, only_llm: bool, port: int | None, arguments: tuple[str, ...]) -> None:
    """Start mitmproxy with the addon. What follows `--` goes to mitmproxy as it stands.

    It listens on loopback only; `-- --listen-host 0.0.0.0` opens it to the network.

    \b
    usagetap run
    usagetap run --web --only-llm
    usagetap run -- --flow-detail 1     tells of every connection too
    usagetap run -- --mode reverse:https://api.openai.com --set usage_strip_frame=never
    """
    check_options(arguments)
    try:
        words = build_arguments(only_llm=only_llm, port=port, arguments=arguments)
    except ProxyFailed as error:
        raise click.ClickException(str(error)) from error
    if tool != "mitmproxy":  # the console owns the whole screen
        mode = setting("mode", arguments) or "regular"
        click.echo(directions(mode, setting("listen_port", arguments) or port or DEFAULT_PORT), err=True)
    if tool == "mitmweb":
        click.echo("dashboard:   /usage at mitmweb's address, which comes next", err=True)
    make_ca(confdir_of(arguments))  # mitmproxy makes it only after it listens; a program may come first
    start(tool, words)


def build_arguments(*, only_llm: bool, port: int | None, arguments: Sequence[str]) -> list[str]:
    """All that mitmproxy is told: ours first, so that the user's arguments have the last word."""
    words = ["-s", str(addon_script())]
    if setting("usage_strip_frame", arguments) is None:
        words += ["--set", STRIP_INJECTED]
    if setting("ssl_verify_upstream_trusted_ca", arguments) is None:
        words += [word for value in upstream_roots(os.environ) for word in ("--set", value)]
    if setting("listen_host", arguments) is None and serves_this_machine(arguments):
        words += ["--listen-host", "127.0.0.1"]  # nobody else on the network, unless asked for
    if port is not None:
        words += ["--listen-port", str(port)]
    if only_llm:
        words += ["--allow-hosts", allow_hosts(usage_hosts(arguments))]
    return [*words, *arguments]


def serves_this_machine(arguments: Sequence[str]) -> bool:
    """Whether programs on this machine are all that the mode is for; a gateway's modes must be reached from outside."""
    modes = [value for name, value in settings_in(arguments) if name == "mode"] or [setting("mode", arguments) or ""]
    kinds = {mode.partition(":")[0].partition("@")[0] for value in modes for mode in value.split(",") if mode}
    return kinds <= {"regular", "upstream", "reverse", "socks5"}


def usage_hosts(arguments: Sequence[str]) -> list[str]:
    """The entries of option `usage_hosts`, from the arguments or else config.yaml, as one list."""
    given = [value for key, value in settings_in(arguments) if key == "usage_hosts"]
    return " ".join(given or [setting("usage_hosts", arguments) or ""]).replace(",", " ").split()


def wants_detail(arguments: Sequence[str]) -> bool:
    """Whether mitmdump is to tell of every connection and request, as it does by itself."""
    return not {"-v", "--verbose"}.isdisjoint(arguments) or setting("flow_detail", arguments) is not None


def directions(mode: str, port: int | str) -> str:
    """Three lines: how to point a program at the proxy, and how to read the result."""
    us = own_command()
    result = f"the result:  {us} report"
    if mode.partition(":")[0] == "reverse":
        return f"a program:   base URL http://127.0.0.1:{port} instead of {mode.partition(':')[2]}\n{result}"
    if mode.partition(":")[0] not in ("regular", "upstream"):
        return result
    address = "" if int(port) == DEFAULT_PORT else f" --port {port}"
    return "\n".join(
        (
            f'a shell:     eval "$({us} env{address})", then start your program in it',
            f"by hand:     HTTPS_PROXY=http://127.0.0.1:{port}, with mitmproxy's CA trusted ({us} trust)",
            result,
        )
    )


def own_command() -> str:
    """How to call us from a shell: by name where the PATH finds this very installation, else by path."""
    beside_python = Path(sys.executable).parent / "usagetap"
    found = shutil.which("usagetap")
    if found is None or not beside_python.exists() or Path(found).resolve() != beside_python.resolve():
        return shlex.quote(str(beside_python)) if beside_python.exists() else "python -m usagetap"
    return "usagetap"


def port_is_taken(host: str, port: int) -> bool:
    """Whether another program listens there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(sys.platform != "win32"))
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def start(tool: Tool, arguments: list[str]) -> NoReturn:
    """Become mitmproxy, in this process: terminal, signals and exit code are its own."""
    host, port = setting("listen_host", arguments) or "", setting("listen_port", arguments) or str(DEFAULT_PORT)
    if "@" not in (setting("mode", arguments) or "") and port.isdecimal() and port_is_taken(host, int(port)):
        raise click.ClickException(
            f"port {port} is taken, by a proxy that runs already or another program: choose one with --port"
        )
    if tool == "mitmdump" and not wants_detail(arguments):
        arguments = ["--set", "flow_detail=0", *arguments]
        logging.getLogger("mitmproxy.proxy.server").setLevel(logging.WARNING)  # six lines for each response
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # into a pipe or a journal, its lines would come blocks later
    sys.argv = [tool, *arguments]  # it looks there too, and calls itself by that name
    from mitmproxy.tools import main

    sys.exit(getattr(main, tool)(arguments))
