"""mitmproxy commands: `usage.summary`, `usage.show` and `usage.export`, for the console and mitmweb's command bar.

Commands run in the proxy's event loop, where nothing may wait: each asks the database on a thread of its own. What
takes longer than a blink is answered in the event log.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from pathlib import Path

import mitmproxy.types
from mitmproxy import command, exceptions, flow
from mitmproxy.log import ALERT
from peewee import Database

from usagetap.headline import clean, headline, tokens
from usagetap.mitm import recording
from usagetap.store.aggregate import Totals, aggregate
from usagetap.store.database import what_failed
from usagetap.store.queries import StoredRow, by_flow, each_row, open_reader
from usagetap.store.rows import from_row
from usagetap.web.view import costs, digits_of

log = logging.getLogger(__name__)

type Lines = list[list[str]]
type Export = Callable[[Path, str, Iterable[StoredRow]], None]

BLINK = 0.2
"""Seconds that a command may hold up the traffic for an answer on the spot."""
PERIODS = ("today", "week", "month", "all")
FORMATS = ("csv", "json", "ndjson", "parquet")
#: the report's columns by their short names: a data view is narrow
_HEADING = ["model", "reqs", "in", "out", "abort", "err", "unpr", "cost", "est."]


def _command[**P, R](name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """mitmproxy's decorator, with types."""
    typed: Callable[[Callable[P, R]], Callable[P, R]] = command.command(name)
    return typed


def _argument[**P, R](name: str, kind: object) -> Callable[[Callable[P, R]], Callable[P, R]]:
    typed: Callable[[Callable[P, R]], Callable[P, R]] = command.argument(name, kind)
    return typed


class Commands:
    """The commands. `export` writes rows to a file in one of `FORMATS`."""

    def __init__(self, export: Export) -> None:
        self._export = export

    @_command("usage.periods")
    def periods(self) -> Sequence[str]:
        """The periods that usage.summary knows."""
        return PERIODS

    @_command("usage.formats")
    def formats(self) -> Sequence[str]:
        """The formats that usage.export knows."""
        return FORMATS

    @_command("usage.summary")
    @_argument("period", mitmproxy.types.Choice("usage.periods"))
    def summary(self, period: str = "today") -> mitmproxy.types.Data:
        """What each model used and cost: today, in the last seven or thirty days, or ever."""
        return _answer(lambda db: _summary(db, period))  # type: ignore[return-value]

    @_command("usage.show")
    def show(self, flows: Sequence[flow.Flow]) -> mitmproxy.types.Data:
        """All that is recorded of these flows."""
        ids = [each.id for each in flows]
        return _answer(lambda db: [line for each in ids for line in _rows(db, each)] or [["nothing is recorded of it"]])  # type: ignore[return-value]

    @_command("usage.export")
    @_argument("kind", mitmproxy.types.Choice("usage.formats"))
    @_argument("path", mitmproxy.types.Path)
    def export(self, kind: str, path: str) -> str:
        """Write every row to a new file; the event log says when that is done."""
        target = Path(path).expanduser()
        if target.exists():
            raise exceptions.CommandError(f"{target} exists already: name another file")

        def write(db: Database) -> Lines:
            self._export(target, kind, each_row(db))
            return [[f"usage rows written to {target}"]]

        _ask(write).add_done_callback(_tell)
        return f"writing {target}"


def _answer(question: Callable[[Database], Lines]) -> Lines:
    """The answer, if it comes in a blink; else it is logged when it comes."""
    asked = _ask(question)
    try:
        return asked.result(BLINK)
    except TimeoutError:
        asked.add_done_callback(_tell)
        return [["this takes a moment: the answer will be in the event log"]]
    except Exception as error:
        raise exceptions.CommandError(what_failed(error)) from error


def _ask(question: Callable[[Database], Lines]) -> Future[Lines]:
    """Ask the database on a thread of its own, which does not keep the process alive."""
    future: Future[Lines] = Future()
    url = recording.current().settings.db

    def ask() -> None:
        try:
            db = open_reader(url)
            try:
                answer = question(db)
            finally:
                db.close()
        except BaseException as error:  # noqa: BLE001 - carried to whoever asked
            future.set_exception(error)
        else:
            future.set_result(answer)

    threading.Thread(target=ask, name="usage-command", daemon=True).start()
    return future


def _tell(asked: Future[Lines]) -> None:
    if error := asked.exception():
        log.error("usage: %s", what_failed(error))
        return
    for line in asked.result():
        log.log(ALERT, "%s", "  ".join(line))


def _summary(db: Database, period: str) -> Lines:
    midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    days = {"today": 0, "week": 6, "month": 29}.get(period)
    since = None if days is None else midnight - timedelta(days=days)
    lines = aggregate(db, by=("model",), since=since)
    if not lines:
        return [["nothing was recorded in this time"]]
    total = Totals()
    for line in lines:
        total.add(line)
    lines.sort(key=lambda line: -line.requests)
    digits = digits_of(lines)
    return [
        _HEADING,
        *(_cells(line.keys["model"] or "–", line, digits) for line in lines),
        *([_cells("total", total, digits)] if len(lines) > 1 else []),
    ]


def _cells(name: str, line: Totals, digits: Mapping[str, int]) -> list[str]:
    return [
        clean(name),
        f"{line.requests:,}",
        *("–" if count is None else tokens(count) for count in (line.input_tokens, line.output_tokens)),
        *(f"{count:,}" for count in (line.aborted, line.errors, line.unpriced)),
        costs(line.cost, digits=digits),
        costs(line.estimated_cost, "~", digits=digits),
    ]


def _rows(db: Database, flow_id: str) -> Lines:
    lines = []
    for row in by_flow(db, flow_id):
        lines.append(["response", headline(from_row(row))])
        lines += [[name, clean(value)] for name, value in row.items() if value is not None]
    return lines
