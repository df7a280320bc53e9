from __future__ import annotations

import time
from pathlib import Path

from usagetap.mitm.retention import DAY, Retention
from usagetap.model import Record
from usagetap.store.database import connect
from usagetap.store.prune import BATCH
from usagetap.store.queries import recent
from usagetap.store.writer import Writer


def test_what_is_too_old_goes_at_the_start_and_the_rest_stays(tmp_path: Path) -> None:
    writer = Writer(str(tmp_path / "usage.db"), instance="a", finish=None, log=lambda *_: None)
    writer.start()
    now = time.time()
    ages = [40.0] * (BATCH + 5) + [29.0, 0.0]
    for number, age in enumerate(ages):
        writer.put(Record(uid=f"a-{number}", flow_id="f", started_at=now - age * DAY, status="ok"))
    assert writer.flush(30)
    retention = Retention(writer.submit, 30.0)
    retention.start()
    db = connect(tmp_path / "usage.db")
    deadline = time.monotonic() + 30
    while len(recent(db, 10)) != 2 and time.monotonic() < deadline:
        assert writer.flush(30)
    assert {row["uid"] for row in recent(db, 10)} == {f"a-{BATCH + 5}", f"a-{BATCH + 6}"}
    retention.stop()
    assert writer.stop(30)
    db.close()


def test_no_days_means_never() -> None:
    submitted: list[object] = []
    retention = Retention(submitted.append, 0.0)
    retention.start()
    retention.stop()
    assert submitted == []


def test_any_number_of_days_will_do(tmp_path: Path) -> None:
    from usagetap.store.migrations import migrate

    db = connect(tmp_path / "usage.db")
    migrate(db)
    Retention(lambda _closure: None, 9e8)._delete(db)
    db.close()
