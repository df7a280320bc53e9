"""`usagetap refusals`: who refuses `stream_options`, and forgetting it."""

from __future__ import annotations

from collections.abc import Sequence

from peewee import Database

from usagetap.report.table import Column, Table
from usagetap.store.database import transaction
from usagetap.store.queries import StoredRow


def render(found: Sequence[StoredRow], width: int, *, colour: bool) -> list[str]:
    """The refusals as a table, the latest first."""
    if not found:
        return ["Nobody has refused `stream_options`."]
    table = Table(
        [
            Column("host", align="left"),
            Column("model or version", "scope", align="left"),
            Column("refused (UTC)", "refused", align="left"),
            Column("tried again (UTC)", "again", align="left", rank=1),
            Column("in its own words", "reason", align="left"),
        ],
        [
            (row["host"], row["scope"] or "all", _day(row["refused_at"]), _day(row["expires_at"]), row["reason"] or "–")
            for row in found
        ],
    )
    return table.render(width, colour=colour)[0]


def _day(time: str | None) -> str:
    return "never" if time is None else time[:16].replace("T", " ")


def clear(db: Database, host: str | None) -> int:
    """Forget the refusals of a host (`host` or `host:port`), or all; returns how many."""
    with transaction(db):
        rows = db.execute_sql("SELECT id, host FROM refusals").fetchall()
        ids = [row_id for row_id, name in rows if host is None or host in (name, name.rpartition(":")[0])]
        for row_id in ids:
            db.execute_sql("DELETE FROM refusals WHERE id = ?".replace("?", db.param), (row_id,))
    return len(ids)
