"""What one run of a private proxy recorded, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from usagetap.headline import cost, ending, money, seconds, tokens
from usagetap.model import Record
from usagetap.report.table import Column, Table, terminal_width, wants_colour

COLUMNS = (
    Column("model", align="left"),
    Column("input", "in"),
    Column("cache read", "cached", rank=2),
    Column("output", "out"),
    Column("cost"),
    Column("time", rank=1),
    Column("how it ended", "end", align="left"),
)

ROWS_OF_NEWEST = """
    SELECT * FROM usage
    WHERE instance = (SELECT id FROM instance WHERE pid = ? ORDER BY started_at DESC LIMIT 1)
    ORDER BY started_at, id
"""


def summary(database: str, pid: int) -> str:
    """The table of the rows that the proxy with this process id wrote, or a sentence why there is none."""
    from usagetap.store.database import StoreError

    try:
        records = records_of(database, pid)
    except StoreError as error:
        return f"usagetap: {error}"
    if not records:
        return "usagetap: no model was called through the proxy."
    table = Table(COLUMNS, [row(record) for record in records], totals(records) if len(records) > 1 else None)
    lines, _ = table.render(terminal_width(), colour=wants_colour())
    return "\n".join(lines)


def records_of(database: str, pid: int) -> list[Record]:
    """The records of the newest instance with this process id, oldest first. Raises `StoreError`."""
    from usagetap.store.database import connect
    from usagetap.store.rows import from_row

    connection = connect(database, read_only=True)
    try:
        cursor = connection.execute_sql(ROWS_OF_NEWEST.replace("?", connection.param), (pid,))
        names = [column[0] for column in cursor.description]
        return [from_row(dict(zip(names, values, strict=True))) for values in cursor.fetchall()]
    finally:
        connection.close()


def row(record: Record) -> Sequence[str]:
    """One response, in the order of `COLUMNS`."""
    usage = record.usage
    return (
        record.response_model or record.request_model or "?",
        told(usage.input_tokens, record.estimated_input_tokens),
        tokens(usage.cache_read_input_tokens),
        told(
            usage.output_tokens, record.estimated_output_tokens, mark="≥" if record.usage_quality == "partial" else ""
        ),
        cost(record),
        seconds(record.duration),
        ending(record.status, record.end_reason),
    )


def told(count: int | None, estimate: int | None, *, mark: str = "") -> str:
    """The provider's number; our estimate, marked as one, only where there is none."""
    return tokens(count, mark=mark) if estimate is None or count is not None else tokens(estimate, mark="~")


def totals(records: Sequence[Record]) -> Sequence[str]:
    """The sums of what providers said; `≥` where one said nothing, and how many have no price.

    A response that was fetched again (`duplicate_of`) counts as one of them, but its usage counts once.
    """
    counted = [record for record in records if record.duplicate_of is None]
    usages = [record.usage for record in counted]
    priced = [record for record in counted if record.cost is not None]
    amounts = [sum_of(priced, currency) for currency in dict.fromkeys(record.currency for record in priced)]
    unpriced = sum(cost(record) == "unpriced" for record in counted)
    return (
        f"{len(records)} responses",
        total(usage.input_tokens for usage in usages),
        total(usage.cache_read_input_tokens for usage in usages),
        total(usage.output_tokens for usage in usages),
        " + ".join(amounts),
        "",
        f"{unpriced} unpriced" if unpriced else "",
    )


def sum_of(records: Sequence[Record], currency: str | None) -> str:
    """What the records in one currency cost together; `~` where one of them was estimated."""
    mine = [record for record in records if record.currency == currency]
    mark = "~" if any(record.cost_source == "estimated" for record in mine) else ""
    return mark + money(sum((record.cost or Decimal(0) for record in mine), Decimal(0)), currency)


def total(counts: Iterable[int | None]) -> str:
    """A sum in which an unknown number is not a zero but makes the sum a lower bound."""
    every = list(counts)
    known = [count for count in every if count is not None]
    return tokens(sum(known), mark="" if len(known) == len(every) else "≥") if known else tokens(None)
