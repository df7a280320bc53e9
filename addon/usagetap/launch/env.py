"""`usagetap env`: the shell lines that point programs at a running proxy."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

import click

from usagetap.launch.bundle import make_ca, write_bundle
from usagetap.launch.environment import variables
from usagetap.launch.settings import confdir_of

SHELLS = ("sh", "fish", "powershell")
BUNDLE_NAME = "usagetap-ca-bundle.pem"


@click.command("env")
@click.option("-p", "--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="The proxy's port.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The proxy's address.")
@click.option("--shell", type=click.Choice(SHELLS), help="Whose syntax [that of $SHELL].")
@click.option("--unset", is_flag=True, help="Lines that remove the variables again.")
@click.option("--confdir", type=click.Path(path_type=Path), help="mitmproxy's folder [~/.mitmproxy].")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of shell lines.")
def env(port: int, host: str, shell: str | None, unset: bool, confdir: Path | None, as_json: bool) -> None:
    """Print the proxy and certificate variables for a shell.

    \b
    eval "$(usagetap env)"                              sh, bash, zsh
    usagetap env | source                               fish
    usagetap env | Out-String | Invoke-Expression       PowerShell

    The certificates (the system's, and mitmproxy's CA, made on first use) are written into one file in mitmproxy's
    folder. Programs that run already are not touched; `usagetap env --unset` prints the way back.
    """
    folder = confdir or confdir_of(())
    named = variables(f"http://{host}:{port}", folder / BUNDLE_NAME, os.environ)
    if unset:
        exports: dict[str, str | None] = dict.fromkeys(named)
    else:
        write_bundle(folder / BUNDLE_NAME, make_ca(folder), os.environ)
        exports = dict(named)
    syntax = shell or guess_shell(os.environ)
    click.echo(json.dumps(exports, indent=2) if as_json else "\n".join(lines(exports, syntax)))


def guess_shell(environment: Mapping[str, str]) -> str:
    """The syntax to print where none was asked for."""
    name = Path(environment.get("SHELL", "")).name
    if name in ("fish", "pwsh"):
        return "fish" if name == "fish" else "powershell"
    return "powershell" if os.name == "nt" and not name else "sh"


def lines(exports: Mapping[str, str | None], shell: str) -> list[str]:
    """One line per variable in a shell's own syntax; `None` removes it."""
    return [line(name, value, shell) for name, value in exports.items()]


def line(name: str, value: str | None, shell: str) -> str:
    """The line that sets one variable, or removes it."""
    if shell == "fish":
        quoted = None if value is None else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
        return f"set -e {name}" if quoted is None else f"set -gx {name} {quoted}"
    if shell == "powershell":
        if value is None:
            return f"Remove-Item Env:{name} -ErrorAction SilentlyContinue"
        return f"$env:{name} = '" + value.replace("'", "''") + "'"
    return f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}"
