"""The commands that work on files of saved flows: `usagetap replay` and `usagetap scrub`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from peewee import Database

    from usagetap.mitm.reading import Outcome, Unreadable

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("files", nargs=-1, required=True, type=_FILE, metavar="FILE...")
@click.option("--db", metavar="PATH|URL", help="Database. [default: $USAGETAP_DB, else ~/.mitmproxy/usage.db]")
@click.option("--prices", metavar="FILE", help="Your price file (the addon's option `usage_prices`).")
@click.option("--set", "specs", multiple=True, metavar="NAME=VALUE", help="Any other option of the addon.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def replay(files: tuple[Path, ...], db: str | None, prices: str | None, specs: tuple[str, ...], as_json: bool) -> None:
    """Read saved flows (`mitmdump -w`, mitmweb) or HAR files into the table.

    They go the way of live traffic. Reading a file again adds nothing, nor does one whose flows were recorded live.
    """
    from mitmproxy.exceptions import OptionsError

    url = db or _default_db()
    wanted = [*specs, *([f"usage_prices={prices}"] if prices else [])]
    with _opened(url) as database:
        try:
            outcome, damage = asyncio.run(_read(files, database, url, wanted))
        except OptionsError as error:
            raise click.ClickException(str(error)) from error
    click.echo(json.dumps(asdict(outcome), indent=2) if as_json else _sentence(outcome))
    if damage:
        raise click.ClickException("; ".join(str(each) for each in damage))


async def _read(
    files: Sequence[Path], database: Database, url: str, specs: Sequence[str]
) -> tuple[Outcome, list[Unreadable]]:
    from usagetap.mitm.reading import Reading, Unreadable, flows_in

    damage = []
    reading = Reading(database, url, specs)
    try:
        total = sum(path.stat().st_size for path in files)
        with click.progressbar(length=total, label="reading", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
            for path in files:
                try:
                    for flow in flows_in(path, bar.update):
                        await reading.take(flow)
                except Unreadable as error:
                    damage.append(error)
    finally:
        await reading.close()
    return reading.outcome, damage


def _default_db() -> str:
    from mitmproxy.options import Options

    from usagetap.mitm.options import database_of, declare

    options = Options()
    declare(options.add_option)
    return database_of(options)


@contextmanager
def _opened(url: str) -> Iterator[Database]:
    """The database with its tables; one sentence where that cannot be."""
    from peewee import DatabaseError

    from usagetap.store.database import StoreError, connect, what_failed
    from usagetap.store.migrations import migrate

    try:
        database = connect(url)
        migrate(database)
    except (StoreError, DatabaseError, OSError, ValueError) as error:
        raise click.ClickException(f"{url}: {what_failed(error)}") from error
    try:
        yield database
    finally:
        database.close()


def _sentence(outcome: Outcome) -> str:
    parts = [
        f"{_count(outcome.flows, 'flow')} read, {_count(outcome.rows, 'response')} added",
        f"{outcome.known:,} known already" if outcome.known else "",
        f"{outcome.without_body:,} without a body in the file (left out)" if outcome.without_body else "",
        f"{outcome.other:,} not to a model" if outcome.other else "",
    ]
    hint = "\nmitmproxy keeps the bodies of streams in a file where it records with --set store_streamed_bodies=true."
    return ", ".join(part for part in parts if part) + "." + (hint if outcome.without_body else "")


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


@click.command()
@click.argument("source", type=_FILE, metavar="IN")
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False), metavar="OUT")
@click.option("--force", is_flag=True, help="Replace OUT if there is one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def scrub(source: Path, target: Path, force: bool, as_json: bool) -> None:
    """Copy a flow file without its credentials, to show or to share.

    Keys, tokens, passwords and cookies in headers, queries and URLs become `scrubbed`, and so does every other place
    where one of them stands. Prompts and answers stay: look before you share.
    """
    from usagetap.mitm.reading import Unreadable
    from usagetap.mitm.scrubbing import Scrubber, copy

    if target.exists():
        if target.samefile(source):
            raise click.UsageError("OUT is IN: a flow file is never overwritten, name another")
        if not force:
            raise click.UsageError(f"{target} exists already: name another, or say --force")
    scrubber = Scrubber()
    draft = target.with_name(f".{target.name}.part")
    try:
        total = 2 * source.stat().st_size
        with (
            click.progressbar(length=total, label="scrubbing", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar,
            open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out,
        ):
            flows = copy(source, out, scrubber, bar.update)
        draft.replace(target)
    except OSError as error:
        raise click.ClickException(f"{target} cannot be written: {error.strerror or error}") from error
    except Unreadable as error:
        raise click.ClickException(f"{error}; nothing was written") from error
    finally:
        draft.unlink(missing_ok=True)
    if as_json:
        click.echo(json.dumps({"flows": flows, "scrubbed": scrubber.scrubbed, "opaque": scrubber.opaque}, indent=2))
        return
    click.echo(f"{_count(flows, 'flow')} copied to {target}, {_count(scrubber.scrubbed, 'place')} scrubbed.")
    if scrubber.opaque:
        click.echo(f"{_count(scrubber.opaque, 'body')} in a coding that cannot be read: copied as they are.", err=True)
