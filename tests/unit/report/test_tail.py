from __future__ import annotations

import json
import sqlite3
from datetime import UTC

from usagetap.report.tail import finished, line
from usagetap.store.queries import by_id, open_reader


def test_the_last_ones_in_order_oldest_first(run):
    shown = run("tail", "--no-follow", "-n", "3", "--timezone", "UTC").splitlines()
    assert [text.split()[0] for text in shown] == ["09:30:08", "09:30:09", "09:30:11"]
    assert "?→? · gpt-5-mini-2025-08-07 · error: no_usage" in shown[0]
    assert shown[2].endswith("10→5 · 42.00 sats · local-sats · 2.5 s · billing · flow 0009aaaa")


def test_json_is_an_object_a_line(run):
    found = [json.loads(text) for text in run("tail", "--no-follow", "--json").splitlines()]
    assert [row["id"] for row in found] == [1, 2, 3, 4, 5, 6, 7, 9]


def test_no_lines_are_asked_for_and_none_come(run):
    assert run("tail", "--no-follow", "-n", "0") == ""


def test_what_ends_while_it_watches_is_told_once(db):
    writer = sqlite3.connect(db)
    later = iter(
        [
            "UPDATE usage SET status = 'ok', end_reason = 'complete' WHERE id = 8",
            "INSERT INTO usage (flow_id, turn, replay, instance, started_at, status, injected, stripped, retried,"
            " truncated, uid) SELECT 'late', 0, 0, 'x', started_at, 'open', 0, 0, 0, 0, 'late' FROM usage WHERE id = 1",
            "UPDATE usage SET status = 'aborted' WHERE flow_id = 'late'",
        ]
    )
    told = []

    def sleep(_seconds):
        statement = next(later, None)
        if statement is None:
            raise KeyboardInterrupt
        writer.execute(statement)
        writer.commit()

    reader = open_reader(db)
    try:
        told.extend(row["flow_id"] for row in finished(reader, 0, follow=True, sleep=sleep))
    except KeyboardInterrupt:
        told.append("stopped")
    finally:
        reader.close()
        writer.close()
    assert told == ["0008aaaa-flow", "late", "stopped"]


def test_a_line_fits_its_terminal_whatever_is_in_the_row(db):
    reader = open_reader(db)
    row = by_id(reader, 1)
    reader.close()
    row["tag"] = "\x1b]0;" + "x" * 500
    shown = line(row, UTC, 80, colour=False)
    assert len(shown) <= 80
    assert "\x1b" not in shown
