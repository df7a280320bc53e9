"""The commands of `usagetap` that read the table (and two that change it): parse, call, print."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usagetap.report.options import Range, checked, db_option, opened, range_options, say, say_json
from usagetap.report.periods import zone_of
from usagetap.report.table import terminal_width, wants_colour

if TYPE_CHECKING:
    from peewee import Database

    from usagetap.pricing import PriceFile
    from usagetap.store.aggregate import Totals
    from usagetap.store.queries import StoredRow

#: what `--by` takes; the store knows a few more
DIMENSIONS = ("model", "provider", "dialect", "tag", "client", "key", "host", "status")


def _by(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
    for name in names:
        if name not in DIMENSIONS:
            raise click.BadParameter(f"cannot group by {name!r}; choose from {', '.join(DIMENSIONS)}")
    return names


@click.command()
@click.argument("period", type=click.Choice(["daily", "weekly", "monthly", "total"]), default="total")
@click.option("--by", callback=_by, metavar="A,B", help=f"Group by any of {', '.join(DIMENSIONS)}.")
@range_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@db_option
def report(
    period: str,
    by: tuple[str, ...] | None,
    since: str | None,
    until: str | None,
    timezone: str | None,
    as_json: bool,
    as_csv: bool,
    db: str,
) -> None:
    """Totals by day, week or month, and by whatever else you ask.

    \b
    usagetap report                              what each model used and cost, ever
    usagetap report daily --since 7d             the last seven days
    usagetap report monthly --by model,tag       who spent it on what
    usagetap report --by tag --since yesterday --until yesterday
    """
    from usagetap.report import summary
    from usagetap.store.aggregate import aggregate

    if as_json and as_csv:
        raise click.UsageError("choose one of --json and --csv")
    span = Range(since, until, timezone)
    groups = ("model",) if by is None and period == "total" else by or ()
    with opened(db) as database:
        ask = partial(aggregate, database, timezone=span.zone, since=span.since, until=span.until)
        lines = ask(by=groups, period=summary.VERBS[period][0])
        unpriced = _unpriced(groups, lines, ask)
    found = summary.Summary(period, groups, span.zone, span.since, span.until, lines, unpriced)
    if as_json:
        say_json(summary.as_json(found))
    elif as_csv:
        _say_csv(*summary.as_rows(found))
    else:
        say(summary.render(found, terminal_width(), colour=wants_colour()))


def _unpriced(by: tuple[str, ...], lines: Sequence[Totals], ask: Callable[..., list[Totals]]) -> dict[str, int]:
    """Responses without a price by model; asked for apart only where the report does not tell already."""
    if not any(line.unpriced for line in lines):
        return {}
    if "model" not in by:
        lines = ask(by=("model",))
    counts: dict[str, int] = {}
    for line in lines:
        if line.unpriced:
            name = line.keys["model"] or "no model named"
            counts[name] = counts.get(name, 0) + line.unpriced
    return counts


def _say_csv(heading: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    import csv

    from usagetap.report.export import safe

    lines = csv.writer(sys.stdout, lineterminator="\n")
    lines.writerow(heading)
    lines.writerows([safe(value) for value in row] for row in rows)


@click.command()
@click.argument("flow_id")
@click.option("--timezone", metavar="ZONE", help="Europe/Berlin, UTC, local. [default: local]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@db_option
def show(flow_id: str, timezone: str | None, as_json: bool, db: str) -> None:
    """Everything known about one flow.

    FLOW_ID is mitmproxy's flow id or its beginning, a row number, or `last`.
    """
    from usagetap.report import show as one
    from usagetap.report.export import plain

    zone = checked("--timezone", zone_of, timezone)
    with opened(db) as database:
        rows = find_rows(database, flow_id)
    if as_json:
        say_json([plain(row) for row in rows])
        return
    for number, row in enumerate(rows):
        say([*([""] if number else []), *one.render(row, zone, terminal_width(), colour=wants_colour())])


def find_rows(db: Database, wanted: str) -> list[StoredRow]:
    """The rows of a flow id (or a beginning that only one flow has), a row number, or `last`."""
    from usagetap.store.queries import by_flow, by_id, recent

    if wanted == "last":
        if rows := recent(db, 1):
            return rows
        raise click.ClickException("nothing was recorded yet")
    if wanted.isdecimal() and (row := by_id(db, int(wanted))):
        return [row]
    rows = by_flow(db, wanted) if wanted else []
    flows = list(dict.fromkeys(row["flow_id"] for row in rows))
    if len(flows) == 1:
        return rows
    if flows:
        some = ", ".join(flows[:3]) + (", …" if len(flows) > 3 else "")
        raise click.ClickException(f"{wanted!r} begins {len(flows)} flows ({some}): give more of the id")
    raise click.ClickException(f"no flow {wanted!r}: `usagetap tail` shows the beginning of each id")


@click.command()
@click.option("-n", "--lines", default=10, show_default=True, type=click.IntRange(0), help="Start with so many.")
@click.option("--no-follow", is_flag=True, help="Print these and stop.")
@click.option("--timezone", metavar="ZONE", help="Europe/Berlin, UTC, local. [default: local]")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line.")
@db_option
def tail(lines: int, no_follow: bool, timezone: str | None, as_json: bool, db: str) -> None:
    """Follow responses as they end (stop with Ctrl-C)."""
    from usagetap.report.export import dump, plain
    from usagetap.report.tail import finished, line

    zone = checked("--timezone", zone_of, timezone)
    with opened(db) as database:
        try:
            for row in finished(database, lines, follow=not no_follow, sleep=time.sleep):
                if as_json:
                    click.echo(dump(plain(row)).decode())
                else:
                    say([line(row, zone, terminal_width(), colour=wants_colour())])
        except KeyboardInterrupt:
            return


@click.command()
@range_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@db_option
def waste(since: str | None, until: str | None, timezone: str | None, as_json: bool, db: str) -> None:
    """What was paid for and not used: aborted, failed and repeated requests, and cache hits, by model."""
    from usagetap.report import waste as wasted
    from usagetap.store import queries

    span = Range(since, until, timezone)
    with opened(db) as database:
        found = queries.waste(database, since=span.since, until=span.until)
    if as_json:
        say_json(wasted.as_json(found))
    else:
        say(wasted.render(found, terminal_width(), colour=wants_colour()))


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@db_option
def reconcile(file: Path, as_json: bool, db: str) -> None:
    """Compare with a provider's own usage export, by day and model.

    FILE is OpenAI's usage or costs (JSON of the API, CSV of the dashboard), Anthropic's usage or cost report (JSON or
    CSV), or OpenRouter's activity (CSV or JSON). Days are UTC, as on the bills.
    """
    from usagetap.report import reconcile as compared
    from usagetap.report.invoices import InvoiceError, read_invoice
    from usagetap.report.progress import progress

    try:
        invoice = read_invoice(file)
    except InvoiceError as error:
        raise click.ClickException(str(error)) from error
    with opened(db) as database, progress("comparing", len(invoice.days)) as advance:
        pairs = compared.compare(database, invoice, advance)
    if as_json:
        say_json(compared.as_json(invoice, pairs))
    else:
        say(compared.render(invoice, pairs, terminal_width(), colour=wants_colour()))


@click.command()
@range_options
@click.option("--unpriced", is_flag=True, help="Only rows that have no price yet.")
@click.option("--prices", metavar="FILE", help="Your price file (the addon's option `usage_prices`).")
@click.option("--dry-run", is_flag=True, help="Say what would change, change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@db_option
def reprice(
    since: str | None,
    until: str | None,
    timezone: str | None,
    unpriced: bool,
    prices: str | None,
    dry_run: bool,
    as_json: bool,
    db: str,
) -> None:
    """Price rows again from their stored counts; what is replaced goes to table `price_history`."""
    from usagetap.pricing import price
    from usagetap.report import reprice as again
    from usagetap.report.progress import progress
    from usagetap.store.aggregate import aggregate

    span = Range(since, until, timezone)
    overrides = _read_prices(prices)
    with opened(db, write=not dry_run) as database:
        rows = sum(line.requests for line in aggregate(database, since=span.since, until=span.until))
        with progress("pricing", rows) as advance:
            result = again.reprice(
                database,
                lambda record: price(record, overrides=overrides),
                since=span.since,
                until=span.until,
                unpriced_only=unpriced,
                keep_own=overrides is None,
                dry_run=dry_run,
                advance=advance,
            )
    if as_json:
        say_json(again.as_json(result))
    else:
        say(again.sentences(result, dry_run=dry_run))


def _read_prices(path: str | None) -> PriceFile | None:
    from usagetap.pricing import PriceFileError, read_prices

    if not path:
        return None
    try:
        return read_prices(path)
    except PriceFileError as error:
        raise click.ClickException(str(error)) from error


#: a hundred years, in days
_OLDEST = 36_500


def _age(_context: click.Context, _option: click.Parameter, value: str) -> int:
    number, unit = value[:-1], value[-1:]
    factor = {"d": 1, "w": 7, "y": 365}.get(unit)
    if factor is None or not number.isdecimal() or not int(number):
        raise click.BadParameter(f"{value!r} is no age; write 90d, 12w or 2y")
    if len(number) > 5 or int(number) * factor > _OLDEST:
        raise click.BadParameter(f"{value!r} is longer ago than there can be rows")
    return int(number) * factor


@click.command()
@click.option("--older-than", callback=_age, required=True, metavar="AGE", help="90d, 12w, 2y.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--vacuum", is_flag=True, help="Give the freed space back to the disk (SQLite; stop the proxy first).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@db_option
def prune(older_than: int, yes: bool, vacuum: bool, as_json: bool, db: str) -> None:
    """Delete rows older than so many days, weeks or years."""
    from datetime import UTC, timedelta

    from usagetap.report.progress import progress
    from usagetap.store.prune import count_old, delete_before

    before = datetime.now(UTC) - timedelta(days=older_than)
    with opened(db, write=True) as database:
        count = count_old(database, before)
        if count and not yes:
            click.confirm(
                f"Delete {count:,} row{'' if count == 1 else 's'} from before {before:%Y-%m-%d %H:%M} UTC?",
                abort=True,
                err=True,
            )
        with progress("deleting", count) as advance:
            deleted = delete_before(database, before, advance) if count else 0
        if vacuum and db_is_sqlite(database):
            database.execute_sql("VACUUM")
    if as_json:
        say_json({"deleted": deleted})
    else:
        click.echo(f"{deleted:,} row{'' if deleted == 1 else 's'} deleted.")


def db_is_sqlite(db: Database) -> bool:
    """Whether it is SQLite; PostgreSQL gives space back by itself."""
    from peewee import SqliteDatabase

    return isinstance(db, SqliteDatabase)


@click.command()
@click.option(
    "--format", "kind", type=click.Choice(["csv", "json", "ndjson", "parquet"]), default="csv", show_default=True
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File. [default: stdout]")
@range_options
@db_option
def export(kind: str, output: Path | None, since: str | None, until: str | None, timezone: str | None, db: str) -> None:
    """Write every column of every row as CSV, JSON, NDJSON or Parquet."""
    from usagetap.report.export import ExportError, write_to
    from usagetap.report.progress import progress
    from usagetap.store.aggregate import aggregate
    from usagetap.store.queries import each_row

    span = Range(since, until, timezone)
    if output is None and kind == "parquet" and sys.stdout.isatty():
        raise click.UsageError("Parquet is no text for a terminal: give --output FILE")
    with opened(db) as database:
        total = sum(line.requests for line in aggregate(database, since=span.since, until=span.until))
        with progress("exporting", total) as advance:
            try:
                write_to(output, kind, each_row(database, since=span.since, until=span.until), advance)
            except ExportError as error:
                raise click.ClickException(str(error)) from error
    if output is not None:
        click.echo(f"{total:,} row{'' if total == 1 else 's'} written to {output}.", err=True)


@click.group()
def refusals() -> None:
    """Who refuses `stream_options`: hosts whose streams are left as they are."""


@refusals.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@db_option
def list_refusals(as_json: bool, db: str) -> None:
    """Show who has refused, when, and in what words."""
    from usagetap.report.refusals import render
    from usagetap.store import queries

    with opened(db) as database:
        found = queries.refusals(database)
    if as_json:
        say_json(found)
    else:
        say(render(found, terminal_width(), colour=wants_colour()))


@refusals.command("clear")
@click.argument("host", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@db_option
def clear_refusals(host: str | None, as_json: bool, db: str) -> None:
    """Forget refusals, of HOST or all, so that usage is asked for there again (by the next proxy that starts)."""
    from usagetap.report.refusals import clear

    with opened(db, write=True) as database:
        count = clear(database, host)
    if as_json:
        say_json({"forgotten": count})
    else:
        click.echo(f"{count} refusal{'' if count == 1 else 's'} forgotten.")
