"""Time the reports on a database of a million rows.

    python -m bench.million [--rows 1000000] [--db FILE] [--keep] [--cold] [--unsummed]

Rows are spread evenly over a year: 30 models, 20 clients, 8 keys, 6 tags, one in ten not `ok`. A proxy sums what is
over while it runs; so the database is summed first, but with --unsummed. Each figure is taken in a fresh process (no
caches of SQLite's or ours; the operating system's are warm, but with --cold).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "addon"))

from usagetap.store.database import connect  # noqa: E402
from usagetap.store.migrations import migrate  # noqa: E402
from usagetap.store.rows import to_iso  # noqa: E402
from usagetap.store.schema import COLUMNS  # noqa: E402
from usagetap.store.summing import catch_up  # noqa: E402

START = 1_735_689_600.0  # 2025-01-01
YEAR = 365 * 86_400
ENDS = (
    *([("ok", "complete", "exact")] * 90),
    *([("aborted", "client_disconnected", "missing")] * 4),
    *([("aborted", "client_disconnected", "partial")] * 2),
    *([("error", "http_error", "missing")] * 2),
    *([("error", "upstream_disconnected", "missing")] * 2),
)
RAW = json.dumps(
    {"prompt_tokens": 5120, "completion_tokens": 1420, "total_tokens": 6540} | {"details": {"a": 0, "b": 0}}
)


def _rows(count: int) -> Iterator[tuple[Any, ...]]:
    choose = random.Random(1)
    for number in range(count):
        started = START + YEAR * number / count
        status, end_reason, quality = choose.choice(ENDS)
        model = f"model-{choose.randrange(30)}-2025-01-01"
        row: dict[str, Any] = {
            "flow_id": f"{number:036d}",
            "turn": 0,
            "replay": 0,
            "instance": "bench",
            "started_at": to_iso(started),
            "ended_at": to_iso(started + 3),
            "time_to_first_chunk": choose.random(),
            "duration": 1 + 3 * choose.random(),
            "status": status,
            "end_reason": end_reason,
            "http_status": 200,
            "client_address": f"10.0.0.{choose.randrange(20)}",
            "client_agent": "OpenAI/Python 1.99.1",
            "key_fingerprint": f"{choose.randrange(8):016x}",
            "tag": f"project-{choose.randrange(6)}",
            "server_address": "api.openai.com:443",
            "path": "/v1/chat/completions",
            "provider": choose.choice(("openai", "anthropic", "gcp.gemini")),
            "dialect": "openai_chat",
            "operation": "chat",
            "transport": "sse",
            "stream": 1,
            "request_model": model,
            "response_model": model,
            "response_id": f"chatcmpl-{number:032d}",
            "finish_reasons": '["stop"]',
            **dict.fromkeys(("injected", "stripped", "retried", "truncated"), 0),
            "request_fingerprint": f"{choose.randrange(count):016x}",
            "usage_quality": quality,
            "chunks": 30,
            "frames": 30,
            "body_bytes": 9000,
            "uid": f"bench-{number}",
        }
        if quality != "missing":
            row |= {
                "input_tokens": choose.randrange(10_000),
                "output_tokens": choose.randrange(3_000),
                "cache_read_input_tokens": choose.randrange(1_000),
                "reasoning_output_tokens": choose.randrange(500),
                "usage_raw": RAW,
                "cost": f"0.{choose.randrange(10**8):08d}",
                "currency": "USD",
                "cost_source": "price_table",
                "price_version": "genai-prices 0.0.30",
            }
        yield tuple(map(row.get, COLUMNS))


def build(path: Path, count: int) -> None:
    db = connect(path)
    migrate(db)
    db.close()
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("PRAGMA synchronous = OFF")
    raw.execute("PRAGMA cache_size = -200000")
    raw.execute("BEGIN")
    marks = ", ".join("?" * len(COLUMNS))
    raw.executemany(f"INSERT INTO usage ({', '.join(COLUMNS)}) VALUES ({marks})", _rows(count))  # noqa: S608
    raw.execute("COMMIT")
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()


def add_up(path: Path) -> None:
    """Do what a proxy does in the background, all at once, and tell what it takes."""
    before, started = path.stat().st_size, time.process_time()
    db = connect(path)
    migrate(db)
    for _ in catch_up(db, datetime.now(UTC)):
        pass
    db.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    added = (path.stat().st_size - before) >> 20
    print(f"summed in {time.process_time() - started:.0f} s of CPU; {added} MiB more than {before >> 20} MiB")


def drop_caches() -> None:
    """Empty the operating system's caches: what is read next comes from the disk."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


# label -> what is called with `q` (store.queries), `db`, `since` (seven days before the last row)
CASES = {
    "total": "q.aggregate(db)",
    "total by model": "q.aggregate(db, by=('model',))",
    "monthly by model": "q.aggregate(db, by=('model',), period='month', timezone=zone)",
    "daily, the whole year": "q.aggregate(db, period='day', timezone=zone)",
    "daily by model, the whole year": "q.aggregate(db, by=('model',), period='day', timezone=zone)",
    "daily, last 7 days": "q.aggregate(db, period='day', timezone=zone, since=since)",
    "daily by model, tag, 7 days": "q.aggregate(db, by=('model', 'tag'), period='day', timezone=zone, since=since)",
    "monthly by tag, model": "q.aggregate(db, by=('tag', 'model'), period='month', timezone=zone)",
    "monthly by tag": "q.aggregate(db, by=('tag',), period='month', timezone=zone)",
    "total by key, client, status": "q.aggregate(db, by=('key', 'client', 'status'))",
    "recent 50": "q.recent(db)",
    "waste, last 7 days": "q.waste(db, since=since)",
    "waste, the whole year": "q.waste(db)",
    "each row (export)": "sum(1 for _ in q.each_row(db))",
    "view usage_daily": "db.execute_sql('SELECT * FROM usage_daily').fetchall()",
}


def one(path: Path, label: str) -> None:
    """Time one case in this process; prints seconds, rows in the answer and peak memory."""
    from datetime import UTC, datetime, timedelta
    from zoneinfo import ZoneInfo

    from usagetap.store import queries as q

    names = {"q": q, "zone": ZoneInfo("Europe/Berlin"), "since": datetime(2026, 1, 1, tzinfo=UTC) - timedelta(days=7)}
    started = time.perf_counter()
    names["db"] = q.open_reader(str(path))
    answer = eval(CASES[label], names)  # our own words, from the table above
    seconds = time.perf_counter() - started
    size = len(answer) if isinstance(answer, list) else answer
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{label:36} {seconds:7.3f} s  {size:8} lines  {peak:6.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--db", type=Path)
    parser.add_argument("--keep", action="store_true", help="do not remove the database")
    parser.add_argument("--cold", action="store_true", help="empty the operating system's caches first (as root)")
    parser.add_argument("--unsummed", action="store_true", help="as a file is that no proxy has summed yet")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        return one(options.db, options.case)
    path = options.db or Path(tempfile.mkdtemp(prefix="usagetap-")) / "million.db"
    if not path.exists():
        started = time.perf_counter()
        build(path, options.rows)
        print(f"{options.rows} rows, {path.stat().st_size >> 20} MiB, built in {time.perf_counter() - started:.0f} s")
        if not options.unsummed:
            add_up(path)
    for label in CASES:
        if options.cold:
            drop_caches()
        subprocess.run([sys.executable, __file__, "--db", path, "--case", label], check=True)
    if not options.keep:
        for beside in path.parent.glob(f"{path.name}*"):
            beside.unlink()
    return None


if __name__ == "__main__":
    main()
