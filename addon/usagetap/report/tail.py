"""`usagetap tail`: responses as they end, a line each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, tzinfo

from peewee import Database

from usagetap.headline import clean, headline, seconds
from usagetap.report.table import cell_width, paint, shorten
from usagetap.store.queries import StoredRow, by_id, recent
from usagetap.store.rows import from_row

_EVERY = 0.5
_BATCH = 500
#: open rows that are watched; beyond it the oldest are given up
_WATCHED = 2_000
_STYLE = {"ok": "green", "aborted": "yellow", "error": "red", "open": "dim"}


def finished(db: Database, lines: int, *, follow: bool, sleep: Callable[[float], None]) -> Iterator[StoredRow]:
    """The last `lines` finished rows, then, with `follow`, every row when it ends, for ever."""
    newest = recent(db, 1)
    last = newest[0]["id"] if newest else 0
    rows = list(reversed(recent(db, max(lines, 1) * 2 + 50)))
    done = [row for row in rows if row["status"] != "open"]
    yield from done[max(len(done) - lines, 0) :]
    if not follow:
        return
    waiting = [row["id"] for row in rows if row["status"] == "open"]
    while True:
        sleep(_EVERY)
        fresh = recent(db, _BATCH, after_id=last)
        last = fresh[-1]["id"] if fresh else last
        still = []
        for row in (*(by_id(db, row_id) for row_id in waiting), *fresh):
            if row is not None and row["status"] == "open":
                still.append(row["id"])
            elif row is not None:
                yield row
        waiting = still[-_WATCHED:]


#: narrower terminals show what matters most
_ROOMY, _WIDE = 80, 100


def line(row: StoredRow, zone: tzinfo, width: int, *, colour: bool) -> str:
    """`21:20:59  ok       1,234→56 · $0.0012 · gpt-5-mini · 4.2 s · billing · flow 1b2c3d4e`."""
    record = from_row(row)
    ended = datetime.fromtimestamp(record.ended_at or record.started_at, zone)
    parts = [headline(record)]
    if width >= _ROOMY:
        parts += [seconds(record.duration), *([clean(record.tag)] if record.tag else [])]
    head = f"{ended:%H:%M:%S}  "
    # what `usagetap show` wants: it stays whole
    flow = f" · {'flow ' if width >= _WIDE else ''}{clean(record.flow_id[:8])}"
    text = shorten(" · ".join(parts), max(width - len(head) - 9 - cell_width(flow), 7))
    return f"{head}{paint(f'{record.status:<7}', _STYLE[record.status], colour=colour)}  {text}{flow}"
