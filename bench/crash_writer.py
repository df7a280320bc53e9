"""Kill a writing process with `kill -9` at random instants and count what is left.

    python -m bench.crash --writer [--kills 200] [--seed N] [--grace 0.1]

Each round starts a process that puts records into a `Writer` as fast as a busy proxy would and notes each with its
time in a file, kills it after a random while (also while it makes the tables, reads a journal in, prices, checkpoints),
and lets the next start clean up. In one round out of three another process holds the database's lock for a while, so
that journals are in play. Then it checks: every row and every end that was put more than `--grace` seconds before the
kill is there; the database is sound; what was left open is `proxy_died`; nothing is there twice; and the rows that a
live sibling keeps open are untouched.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "addon"))

from usagetap.model import Record  # noqa: E402
from usagetap.store.database import connect  # noqa: E402
from usagetap.store.instance import dead_instances, new_id  # noqa: E402
from usagetap.store.place import place_of  # noqa: E402
from usagetap.store.writer import Writer  # noqa: E402

ROUNDS_PER_DATABASE = 25


def price(record: Record) -> None:
    time.sleep(0.000_2)  # a little slower than the real thing
    record.cost, record.currency, record.cost_source = Decimal("0.001"), "USD", "price_table"


def child(db: str, notes: str, seed: int) -> None:
    """Put records until killed. A line of notes is written after each put: time, what, uid."""
    choose = random.Random(seed)
    out = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    instance = new_id()
    writer = Writer(db, instance=instance, finish=price, log=lambda _level, _text: None)
    writer.start()
    writer.flush(10)  # a proxy is up some hundred milliseconds before its first request
    going: list[Record] = []
    number = 0
    while True:
        if len(going) < 40 or choose.random() < 0.5:
            number += 1
            record = Record(
                uid=f"{instance}-{number}", flow_id=f"{instance}-{number}", started_at=time.time(), instance=instance
            )
            record.request_model = f"model-{number % 5}"
            going.append(record)
            what = "open"
        else:
            record = going.pop(choose.randrange(len(going)))
            record.status, record.end_reason, record.usage_quality = "ok", "complete", "exact"
            record.ended_at, record.response_id = time.time(), record.uid
            record.usage.input_tokens, record.usage.output_tokens = 1000, number
            what = "ok"
        writer.put(record)
        os.write(out, f"{time.monotonic()} {what} {record.uid}\n".encode())
        if choose.random() < 0.5:
            time.sleep(choose.random() * 0.002)


def one_round(db: Path, choose: random.Random, grace: float, problems: Counter[str]) -> tuple[int, bool]:
    """One life and death; returns how many puts had to survive, and whether a journal was in play."""
    notes = db.with_name("notes")
    notes.unlink(missing_ok=True)
    process = subprocess.Popen([sys.executable, __file__, "--child", db, notes, str(choose.randrange(2**31))])
    deadline = time.monotonic() + 30
    while not notes.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    life = choose.random() ** 2 * 1.5
    if choose.random() < 1 / 3:
        time.sleep(life / 2)
        holder = sqlite3.connect(db, isolation_level=None, timeout=5)
        holder.execute("BEGIN IMMEDIATE")
        time.sleep(life / 2)
        killed = time.monotonic()
        process.send_signal(signal.SIGKILL)
        process.wait()
        holder.execute("COMMIT")
        holder.close()
    else:
        time.sleep(life)
        killed = time.monotonic()
        process.send_signal(signal.SIGKILL)
        process.wait()
    journaled = any(True for _ in place_of(str(db)).journals())
    clean_up(db, problems)
    return verify(db, notes, killed - grace, problems), journaled


def clean_up(db: Path, problems: Counter[str]) -> None:
    """What the next start does."""
    instance = new_id()
    writer = Writer(str(db), instance=instance, finish=price, log=lambda _level, _text: None)
    writer.start()
    reader = connect(db)
    deadline = time.monotonic() + 20
    while not writer.flush(20) or dead_instances(reader, place_of(str(db)), instance):
        time.sleep(0.01)
        if time.monotonic() > deadline:
            problems["not cleaned up"] += 1
            break
    reader.close()
    if not writer.stop(10):
        problems["did not stop"] += 1


def verify(db: Path, notes: Path, until: float, problems: Counter[str]) -> int:
    """Compare the notes with the rows."""
    raw = sqlite3.connect(db)
    if raw.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
        problems["database damaged"] += 1
    found = dict(raw.execute("SELECT uid, end_reason FROM usage"))
    problems["rows twice"] += raw.execute("SELECT COUNT(*) - COUNT(DISTINCT flow_id) FROM usage").fetchone()[0]
    problems["left open"] += raw.execute(
        "SELECT COUNT(*) FROM usage WHERE status = 'open' AND flow_id NOT LIKE 'sibling%'"
    ).fetchone()[0]
    problems["a sibling's row touched"] += raw.execute(
        "SELECT COUNT(*) FROM usage WHERE status <> 'open' AND flow_id LIKE 'sibling%'"
    ).fetchone()[0]
    raw.close()
    due = 0
    for line in notes.read_text().splitlines():
        at, what, uid = line.split()
        if float(at) >= until:
            break
        due += 1
        if uid not in found:
            problems[f"{what} lost"] += 1
        elif what == "ok" and found[uid] != "complete":
            problems["end lost"] += 1
    return due


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--grace", type=float, default=0.1, help="seconds that a record may take to be safe")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], options.child[1], int(options.child[2]))
    choose = random.Random(options.seed)
    problems: Counter[str] = Counter()
    due = journals = 0
    started = time.monotonic()
    for first in range(0, options.kills, ROUNDS_PER_DATABASE):
        with tempfile.TemporaryDirectory(prefix="usagetap-crash-") as folder:
            db = Path(folder) / "usage.db"
            instance = new_id()
            sibling = Writer(str(db), instance=instance, finish=None, log=lambda _level, _text: None)
            started_early = choose.random() < 0.5  # else the first child makes the tables, and may die at it
            if started_early:
                sibling.start()
            for number in range(first, min(first + ROUNDS_PER_DATABASE, options.kills)):
                mine = f"sibling-{number}"
                sibling.put(Record(uid=mine, flow_id=mine, started_at=time.time(), instance=instance))
                survived, journaled = one_round(db, choose, options.grace, problems)
                due += survived
                journals += journaled
            if not started_early:
                sibling.start()
            if not sibling.stop(10):
                problems["did not stop"] += 1
        so_far = min(first + ROUNDS_PER_DATABASE, options.kills)
        print(f"{so_far} kills, {due} puts due, {+problems or 'all there'}", flush=True)
    wrong = +problems
    print(
        f"{options.kills} kills in {time.monotonic() - started:.0f} s (seed {options.seed}):"
        f" {due} rows and ends were due, {journals} rounds left a journal;"
        f" {', '.join(f'{n} {what}' for what, n in wrong.items()) or 'none lost'}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
