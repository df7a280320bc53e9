"""`usagetap exec -- COMMAND …`: one command through a proxy of its own, and what it used at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

import click

from usagetap.launch.bundle import make_ca, write_bundle
from usagetap.launch.environment import variables
from usagetap.launch.proxy import PrivateProxy, ProxyFailed, upstream_of
from usagetap.launch.settings import check_options, confdir_of, database
from usagetap.launch.summary import summary

#: signals that somebody may send to us and means for the command
FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")


@click.command("exec", context_settings={"ignore_unknown_options": True})
@click.option("-q", "--quiet", is_flag=True, help="No table at the end.")
@click.option("--db", metavar="PATH", envvar="USAGETAP_DB", help="Database path or URL [USAGETAP_DB].")
@click.option("--confdir", type=click.Path(path_type=Path), help="mitmproxy's folder [~/.mitmproxy].")
@click.option("--set", "settings", metavar="NAME=VALUE", multiple=True, help="An option of the addon or of mitmproxy.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def exec_(
    ctx: click.Context,
    quiet: bool,
    db: str | None,
    confdir: Path | None,
    settings: tuple[str, ...],
    command: tuple[str, ...],
) -> None:
    """Run COMMAND through a proxy of its own, then print what it used.

    The proxy listens on a free loopback port; COMMAND gets the proxy and certificate variables for Python, Node,
    curl, git and others. Its standard streams, signals and exit code are its own. The table goes to standard error.

    \b
    usagetap exec -- python my_agent.py
    usagetap exec -- curl https://…/v1/chat/completions …
    """
    try:
        code = run_through_proxy(command, quiet=quiet, db=db, confdir=confdir, settings=settings)
    except ProxyFailed as error:
        raise click.ClickException(str(error)) from error
    ctx.exit(code)


def run_through_proxy(
    command: Sequence[str], *, quiet: bool, db: str | None, confdir: Path | None, settings: Sequence[str]
) -> int:
    """Start a private proxy, run `command` in its environment, print the run's rows, return the exit code."""
    upstream = upstream_of(os.environ)
    options = list(settings)
    if db:
        options.append(f"usage_db={db}")
    if confdir:
        options.append(f"confdir={confdir}")
    proxy = PrivateProxy(options=options, upstream=upstream)
    check_options(proxy.arguments)
    ca = make_ca(confdir_of(proxy.arguments))  # on its first start, mitmproxy makes it after it listens
    with proxy:
        bundle = write_bundle(proxy.directory / "ca-bundle.pem", ca, os.environ)
        # behind another proxy, loopback cannot be reached through ours, which passes everything on
        extra = variables(proxy.url, bundle, os.environ, loopback_direct=upstream is not None)
        code = run_command(command, {**os.environ, **extra})
        if proxy.process.poll() is not None:
            click.echo(f"usagetap: the proxy ended before the command did:\n{proxy.log()}", err=True)
    if not quiet:
        click.echo(summary(database(proxy.arguments, os.environ), proxy.pid), err=True)
    return code


def run_command(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run `command` in the foreground and return its exit code, as a shell would say it: 126 and 127 if it
    cannot be started, 128 + n if signal n ended it."""
    children: list[subprocess.Popen[bytes]] = []
    restore = forward_signals(children)
    try:
        children.append(subprocess.Popen(command, env=environment))
        code = children[0].wait()
    except FileNotFoundError:
        click.echo(f"usagetap: {command[0]}: command not found", err=True)
        return 127
    except OSError as error:
        click.echo(f"usagetap: {command[0]}: {error.strerror}", err=True)
        return 126
    finally:
        restore()
    return 128 - code if code < 0 else code


def forward_signals(children: Sequence[subprocess.Popen[bytes]]) -> Callable[[], None]:
    """Pass signals on to the child; returns what puts the old dispositions back.

    Ctrl-C reaches the whole foreground group of a terminal: the child has it already and a second one would tell
    many programs to drop everything, so in the foreground SIGINT and SIGQUIT are not passed on.
    """

    def forward(number: int, _: FrameType | None) -> None:
        if number in (signal.SIGINT, getattr(signal, "SIGQUIT", None)) and in_foreground():
            return
        for child in children:
            child.send_signal(number)

    numbers = [getattr(signal, name) for name in FORWARDED if hasattr(signal, name)]
    before = {number: signal.signal(number, forward) for number in numbers}

    def restore() -> None:
        for number, disposition in before.items():
            signal.signal(number, disposition)

    return restore


def in_foreground() -> bool:
    """Whether we are in the foreground process group of a terminal."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):  # no terminal, closed stdin, Windows
        return False
