"""`usagetap doctor`: everything a working set-up needs, looked at one by one.

A check is a function that returns a `Finding`; it may look and try, and leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import click

from usagetap.launch.bundle import CERTIFICATE, ca_certificate, system_roots
from usagetap.launch.environment import CA_VARIABLES
from usagetap.launch.proxy import PrivateProxy, ProxyFailed
from usagetap.launch.settings import check_options, confdir_of, database, read_config, setting
from usagetap.store.place import is_postgres, sqlite_path, without_password

#: packages without which nothing works, and those that add something
REQUIRED = ("mitmproxy", "orjson", "peewee", "click", "rich", "platformdirs", "genai-prices")
OPTIONAL = {
    "bpe-openai": "offline token estimates (usagetap[estimate])",
    "plotly": "charts on the dashboard (usagetap[web])",
}


#: whether the user may write the table that is there, or make one
_MAY_WRITE = """SELECT CASE WHEN to_regclass('usage') IS NULL
  THEN COALESCE(has_schema_privilege(current_schema(), 'CREATE'), FALSE)
  ELSE has_table_privilege('usage', 'INSERT') AND has_table_privilege('usage', 'UPDATE') END"""


@dataclass(frozen=True)
class Finding:
    """What one check saw; `advice` says what to do about it."""

    check: str
    verdict: Literal["ok", "warning", "failed"]
    seen: str
    advice: str = ""


@click.command("doctor")
@click.option("-p", "--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="The proxy's port.")
@click.option("--db", metavar="PATH", envvar="USAGETAP_DB", help="Database path or URL [USAGETAP_DB].")
@click.option("--confdir", type=click.Path(path_type=Path), help="mitmproxy's folder [~/.mitmproxy].")
@click.option("--prices", metavar="FILE", help="Your price file, if config.yaml does not name it.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list of findings.")
@click.pass_context
def doctor(
    ctx: click.Context, port: int, db: str | None, confdir: Path | None, prices: str | None, as_json: bool
) -> None:
    """Check Python, packages, CA, port, options, prices, database, this shell's variables; and really start the addon.

    Exit code 1 if a check failed; a warning is something that works only in part, or not yet.
    """
    folder = confdir or confdir_of(())
    checks: list[Callable[[], Finding]] = [
        check_python,
        *(lambda name=name: check_package(name) for name in REQUIRED),
        *(lambda name=name: check_optional(name) for name in OPTIONAL),
        lambda: check_ca(folder),
        lambda: check_trust(folder),
        lambda: check_variables(folder, os.environ),
        lambda: check_port(port),
        lambda: check_settings(folder, prices),
        lambda: check_database(db or database((f"--set=confdir={folder}",), os.environ)),
        check_addon,
    ]
    findings = [check() for check in checks]
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            click.echo(f"{finding.verdict:<8} {finding.check:<{width}}  {finding.seen}")
            if finding.advice:
                click.echo(f"{'':<9}{'':<{width}}  {finding.advice}")
    ctx.exit(int(any(finding.verdict == "failed" for finding in findings)))


def check_python() -> Finding:
    """Which Python this is (an older one than 3.12 does not come this far)."""
    return Finding("Python", "ok", f"{sys.version.split()[0]} ({sys.executable})")


def check_package(name: str) -> Finding:
    """Installed; and mitmproxy of a version that the addon knows."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, "failed", "not installed", f"{sys.executable} -m pip install {name}")
    if name == "mitmproxy":
        major, minor = (int(part) for part in version.split(".")[:2])
        if (major, minor) < (12, 1):
            return Finding(name, "failed", version, "usagetap needs 12.1 or newer.")
        if major > 12:
            return Finding(name, "warning", version, "tested with 12 only.")
    return Finding(name, "ok", version)


