"""Writing what a provider told after a row's end: the cost, and the counts that had never come."""

from __future__ import annotations

from peewee import Database

from usagetap.model import USAGE_FIELDS, Record

from .database import transaction
from .rows import now_iso, to_row

_KEEP = (
    "INSERT INTO price_history (usage_id, replaced_at, cost, currency, cost_source, price_version, price_note)"
    " SELECT id, ?, cost, currency, cost_source, price_version, price_note FROM usage"
    " WHERE uid = ? AND cost IS NOT NULL AND cost_source NOT IN ('provider', 'resolved')"
)
_COST = ("cost", "currency", "cost_source", "price_version", "price_note")
_UPDATE = (
    f"UPDATE usage SET {', '.join(f'{name} = ?' for name in _COST)}"
    " WHERE uid = ? AND status <> 'open' AND COALESCE(cost_source, '') <> 'provider'"
)
_COUNTS = (*USAGE_FIELDS, "usage_raw", "usage_quality")
_FILL = (
    f"UPDATE usage SET {', '.join(f'{name} = ?' for name in _COUNTS)}"
    " WHERE uid = ? AND status <> 'open' AND usage_raw IS NULL AND input_tokens IS NULL AND output_tokens IS NULL"
)


def write_resolved(db: Database, record: Record) -> None:
    """Put a resolved record's cost into its row; what stood there goes to `price_history`.

    Its counts go in only where the provider had given none: what it said once is never written again.
    """
    row = to_row(record)
    with transaction(db):
        db.execute_sql(_KEEP.replace("?", db.param), (now_iso(), record.uid))
        db.execute_sql(_UPDATE.replace("?", db.param), (*map(row.get, _COST), record.uid))
        if record.usage.known:
            db.execute_sql(_FILL.replace("?", db.param), (*map(row.get, _COUNTS), record.uid))
