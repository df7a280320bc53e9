"""`usagetap web`: the dashboard, without mitmweb."""

from __future__ import annotations

import asyncio
import webbrowser
from datetime import tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from usagetap.web.zone import machine_zone

DEFAULT_PORT = 8082


@click.command("web")
@click.option("--db", metavar="PATH", envvar="USAGETAP_DB", help="Database path or URL [~/.mitmproxy/usage.db].")
@click.option("-p", "--port", type=click.IntRange(0, 65535), help=f"Port on 127.0.0.1 [{DEFAULT_PORT}, else any].")
@click.option("--timezone", "zone_name", metavar="NAME", help="Days begin at this zone's midnight [the machine's].")
@click.option("--open", "open_browser", is_flag=True, help="Open it in the browser.")
def web(db: str | None, port: int | None, zone_name: str | None, open_browser: bool) -> None:
    """The dashboard, without mitmweb: read-only, on this machine only, under a token of its own.

    It shows what a proxy writes at the same moment, or what one has written. Ctrl-C ends it.
    """
    from peewee import DatabaseError

    from usagetap.store.database import StoreError, what_failed
    from usagetap.store.place import without_password
    from usagetap.store.queries import open_reader

    url = db or str(Path("~/.mitmproxy/usage.db").expanduser())
    zone = zone_of(zone_name)
    try:
        open_reader(url).close()
    except (StoreError, ValueError) as error:
        raise click.ClickException(str(error).replace(url, without_password(url))) from error
    except (DatabaseError, OSError) as error:
        raise click.ClickException(f"{without_password(url)}: {what_failed(error)}") from error
    try:
        asyncio.run(_serve(url, port, zone, open_browser))
    except KeyboardInterrupt:
        return
    except OSError as error:
        raise click.ClickException(
            f"port {port} cannot be used: {error.strerror}; choose another with --port"
        ) from error


async def _serve(url: str, port: int | None, zone: tzinfo, open_browser: bool) -> None:
    from usagetap.store.queries import open_reader

    from .app import serve
    from .board import Board
    from .site import Site

    site = Site(Board(lambda: open_reader(url), zone))
    try:
        _, address = serve(site, DEFAULT_PORT if port is None else port)
    except OSError:
        if port is not None:
            raise
        _, address = serve(site)
    click.echo(f"dashboard:   {address}")
    if open_browser:
        webbrowser.open(address)
    try:
        await asyncio.Event().wait()
    finally:
        site.close()


def zone_of(name: str | None) -> tzinfo:
    """The zone of that name; without one the machine's. Raises `click.BadParameter`."""
    if name is None:
        return machine_zone()
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise click.BadParameter(
            f"no time zone {name!r}; write one such as Europe/Berlin or UTC", param_hint="--timezone"
        ) from None
