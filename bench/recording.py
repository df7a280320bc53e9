"""What recording costs: records through the `Writer`, and the same rows by bare sqlite3.

    python bench/recording.py [--records 20000]

Each record is put twice, open and ended, as the proxy does; ended ones have a price and some usage. "bare" makes the
rows beforehand and writes them with `executemany`, 250 to a transaction: no queue, no thread, no snapshots, no search
for duplicates. "no report indexes" shows what quick reports cost.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import time
from decimal import Decimal
from itertools import batched
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "addon"))

from usagetap.model import Record, Usage  # noqa: E402
from usagetap.store.database import connect  # noqa: E402
from usagetap.store.migrations import migrate  # noqa: E402
from usagetap.store.rows import to_row  # noqa: E402
from usagetap.store.schema import COLUMNS  # noqa: E402
from usagetap.store.writer import Writer  # noqa: E402

RAW = {"prompt_tokens": 5120, "completion_tokens": 1420, "total_tokens": 6540}


def records(count: int) -> list[tuple[Record, Record]]:
    pairs = []
    for number in range(count):
        common = {
            "uid": f"bench-{number}",
            "flow_id": f"{number:036d}",
            "started_at": 1.75e9 + number,
            "instance": "bench",
            "request_model": f"model-{number % 10}",
            "provider": "openai",
            "path": "/v1/chat/completions",
            "server_address": "api.openai.com:443",
            "client_address": "10.0.0.1",
            "tag": "project",
        }
        ended = Record(
            **common,
            status="ok",
            end_reason="complete",
            response_id=f"chatcmpl-{number}",
            usage=Usage(5120, 1420, 6540, 1000),
            usage_quality="exact",
            usage_raw=RAW,
            finish_reasons=["stop"],
            cost=Decimal("0.01234"),
            currency="USD",
            cost_source="price_table",
        )
        pairs.append((Record(**common), ended))
    return pairs


def through_writer(db: Path, pairs: list[tuple[Record, Record]]) -> tuple[float, float]:
    writer = Writer(str(db), instance="bench", finish=None, log=lambda _level, text: print(text), queue_limit=10**9)
    writer.start()
    writer.flush(10)
    started = time.perf_counter()
    for pair in pairs:
        for record in pair:
            writer.put(record)
    handed_over = time.perf_counter() - started
    writer.flush(600)
    seconds = time.perf_counter() - started
    writer.stop(10)
    return seconds, handed_over


def bare(db: Path, pairs: list[tuple[Record, Record]], *, report_indexes: bool) -> float:
    made = connect(db)
    migrate(made)
    if not report_indexes:
        for name in ("usage_report", "usage_plain", "usage_rest"):
            made.execute_sql(f"DROP INDEX {name}")
    made.close()
    rows = [tuple(map(to_row(record).get, COLUMNS)) for pair in pairs for record in pair]
    sql = (
        f"INSERT INTO usage ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608
        " ON CONFLICT (uid) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in COLUMNS)
    )
    raw = sqlite3.connect(db, isolation_level=None)
    raw.execute("PRAGMA synchronous = NORMAL")
    started = time.perf_counter()
    for some in batched(rows, 250):
        raw.execute("BEGIN IMMEDIATE")
        raw.executemany(sql, some)
        raw.execute("COMMIT")
    seconds = time.perf_counter() - started
    raw.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    options = parser.parse_args()
    pairs = records(options.records)
    puts = 2 * options.records
    with tempfile.TemporaryDirectory(prefix="usagetap-recording-") as folder:
        seconds, handed_over = through_writer(Path(folder) / "writer.db", pairs)
        with_indexes = bare(Path(folder) / "bare.db", pairs, report_indexes=True)
        without = bare(Path(folder) / "plain.db", pairs, report_indexes=False)
    print(f"Writer                    {puts / seconds:9,.0f} puts/s; put() itself {handed_over / puts * 1e6:.1f} µs")
    for what, other in (("bare sqlite3", with_indexes), ("bare, no report indexes", without)):
        print(f"{what:25} {puts / other:9,.0f} puts/s; the Writer takes {seconds / other:.1f} times as long")


if __name__ == "__main__":
    main()
