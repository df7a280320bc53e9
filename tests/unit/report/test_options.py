from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from zoneinfo import ZoneInfo

import click
import pytest

from usagetap.report.options import Range


@pytest.mark.parametrize("command", ["report", "waste", "tail", "show", "export", "reprice", "refusals"])
def test_without_a_database_it_says_what_to_do(run, tmp_path, command):
    arguments = {"show": ["show", "1"], "refusals": ["refusals", "list"]}.get(command, [command])
    shown = run(*arguments, "--db", str(tmp_path / "none.db"), code=1)
    assert "there is no database at" in shown
    assert "run the proxy first, or name another with --db" in shown
    assert not (tmp_path / "none.db").exists()


def test_a_file_that_is_no_database_is_left_alone(run, tmp_path):
    path = tmp_path / "letter.db"
    path.write_text("dear sir or madam, " * 100)
    assert "damaged" in run("report", "--db", str(path), code=1)
    assert path.read_text().startswith("dear sir")


def test_the_database_can_be_named_by_option_or_environment(run, db):
    assert run("report", "--db", str(db), env={"USAGETAP_DB": "/nowhere.db"}) == run("report")
    assert run("report", "--db", f"sqlite:///{db}") == run("report")


def test_a_file_is_read_without_a_driver_for_another_database(db):
    program = "import sys; from usagetap.cli import main; main(standalone_mode=False); print('psycopg' in sys.modules)"
    for arguments in (["report"], ["waste"], ["show", "last"]):
        found = subprocess.run(
            [sys.executable, "-c", program, *arguments, "--db", str(db)], capture_output=True, text=True, check=True
        )
        assert found.stdout.endswith("\nFalse\n")


def test_a_url_that_names_no_file_is_explained(run):
    assert "write sqlite:///relative.db or sqlite:////absolute.db" in run("report", "--db", "sqlite:x.db", code=1)


def test_a_range_is_in_the_zone_that_was_asked_for_and_has_its_last_day_whole():
    span = Range("2026-11-01", "2026-11-02", "Asia/Tokyo")
    tokyo = ZoneInfo("Asia/Tokyo")
    assert span.since == datetime(2026, 11, 1, tzinfo=tokyo)
    assert span.until == datetime(2026, 11, 3, tzinfo=tokyo)


def test_a_range_without_ends_has_none():
    assert (Range(None, None, "UTC").since, Range(None, None, "UTC").until) == (None, None)
    with pytest.raises(click.BadParameter, match="is not before"):
        Range("2026-11-02", "2026-11-01", "UTC")
