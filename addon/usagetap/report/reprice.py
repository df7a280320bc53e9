"""`usagetap reprice`: cost of stored rows once more, from the stored counts. What it replaces is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from peewee import Database

from usagetap.headline import clean, money
from usagetap.model import Record
from usagetap.pricing import Price
from usagetap.store.database import execute_many, transaction
from usagetap.store.money import Costs, add_costs
from usagetap.store.queries import StoredRow, each_row
from usagetap.store.rows import from_row, now_iso

_BATCH = 500
_KEEP = (
    "INSERT INTO price_history"
    " (usage_id, replaced_at, cost, currency, cost_source, price_version, price_note)"
    " SELECT id, ?, cost, currency, cost_source, price_version, price_note"
    " FROM usage WHERE id = ? AND COALESCE(cost, '') = ?"
)
# guarded by the old cost: the proxy may have resolved a row with its provider meanwhile
_UPDATE = (
    "UPDATE usage SET cost = ?, currency = ?, cost_source = ?, price_version = ?, price_note = ?"
    " WHERE id = ? AND COALESCE(cost, '') = ?"
)


@dataclass(slots=True)
class Repriced:
    """What a reprice did."""

    seen: int = 0
    changed: int = 0
    own: int = 0
    """Rows that the user's price file priced, left alone as none was given."""
    unpriced: Counter[str] = field(default_factory=Counter)
    """Rows that have usage and still no price, by model."""
    before: Costs = field(default_factory=dict)
    after: Costs = field(default_factory=dict)
    """Cost of the changed rows by currency."""


def reprice(
    db: Database,
    price: Callable[[Record], Price | None],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    unpriced_only: bool = False,
    keep_own: bool = False,
    dry_run: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> Repriced:
    """Price every finished row in the range again with `price`; write what differs and keep what stood there before.

    A row whose cost the provider told is left alone, and so is one whose model the tables no longer know: a price that
    was once right stays. With `keep_own` (for who gives no price file) so is one that the user's own file priced.
    """
    result = Repriced()
    batch: list[tuple[StoredRow, Price]] = []
    for row in each_row(db, since=since, until=until):
        result.seen += 1
        if keep_own and _is_own(row):
            result.own += 1
        elif new := _reprice_row(row, price, unpriced_only, result):
            batch.append((row, new))
        if len(batch) >= _BATCH:
            _write(db, batch, dry_run)
            batch.clear()
        advance(1)
    _write(db, batch, dry_run)
    return result


def _is_own(row: StoredRow) -> bool:
    """Whether the user's own file priced it, as such or an estimate."""
    from_table = (row["price_version"] or "").startswith("genai-prices")
    return row["cost_source"] == "override" or (row["cost_source"] == "estimated" and not from_table)


def _reprice_row(
    row: StoredRow, price: Callable[[Record], Price | None], unpriced_only: bool, result: Repriced
) -> Price | None:
    if row["status"] == "open" or (unpriced_only and row["cost"] is not None):
        return None
    record = from_row(row)
    new = price(record)
    if new is None:
        return None
    if new.cost is None:
        if record.cost is None:
            result.unpriced[clean(record.request_model or record.response_model or "no model")] += 1
        return new if record.cost is None and new.price_note != record.price_note else None
    # a newer table that says the same is no change
    if (new.cost, new.currency, new.cost_source, new.price_note) == (
        record.cost,
        record.currency,
        record.cost_source,
        record.price_note,
    ):
        return None
    result.changed += 1
    if record.cost is not None:
        add_costs(result.before, {record.currency or "USD": record.cost})
    add_costs(result.after, {new.currency or "USD": new.cost})
    return new


def _write(db: Database, batch: list[tuple[StoredRow, Price]], dry_run: bool) -> None:
    if dry_run or not batch:
        return
    now = now_iso()
    updates: list[tuple[Any, ...]] = []
    kept: list[tuple[Any, ...]] = []
    for row, new in batch:
        guard = (row["id"], row["cost"] or "")
        kept.append((now, *guard))
        cost = None if new.cost is None else f"{new.cost:f}"
        updates.append((cost, new.currency, new.cost_source, new.price_version, new.price_note, *guard))
    with transaction(db):
        execute_many(db, _KEEP, [each for each, (_, new) in zip(kept, batch, strict=True) if new.cost is not None])
        execute_many(db, _UPDATE, updates)


def sentences(result: Repriced, *, dry_run: bool) -> list[str]:
    """What a reprice did, in words."""
    done = "would change" if dry_run else "changed"
    lines = [f"{result.seen:,} rows looked at, {result.changed:,} {done}."]
    if result.changed:
        lines.append(f"Their cost: {_amounts(result.before)} before, {_amounts(result.after)} now.")
    if result.own:
        lines.append(f"{result.own:,} stay as your own price file priced them: name it with --prices.")
    if result.unpriced:
        named = ", ".join(f"{model} ({count:,})" for model, count in result.unpriced.most_common(5))
        rest = len(result.unpriced) - 5
        lines.append(f"Still unpriced: {named}{f', {rest} more models' if rest > 0 else ''}.")
    return lines


def _amounts(sums: Costs) -> str:
    return " + ".join(money(amount, currency) for currency, amount in sorted(sums.items())) or "none"


def as_json(result: Repriced) -> dict[str, Any]:
    """The same as plain data; money as decimal text by currency."""
    return {
        "seen": result.seen,
        "changed": result.changed,
        "priced_by_own_file": result.own,
        "unpriced": dict(result.unpriced),
        "before": {currency: f"{amount:f}" for currency, amount in result.before.items()},
        "after": {currency: f"{amount:f}" for currency, amount in result.after.items()},
    }
