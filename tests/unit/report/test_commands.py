from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import usagetap

ADDON = Path(usagetap.__file__).parents[1]

COMMANDS = ("report", "tail", "show", "waste", "reconcile", "reprice", "prune", "export", "refusals")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run, command):
    shown = run(command, "--help")
    assert shown.startswith(f"Usage: main {command} ")
    assert len(shown.splitlines()) > 5


@pytest.mark.parametrize("command", ["list", "clear"])
def test_the_commands_of_refusals_explain_themselves(run, command):
    assert "--db PATH|URL" in run("refusals", command, "--help")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("report", "hourly"), "'hourly' is not one of 'daily', 'weekly', 'monthly', 'total'"),
        (
            ("report", "--by", "colour"),
            "cannot group by 'colour'; choose from model, provider, dialect, tag, client, key",
        ),
        (("report", "--since", "soon"), "not a date or time: 'soon'; write 7d, 24h, 2w, today"),
        (("report", "--since", "2026-02-30"), "not a date or time: '2026-02-30'"),
        (("report", "--until", "never"), "not a date or time: 'never'"),
        (("report", "--since", "today", "--until", "yesterday"), "today is not before --until yesterday"),
        (("report", "--timezone", "Mars"), "unknown time zone 'Mars'"),
        (("report", "--json", "--csv"), "choose one of --json and --csv"),
        (("prune",), "Missing option '--older-than'"),
        (("prune", "--older-than", "0d"), "'0d' is no age; write 90d, 12w or 2y"),
        (("prune", "--older-than", "99999999y"), "'99999999y' is longer ago than there can be rows"),
        (("prune", "--older-than", "101y"), "'101y' is longer ago than there can be rows"),
        (("show", "last", "--timezone", "Mars"), "unknown time zone 'Mars'"),
        (("waste", "--since", "soon"), "not a date or time: 'soon'"),
        (("tail", "-n", "-1"), "-1 is not in the range"),
        (("export", "--format", "xls"), "'xls' is not one of 'csv', 'json', 'ndjson', 'parquet'"),
    ],
)
def test_a_wrong_argument_gets_one_line_and_exit_code_2(run, arguments, said):
    shown = run(*arguments, code=2)
    # click boxes its text: look at the words
    assert said in re.sub(r"\s+", " ", shown)


@pytest.fixture
def wrong(tmp_path):
    """Files that are not what a command expects."""
    (tmp_path / "text").write_text("hello\n")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 1000)
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("report", "--db", "{}/none.db"), "there is no database at {}/none.db: run the proxy first, or name another"),
        (("report", "--db", "{}/folder"), "{}/folder is a folder, not a database: name the file in it"),
        (("waste", "--db", "{}/binary"), "it is damaged (file is not a database)"),
        (("tail", "--no-follow", "--db", "{}/empty"), "has no tables of this version of usagetap yet"),
        (("show", "last", "--db", "sqlite:x"), "names no database file: write sqlite:///relative.db"),
        (("report", "--db", "postgresql://me:s3cr3t@127.0.0.1:1/x"), "postgresql://me:***@127.0.0.1:1/x: "),
        (("show", "nosuch"), "no flow 'nosuch': `usagetap tail` shows the beginning of each id"),
        (("export", "-o", "{}/nowhere/x.csv"), "cannot write {}/nowhere/x.csv: No such file or directory"),
        (("export", "-o", "{}/text/x.csv"), "cannot write {}/text/x.csv: Not a directory"),
        (("reconcile", "{}/none"), "cannot read {}/none: No such file or directory"),
        (("reconcile", "{}/folder"), "cannot read {}/folder: Is a directory"),
        (("reconcile", "{}/text"), "is no usage export that is known here"),
        (("reconcile", "{}/empty"), "is no usage export that is known here"),
        (("reconcile", "{}/binary"), "{}/binary is n"),
        (("reprice", "--prices", "{}/none"), "{}/none: cannot read the price file: No such file or directory"),
        (("reprice", "--prices", "{}/folder"), "{}/folder: cannot read the price file: Is a directory"),
        (("reprice", "--prices", "{}/binary"), "{}/binary: not YAML: "),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_exit_code_1(run, wrong, arguments, said):
    shown = run(*(argument.format(wrong) for argument in arguments), code=1)
    assert shown.startswith("Error: ")
    assert said.format(wrong) in shown
    assert len(shown.splitlines()) == 1
    assert "s3cr3t" not in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ("report",),
        ("report", "--by", "model,tag,key", "--csv"),
        ("tail", "-n", "500", "--no-follow"),
        ("waste",),
        ("show", "last"),
        ("export",),
        ("export", "--format", "ndjson"),
        ("export", "--format", "json"),
    ],
)
def test_a_pipe_that_closes_is_no_error(db, arguments):
    """`usagetap … | head -0`: nobody reads, and nobody hears of it."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "usagetap", *arguments, "--db", str(db)]
    environment = {**os.environ, "PYTHONPATH": str(ADDON)}
    environment.pop("PYTHONUNBUFFERED", None)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=environment, timeout=60, check=False)
    os.close(writer)
    assert done.stderr == b""


def test_refusals_are_listed_and_forgotten(run, db):
    import sqlite3

    assert "Nobody has refused" in run("refusals", "list")
    connection = sqlite3.connect(db)
    connection.execute(
        "INSERT INTO refusals (host, scope, refused_at, reason) VALUES"
        " ('api.mistral.ai:443', '', '2026-11-18T09:30:00.000Z', 'Extra inputs are not permitted \x1b[31m'),"
        " ('old.openai.azure.com:443', '2024-02-01', '2026-11-17T09:30:00.000Z', NULL)"
    )
    connection.commit()
    connection.close()
    shown = run("refusals", "list")
    assert "api.mistral.ai:443" in shown
    assert "2026-11-18 09:30" in shown
    assert "\x1b" not in shown
    assert len(json.loads(run("refusals", "list", "--json"))) == 2
    assert run("refusals", "clear", "api.mistral.ai") == "1 refusal forgotten.\n"
    assert run("refusals", "clear") == "1 refusal forgotten.\n"


def test_prune_asks_and_deletes_what_is_old(run, db):
    import sqlite3

    connection = sqlite3.connect(db)
    connection.execute("UPDATE usage SET started_at = '2020' || substr(started_at, 5) WHERE id < 4 OR status = 'open'")
    connection.commit()
    connection.close()
    assert "Delete 3 rows" in run("prune", "--older-than", "2y", code=1, input="n\n")
    assert run("prune", "--older-than", "100y", "--yes") == "0 rows deleted.\n"
    assert run("prune", "--older-than", "2y", "--yes", "--vacuum") == "3 rows deleted.\n"
    # the response that is still open stays, however old
    assert json.loads(run("report", "--json"))["total"]["requests"] == 6
