from __future__ import annotations

import asyncio
import csv
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import exceptions
from mitmproxy.addons.view import View
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.test import tflow

from usagetap.mitm import commands, recording
from usagetap.mitm.commands import Commands
from usagetap.mitm.tap import Tap
from usagetap.model import Record, Usage
from usagetap.report.export import write_to

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

Execute = Callable[[str], Any]


def written(path: Path, kind: str, rows: Any) -> None:
    write_to(path, kind, rows)


@contextmanager
def console(folder: Path, view: View | None = None) -> Iterator[Execute]:
    """A master with the addon and the commands; three responses of today and one of long ago."""
    loop = asyncio.new_event_loop()
    master = Master(Options(), event_loop=loop)
    master.options.set(f"usage_db={folder / 'usage.db'}", "usage_estimate=false", defer=True)
    master.addons.add(*([] if view is None else [view]), Tap(), Commands(written))
    master.options.set("usage_include=off")
    now = time.time()
    for number, (age, cost) in enumerate([(0, "0.5"), (0, "0.25"), (0, None), (400 * 86400, "9")]):
        recording.current().put(
            Record(
                uid=f"a-{number}",
                flow_id=f"flow-{number}",
                started_at=now - age,
                status="ok",
                usage_quality="exact",
                end_reason="complete",
                request_model="gpt" if cost else "\x1b[31mevil",
                usage=Usage(input_tokens=1000, output_tokens=10),
                cost=Decimal(cost) if cost else None,
                currency="USD",
                cost_source="provider" if cost else None,
            )
        )
    assert recording.current().writer.flush(30)
    try:
        yield master.commands.execute
    finally:
        recording.close()
        loop.run_until_complete(master.done())
        loop.close()


def test_a_summary_by_model(tmp_path: Path) -> None:
    with console(tmp_path) as execute:
        assert execute("usage.summary") == execute("usage.summary today")
        assert execute("usage.summary today") == [
            ["model", "reqs", "in", "out", "abort", "err", "unpr", "cost", "est."],
            ["gpt", "2", "2,000", "20", "0", "0", "0", "$0.7500", "–"],
            ["\ufffd[31mevil", "1", "1,000", "10", "0", "0", "1", "–", "–"],
            ["total", "3", "3,000", "30", "0", "0", "1", "$0.7500", "–"],
        ]
        assert execute("usage.summary all")[-1][:2] == ["total", "4"]


def test_periods_and_formats_are_completed_and_checked(tmp_path: Path) -> None:
    with console(tmp_path) as execute:
        assert execute("usage.periods") == commands.PERIODS
        assert execute("usage.formats") == commands.FORMATS
        with pytest.raises(exceptions.CommandError):
            execute("usage.summary yesteryear")
        with pytest.raises(exceptions.CommandError):
            execute(f"usage.export docx {tmp_path / 'x'}")


def test_a_flow_whole(tmp_path: Path) -> None:
    view = View()
    with console(tmp_path, view) as execute:
        flow = tflow.tflow()
        flow.id = "flow-0"
        view.add([flow])
        shown = execute("usage.show @all")
        assert shown[0] == ["response", "1,000→10 · $0.50 · gpt"]
        assert ["cost", "0.5"] in shown
        flow.id = "unknown"
        assert execute("usage.show @all") == [["nothing is recorded of it"]]


def test_an_export_says_when_it_is_done(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    target = tmp_path / "rows.csv"
    done = threading.Event()

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "usage rows written" in record.getMessage():
                done.set()

    heard = Heard()
    commands.log.addHandler(heard)
    commands.log.setLevel(logging.INFO)
    try:
        with console(tmp_path) as execute:
            assert str(target) in execute(f"usage.export csv {target}")
            assert done.wait(30)
            with pytest.raises(exceptions.CommandError, match="exists already"):
                execute(f"usage.export csv {target}")
    finally:
        commands.log.removeHandler(heard)
        commands.log.setLevel(logging.NOTSET)
    with target.open(newline="") as lines:
        assert len(list(csv.DictReader(lines))) == 4


def test_a_slow_answer_does_not_hold_up_the_traffic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, told = threading.Event(), threading.Event()
    monkeypatch.setattr(commands, "BLINK", 0.01)
    monkeypatch.setattr(commands, "_summary", lambda _db, _period: [["late"]] if go.wait(30) else [])
    monkeypatch.setattr(commands, "_tell", lambda asked: told.set() if asked.result() == [["late"]] else None)
    with console(tmp_path) as execute:
        assert "event log" in execute("usage.summary")[0][0]
        assert not told.is_set()
        go.set()
        assert told.wait(30)


def test_a_database_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with console(tmp_path) as execute:
        (tmp_path / "usage.db").rename(tmp_path / "away.db")
        with pytest.raises(exceptions.CommandError, match=r"no database at|no tables of this version"):
            execute("usage.summary")
