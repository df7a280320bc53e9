from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from usagetap.model import Record
from usagetap.store import backing
from usagetap.store import writer as writing
from usagetap.store.database import connect
from usagetap.store.instance import new_id
from usagetap.store.queries import open_reader, recent, refusals
from usagetap.store.rows import from_row
from usagetap.store.upsert import write
from usagetap.store.writer import Writer

CHILD = """
import sys, time
from usagetap.model import Record
from usagetap.store import backing
from usagetap.store import writer as writing
from usagetap.store.writer import Writer
url, instance, count, forever = sys.argv[1], sys.argv[2], int(sys.argv[3]), len(sys.argv) > 4
writer = Writer(url, instance=instance, finish=None, log=lambda level, text: print(text, file=sys.stderr))
writer.start()
for number in range(count):
    record = Record(uid=f"{instance}-{number}", flow_id=instance, started_at=time.time(), instance=instance)
    writer.put(record)
    if number % 2:
        record.status, record.end_reason = "ok", "complete"
        writer.put(record)
assert writer.flush(30)
print("flushed", flush=True)
if forever:
    sys.stdin.read()
assert writer.stop(30)
"""


def _child(url: str, instance: str, count: int, *more: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", CHILD, url, instance, str(count), *more]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _rows(url: str, columns: str = "status, end_reason") -> list[tuple[Any, ...]]:
    db = open_reader(url)
    try:
        return list(db.execute_sql(f"SELECT {columns} FROM usage ORDER BY id").fetchall())
    finally:
        db.close()


def test_a_row_is_open_from_its_request_on_and_closed_once(url: str, start: Callable[..., Writer], record: Any) -> None:
    writer = start(url)
    mine = {"instance": writer.instance}
    writer.put(record(1, **mine))
    assert writer.flush(10)
    assert _rows(url) == [("open", None)]
    writer.put(record(1, "complete", **mine))
    writer.put(record(1, **mine))
    assert writer.flush(10)
    assert _rows(url) == [("ok", "complete")]


def test_a_record_of_no_instance_is_of_the_writers(url: str, start: Callable[..., Writer], record: Any) -> None:
    writer = start(url)
    writer.put(record(1, instance=""))
    assert writer.flush(10)
    assert _rows(url, "instance") == [(writer.instance,)]


def test_what_is_put_is_what_the_record_was_then(url: str, start: Callable[..., Writer], record: Any) -> None:
    writer = start(url, finish=lambda record: setattr(record, "tag", record.status))
    live = record(1, "complete", finish_reasons=["stop"])
    writer.put(live)
    live.request_model = "changed"
    live.usage.input_tokens = 99
    live.finish_reasons.append("length")
    assert writer.flush(10)
    assert _rows(url, "request_model, input_tokens, finish_reasons, tag") == [(None, 10, '["stop"]', "ok")]
    assert live.tag is None


def test_ended_records_are_priced_and_open_ones_are_not(
    url: str, start: Callable[..., Writer], record: Any, eventually: Any
) -> None:
    seen: set[tuple[str, str]] = set()  # on a slow disk a row may go into the journal too, and is priced again

    def price(record: Record) -> None:
        seen.add((record.uid, threading.current_thread().name))
        record.cost = Decimal("0.5")

    writer = start(url, finish=price)
    writer.put(record(1))
    writer.put(record(2, "complete"))
    assert writer.flush(10)
    assert seen == {("i-2", "usage-writer")}
    writer.put(record(3, "complete"), lambda own: seen.add((own.uid, "its own")))
    eventually(lambda: _rows(url, "cost") == [(None,), ("0.5",), ("0.5",)])
    assert seen >= {("i-3", "its own"), ("i-3", "usage-finisher")}
    assert not any(uid == "i-1" for uid, _ in seen)


def test_what_ends_is_told_once_it_is_on_disk_and_priced(url: str, start: Callable[..., Writer], record: Any) -> None:
    told: list[tuple[str, Decimal | None, int]] = []

    def price(record: Record) -> None:
        record.cost = Decimal("0.5")

    writer = start(
        url, finish=price, told=lambda some: told.extend((one.uid, one.cost, len(_rows(url))) for one in some)
    )
    assert writer.flush(10)
    writer.put(record(1))
    for number in (1, 2):
        writer.put(record(number, "complete"))
    assert writer.flush(10)
    writer.put(record(3, "complete"), lambda own: None)
    assert writer.stop(10)
    assert {(uid, cost) for uid, cost, _ in told} == {(f"i-{number}", Decimal("0.5")) for number in (1, 2, 3)}
    assert all(f"i-{rows}" >= uid for uid, _, rows in told)


def test_one_that_cannot_be_told_harms_nothing(url: str, start: Callable[..., Writer], record: Any, lines: Any) -> None:
    writer = start(url, told=lambda some: 1 / 0)
    writer.put(record(1, "complete"))
    assert writer.flush(10)
    writer.put(record(2, "complete"))
    assert writer.flush(10)
    assert len(_rows(url)) == 2
    assert lines.about("ZeroDivisionError")


def test_pricing_that_fails_costs_the_price_and_not_the_row(
    url: str, start: Callable[..., Writer], record: Any, lines: Any
) -> None:
    def price(_: Record) -> None:
        raise LookupError("no such model")

    writer = start(url, finish=price)
    writer.put(record(1, "complete"))
    assert writer.flush(10)
    assert _rows(url, "status, cost") == [("ok", None)]
    assert lines.about("no such model")


def test_slow_estimates_do_not_keep_rows_from_the_disk(
    url: str, start: Callable[..., Writer], record: Any, eventually: Any
) -> None:
    slow = threading.Event()

    def price(record: Record) -> None:
        record.cost = Decimal(1)

    def estimate(record: Record) -> None:
        if record.uid != "i-0":
            slow.wait(20)
        else:
            threading.Event().wait(0.05)  # more than this turn's share

    writer = start(url, finish=price)
    assert writer.flush(10)
    for number in range(10):
        writer.put(record(number, "complete"), estimate)
    eventually(lambda: len(_rows(url)) == 10)
    slow.set()
    eventually(lambda: _rows(url, "cost") == [("1",)] * 10)


def test_closures_and_refusals_are_done_in_order(url: str, start: Callable[..., Writer], record: Any) -> None:
    counts: list[int] = []
    writer = start(url)
    for host in ("a", "b"):
        writer.put_refusal(host, "m", refused_at=1.0, reason="no " * 1000, expires_at=2.0)
    writer.put(record(1))
    writer.submit(lambda db: counts.append(db.execute_sql("SELECT COUNT(*) FROM usage").fetchone()[0]))
    writer.forget_refusals("a")
    assert writer.flush(10)
    assert counts == [1]
    db = open_reader(url)
    (left,) = refusals(db)
    db.close()
    assert (left["host"], left["expires_at"], len(left["reason"])) == ("b", "1970-01-01T00:00:02.000Z", 500)
    writer.forget_refusals()
    assert writer.flush(10)


def test_a_closure_that_fails_is_told_and_harms_nothing(
    url: str, start: Callable[..., Writer], record: Any, lines: Any
) -> None:
    writer = start(url)
    writer.submit(lambda db: 1 / 0)
    writer.put(record(1))
    assert writer.flush(10)
    assert len(_rows(url)) == 1
    assert lines.about("ZeroDivisionError")


def test_stopping_writes_all_that_is_queued_and_signs_off(url: str, start: Callable[..., Writer], record: Any) -> None:
    writer = start(url)
    for number in range(2_000):
        writer.put(record(number, "complete"))
    assert writer.stop(30)
    assert len(_rows(url)) == 2_000
    db = open_reader(url)
    assert db.execute_sql("SELECT COUNT(*) FROM instance WHERE stopped_at IS NULL").fetchone() == (0,)
    db.close()


def test_stopping_says_when_it_did_not_get_done(tmp_path: Path, start: Callable[..., Writer], record: Any) -> None:
    gate = threading.Event()
    writer = start(tmp_path / "u.db", finish=lambda _: gate.wait(20))
    writer.put(record(1, "complete"))
    assert not writer.stop(0.05)
    gate.set()
    assert writer.stop(10)


def test_one_that_was_never_started_can_be_stopped(tmp_path: Path) -> None:
    assert Writer(str(tmp_path / "u.db"), instance="i", finish=None, log=lambda *_: None).stop(0)
    assert list(tmp_path.iterdir()) == []


def test_a_reload_in_one_process_loses_nothing_and_buries_nobody(
    url: str, start: Callable[..., Writer], record: Any
) -> None:
    old = start(url)
    old.put(record(1, instance=old.instance))
    old.put(record(2, instance=old.instance))
    assert old.flush(10)
    new = start(url)
    assert new.flush(10)
    assert _rows(url, "status") == [("open",), ("open",)]
    assert old.stop(10)
    new.put(record(1, "complete", instance=old.instance))  # the response came after the reload
    assert new.flush(10)
    assert _rows(url, "status")[0] == ("ok",)


def test_memory_is_bounded_while_the_writer_is_stuck_and_the_rest_is_journaled(
    url: str, tmp_path: Path, start: Callable[..., Writer], record: Any, eventually: Any
) -> None:
    gate, stuck = threading.Event(), threading.Event()

    def stall(_: Any) -> None:
        stuck.set()
        gate.wait(30)

    def price(record: Record) -> None:
        record.cost = Decimal(1)

    writer = start(url, queue_limit=100, finish=price)
    assert writer.flush(10)
    writer.submit(stall)
    assert stuck.wait(10)
    for number in range(1_000):
        writer.put(record(number, "complete"))
    eventually(writer.journals)
    eventually(lambda: writer.waiting < 100)
    gate.set()
    eventually(lambda: _rows(url, "cost") == [("1",)] * 1_000 and not writer.journals())
    assert writer.lost == 0


def test_what_is_stuck_in_the_database_is_in_the_journal_meanwhile_and_once_in_the_end(
    url: str,
    start: Callable[..., Writer],
    record: Any,
    eventually: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rows of the turn that is stuck, and those behind it: nothing but time passes."""
    gate = threading.Event()

    def stuck(*told: Any) -> None:
        gate.wait(30)
        write(*told)

    def price(record: Record) -> None:
        record.cost = Decimal(1)

    def journaled() -> str:
        return "".join(path.read_text() for path in writer.journals())

    monkeypatch.setattr(writing, "STUCK", 0.02)
    monkeypatch.setattr(writing, "STUCK_FAR", 0.02)
    told: list[str] = []
    writer = start(url, finish=price, told=lambda records: told.extend(record.uid for record in records))
    assert writer.flush(10)
    monkeypatch.setattr(backing, "write", stuck)
    writer.put(record(1))
    eventually(lambda: "i-1" in journaled())
    writer.put(record(1, "complete"))
    writer.put(record(2, "complete"))
    eventually(lambda: "complete" in journaled() and "i-2" in journaled())
    gate.set()
    assert writer.flush(10)
    eventually(lambda: not writer.journals())
    assert writer.flush(10)
    assert _rows(url, "status, end_reason, cost") == [("ok", "complete", "1")] * 2
    assert writer.lost == 0
    assert len(told) == len(set(told)) == 2


def test_several_processes_write_one_file_at_once(tmp_path: Path, start: Callable[..., Writer], record: Any) -> None:
    url = str(tmp_path / "usage.db")
    children = [_child(url, f"child{n}", 300) for n in range(2)]
    writer = start(url)
    for number in range(300):
        writer.put(record(number, "complete", instance=writer.instance))
    for child in children:
        child.communicate(timeout=60)
        assert child.returncode == 0
    assert writer.flush(30)
    assert writer.stop(30)
    again = start(url)  # reads in what lock contention may have left in journals
    _wait_for_journals(again)
    counts = dict(_rows(url, "instance, COUNT(*) OVER (PARTITION BY instance)"))
    assert counts == {"child0": 300, "child1": 300, writer.instance: 300}


def _wait_for_journals(writer: Writer) -> None:
    for _ in range(2_000):
        if writer.flush(10) and not writer.journals(of_all=True):
            return
    raise AssertionError("a journal was not read in")


def test_what_was_written_survives_kill_9_and_the_next_start_ends_what_was_open(
    url: str, tmp_path: Path, start: Callable[..., Writer], record: Any, eventually: Any
) -> None:
    sibling = start(url)
    sibling.put(record(1, uid="sibling", instance=sibling.instance))
    assert sibling.flush(10)
    name = new_id()
    child = _child(url, name, 20, "forever")
    assert child.stdout is not None
    assert child.stdout.readline() == b"flushed\n"
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    db = connect(url)
    if url.startswith("postgres"):  # its lock file lies elsewhere for the test's processes: only the heartbeat counts
        db.execute_sql("UPDATE instance SET heartbeat_at = '2000-01-01T00:00:00.000Z' WHERE id = %s", (name,))
    start(url)
    eventually(lambda: all(row["status"] != "open" for row in recent(db, 100) if row["instance"] == name))
    rows = [from_row(row) for row in recent(db, 100)]
    db.close()
    assert sorted(row.end_reason or "" for row in rows) == [""] + ["complete"] * 10 + ["proxy_died"] * 10
    assert [row.status for row in rows if row.uid == "sibling"] == ["open"]
