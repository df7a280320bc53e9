"""`usagetap trust`: mitmproxy's CA into the system's trust store, or out of it again.

What is to be done is data (a `Plan`), so that it can be shown before it is done and tested without being done.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import ssl
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import click

from usagetap.launch.bundle import CERTIFICATE, make_ca
from usagetap.launch.settings import confdir_of

ANCHOR_NAME = "usagetap-mitmproxy"


class Store(NamedTuple):
    """A Linux trust store: a folder for certificates and the command that takes notice of it."""

    folder: str
    refresh: str


#: which one a distribution has is told by the folder that is there (Debian and Alpine; Arch; Fedora and RHEL; openSUSE)
LINUX_STORES = (
    Store("/usr/local/share/ca-certificates", "update-ca-certificates"),
    Store("/etc/ca-certificates/trust-source/anchors", "update-ca-trust extract"),
    Store("/etc/pki/ca-trust/source/anchors", "update-ca-trust extract"),
    Store("/etc/pki/trust/anchors", "update-ca-certificates"),
)

#: after it, these read the system's store; the others read variables (see `usagetap env`)
LINUX_NOTES = (
    "curl, git, Go and the system's Python read this store; Node, Java, Firefox and Chrome, and Python programs that "
    "bring certifi (requests, httpx) do not: `usagetap env` and `usagetap exec` set their variables.",
)
PROGRAM_NOTES = ("Node, Firefox, and Python programs that bring certifi do not read this store: see `usagetap env`.",)


@dataclass(frozen=True)
class Plan:
    """Commands to run in order, as the administrator where `root`, and what they do not achieve."""

    store: str
    steps: list[list[str]]
    root: bool = True
    notes: tuple[str, ...] = field(default=())


@click.command("trust")
@click.option("-y", "--yes", is_flag=True, help="Do it, instead of only saying what would be done.")
@click.option("--remove", is_flag=True, help="Take the CA out again.")
@click.option("--confdir", type=click.Path(path_type=Path), help="mitmproxy's folder [~/.mitmproxy].")
def trust(yes: bool, remove: bool, confdir: Path | None) -> None:
    """Add mitmproxy's CA to the system's trust store: print what will be done, do it with --yes.

    Whoever has the CA's key (it never leaves mitmproxy's folder) can then read this machine's TLS traffic. For one
    shell or one command no trust store is needed: `usagetap env`, `usagetap exec`.
    """
    certificate = make_ca(confdir or confdir_of(()))
    plan = plan_for(sys.platform, certificate, remove=remove, exists=os.path.isdir)
    if plan is None:
        raise click.ClickException(
            f"no trust store that usagetap knows is on this system: add {certificate} by hand, or use `usagetap env`."
        )
    steps = [sudo(step) for step in plan.steps] if plan.root else plan.steps
    click.echo(f"{'Removes' if remove else 'Adds'} {certificate}\n{'from' if remove else 'to'} {plan.store}:\n")
    for step in steps:
        click.echo(f"    {shlex.join(step)}")
    click.echo()
    if not yes:
        click.echo("Nothing was done. To do it: usagetap trust" + (" --remove" if remove else "") + " --yes")
        return
    for step in steps:
        perform(step)
    click.echo("Done." + "".join(f"\n{note}" for note in plan.notes if not remove))


def plan_for(platform: str, certificate: Path, *, remove: bool, exists: Callable[[str], bool]) -> Plan | None:
    """What to do on `platform` (as in `sys.platform`); `exists` tells which folders are there. `None`: unknown."""
    if platform == "darwin":
        return macos_plan(certificate, remove=remove)
    if platform == "win32":
        add = ["certutil", "-user", "-addstore", "Root", str(certificate)]
        take = ["certutil", "-user", "-delstore", "Root", fingerprint(certificate)]
        return Plan("the current user's trusted roots", [take if remove else add], root=False, notes=PROGRAM_NOTES)
    store = next((store for store in LINUX_STORES if exists(store.folder)), None)
    if store is None:
        return None
    anchor = f"{store.folder}/{ANCHOR_NAME}.crt"
    refresh = store.refresh.split()
    if remove:
        steps = [["rm", "-f", anchor], refresh]
    else:
        steps = [["install", "-m", "0644", str(certificate), anchor], refresh]
    return Plan(f"the system's store ({store.folder})", steps, notes=LINUX_NOTES)


def macos_plan(certificate: Path, *, remove: bool) -> Plan:
    """macOS: the System keychain."""
    keychain = "/Library/Keychains/System.keychain"
    if remove:
        steps = [
            ["security", "remove-trusted-cert", "-d", str(certificate)],
            ["security", "delete-certificate", "-Z", fingerprint(certificate), keychain],
        ]
    else:
        steps = [["security", "add-trusted-cert", "-d", "-r", "trustRoot", "-k", keychain, str(certificate)]]
    return Plan(f"the System keychain ({keychain})", steps, notes=PROGRAM_NOTES)


def fingerprint(certificate: Path) -> str:
    """The SHA-1 of the certificate, by which macOS and Windows know it (an identifier here, not a safeguard)."""
    pem = CERTIFICATE.search(certificate.read_bytes())
    if pem is None:
        raise click.ClickException(f"{certificate} holds no certificate.")
    der = ssl.PEM_cert_to_DER_cert(pem.group().decode())
    return hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()


def sudo(step: list[str]) -> list[str]:
    """The step as the administrator; as it is where we are that already."""
    return step if hasattr(os, "geteuid") and os.geteuid() == 0 else ["sudo", *step]


def perform(step: list[str]) -> None:
    """Run one step; a failure is one sentence with what the command itself said."""
    try:
        done = subprocess.run(step, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, check=False)
    except FileNotFoundError as error:
        raise click.ClickException(f"{step[0]} is not installed.") from error
    if done.returncode:
        said = re.sub(r"\s+", " ", done.stderr).strip() or f"exit code {done.returncode}"
        raise click.ClickException(f"{shlex.join(step)} failed: {said}")