def check_optional(name: str) -> Finding:
    """An extra: there, or what is missing without it."""
    try:
        return Finding(name, "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, "warning", "not installed", f"without it: no {OPTIONAL[name]}.")


def check_ca(confdir: Path) -> Finding:
    """mitmproxy's CA has been made."""
    certificate = ca_certificate(confdir)
    if certificate.is_file():
        return Finding("CA", "ok", str(certificate))
    return Finding("CA", "warning", f"not made yet ({confdir})", "the first start of the proxy makes it.")


def check_trust(confdir: Path) -> Finding:
    """The system's store holds the CA (variables do as well, for one shell: the next check)."""
    certificate = ca_certificate(confdir)
    mine = certificates(certificate)
    system = system_roots()
    if mine and mine <= certificates(system):
        return Finding("CA trusted", "ok", str(system))
    advice = "usagetap trust adds it for every program; usagetap env for one shell; usagetap exec needs neither."
    return Finding("CA trusted", "warning", f"not in the system's store ({system})", advice)


def check_variables(confdir: Path, environment: Mapping[str, str]) -> Finding:
    """Where this shell's variables send programs, and whether each named file holds the CA."""
    proxy = environment.get("HTTPS_PROXY") or environment.get("https_proxy")
    if not proxy:
        advice = 'eval "$(usagetap env)" points this shell at a running proxy.'
        return Finding("this shell", "warning", "HTTPS_PROXY is not set: its programs do not use the proxy", advice)
    address = urlsplit(proxy)
    mine = certificates(ca_certificate(confdir))
    without = [name for name in CA_VARIABLES if not mine or not mine <= certificates(Path(environment.get(name, "")))]
    seen = f"HTTPS_PROXY is {address.scheme}://{address.hostname}:{address.port}"
    if without:
        advice = f"do not hold mitmproxy's CA: {', '.join(without)}; set them with usagetap env."
        return Finding("this shell", "warning", seen, advice)
    return Finding("this shell", "ok", f"{seen}, and every certificate variable holds the CA")


def check_port(port: int) -> Finding:
    """Free to listen on, on loopback."""
    name = f"port {port}"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            advice = "a proxy that runs already, or another program: usagetap run --port N takes another."
            return Finding(name, "warning", f"not free: {error.strerror}", advice)
    return Finding(name, "ok", "free")


def check_settings(confdir: Path, prices: str | None = None) -> Finding:
    """The addon's options in mitmproxy's config.yaml are good, and so is the price file that is named."""
    arguments = [f"--set=confdir={confdir}", *([f"--set=usage_prices={prices}"] if prices else [])]
    named = sorted(name for name in read_config(arguments) if name.startswith("usage_"))
    try:
        check_options(arguments)
    except click.ClickException as error:
        return Finding("options", "failed", error.message, "" if prices else f"set in {confdir}/config.yaml.")
    file = prices or setting("usage_prices", arguments)
    seen = f"{', '.join(named)} in config.yaml" if named else "config.yaml sets none of the addon's"
    return Finding("options", "ok", f"{seen}; prices of {file} are good" if file else seen)


def check_database(database: str) -> Finding:
    """The file, or the folder where it will be, can be written; a server answers, and lets us write."""
    if is_postgres(database):
        return check_server(database)
    if "://" in database and not database.startswith("sqlite:"):
        return Finding("database", "failed", f"{without_password(database)} is no path, sqlite:///… or postgresql://…")
    try:
        path = sqlite_path(database)
    except ValueError as error:
        return Finding("database", "failed", str(error))
    if not path.exists():
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if os.access(folder, os.W_OK):
            return Finding("database", "ok", f"{path} (made on first use)")
        return Finding("database", "failed", f"{path} cannot be made: {folder} is not writable", "--set usage_db=…")
    try:
        connection = sqlite3.connect(path, timeout=2, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        finally:
            connection.close()
    except sqlite3.Error as error:
        return Finding("database", "failed", f"{path}: {error}", "--set usage_db=… or USAGETAP_DB names another.")
    return Finding("database", "ok", str(path))


def check_server(url: str) -> Finding:
    """PostgreSQL: it answers within seconds, and the rows can be written. Never shows the password."""
    from peewee import PeeweeException

    from usagetap.store.database import StoreError, connect, what_failed

    shown = without_password(url)
    try:
        connection = connect(url, read_only=True)
        try:
            found = connection.execute_sql(_MAY_WRITE).fetchone()
        finally:
            connection.close()
    except (PeeweeException, StoreError, ValueError, OSError) as error:
        reason = what_failed(error)
        for secret in filter(None, (urlsplit(url).password, unquote(urlsplit(url).password or ""))):
            reason = reason.replace(secret, "***")
        return Finding("database", "failed", f"{shown}: {reason}", "--set usage_db=… or USAGETAP_DB names another.")
    if found is None or not found[0]:
        advice = "GRANT it what it needs, or name another user."
        return Finding("database", "failed", f"{shown}: answers, but this user may not write there", advice)
    return Finding("database", "ok", f"{shown} answers")


def check_addon() -> Finding:
    """A real mitmdump starts with the addon, on a free port and with a database of its own, and stops."""
    with tempfile.TemporaryDirectory(prefix="usagetap-") as folder:
        options = [f"usage_db={folder}/usage.db", f"confdir={folder}"]
        try:
            with PrivateProxy(options=options) as proxy:
                complaints = proxy.log().strip()
        except ProxyFailed as error:
            return Finding("addon", "failed", str(error))
    if complaints:
        return Finding("addon", "warning", "starts, and says:", complaints)
    return Finding("addon", "ok", "starts under mitmdump")


def certificates(file: Path) -> set[bytes]:
    """The certificates in a PEM file; none where there is no such file."""
    return set(CERTIFICATE.findall(file.read_bytes().replace(b"\r\n", b"\n"))) if file.is_file() else set()
