"""What somebody stumbles over in the first hour: a slip in a command is answered by one sentence and the right exit
code before anything starts, passwords stay out of it, nothing listens to the network unasked, tables fit."""

import socket
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner

from usagetap.cli import main
from usagetap.launch import run as launch_run
from usagetap.launch.run import build_arguments
from usagetap.report.table import Column, Table, cell_width
from usagetap.store.database import connect
from usagetap.store.migrations import migrate
from usagetap.store.place import without_password


@pytest.fixture(autouse=True)
def first_day(monkeypatch, tmp_path):
    """Nobody's settings."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("USAGETAP_DB", raising=False)
    monkeypatch.setattr(launch_run, "start", lambda *told: pytest.fail(f"started: {told}"))


def said(*words, code):
    done = CliRunner().invoke(main, words)
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done.output.splitlines()[-1]


@pytest.mark.parametrize("command", [("run", "--"), ("exec",)])
@pytest.mark.parametrize(
    ("option", "code", "sentence"),
    [
        ("usage_include=maybe", 2, "usage_include is 'maybe', but must be one of: force, merge, off"),
        ("usage_includ=off", 2, "there is no option usage_includ; did you mean usage_include?"),
        (
            "usage_frame_limit=12",
            2,
            "usage_frame_limit is '12', but must be a size from 1024 to 1g, such as 64k or 16m",
        ),
        ("usage_estimate=perhaps", 2, "usage_estimate"),
        ("usage_prices=/no/such.yaml", 2, "usage_prices names '/no/such.yaml', but there is no such file"),
    ],
)
def test_a_bad_option_is_refused_before_the_proxy_starts(command, option, code, sentence):
    tail = ["--", "true"] if command == ("exec",) else []
    assert sentence in said(*command, "--set", option, *tail, code=code)


def test_a_bad_price_file_names_its_line(tmp_path):
    (tmp_path / "prices.yaml").write_text("prices:\n  - model: x\n    input: cheap\n")
    line = said("exec", "--set", f"usage_prices={tmp_path}/prices.yaml", "--", "true", code=1)
    assert "prices.yaml:3: entry 1: `input` must be a number" in line


def test_a_misspelt_option_in_mitmproxys_own_file_is_named_too(tmp_path):
    (tmp_path / ".mitmproxy").mkdir()
    (tmp_path / ".mitmproxy" / "config.yaml").write_text("usage_retenton: 3\n")
    assert "did you mean usage_retention?" in said("run", code=2)


def test_the_pages_own_option_is_an_option(monkeypatch):
    started = []
    monkeypatch.setattr(launch_run, "start", lambda *told: started.append(told))
    CliRunner().invoke(main, ["run", "--", "--set", "usage_page_host=", "--set", "usage_page_host=u.local"])
    assert started


@pytest.mark.parametrize("command", [("run", "-p"), ("upstream", "-p")])
def test_a_port_that_is_taken(monkeypatch, command):
    monkeypatch.undo()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = said(*command, port, code=1)
    assert f"port {port} is taken" in line
    assert "--port" in line


def test_a_database_that_is_not_there_is_named_once(tmp_path):
    line = said("report", "--db", str(tmp_path / "none.db"), code=1)
    assert line == f"Error: there is no database at {tmp_path}/none.db: run the proxy first, or name another with --db"


def test_the_dashboard_over_a_file_that_is_no_database(tmp_path):
    (tmp_path / "letter.db").write_text("dear sir or madam, " * 100)
    assert "letter.db: it is damaged" in said("web", "--db", str(tmp_path / "letter.db"), code=1)


@pytest.mark.parametrize("command", [("report",), ("waste",), ("web",)])
def test_no_password_in_an_error(command):
    line = said(*command, "--db", "postgresql://me:secret@127.0.0.1:1/usage?password=secret", code=1)
    assert "postgresql://me:***@127.0.0.1:1/usage" in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:p@ss/w:rd@db/x", "postgresql://me:***@db/x"),
        ("postgresql://me@db/x", "postgresql://me@db/x"),
        ("/home/a:b@c/usage.db", "/home/a:b@c/usage.db"),
        ("sqlite:////x.db", "sqlite:////x.db"),
    ],
)
def test_a_url_as_it_may_be_shown(url, shown):
    assert without_password(url) == shown


@pytest.mark.parametrize("mode", ["regular", "reverse:https://api.openai.com", "upstream:http://p:3128", "socks5"])
def test_what_serves_this_machine_listens_to_it_alone(mode):
    command = build_arguments(only_llm=False, port=None, arguments=["--mode", mode])
    assert command[command.index("--listen-host") + 1] == "127.0.0.1"


@pytest.mark.parametrize("mode", ["transparent", "wireguard", "dns"])
def test_a_gateway_can_be_reached(mode):
    assert "--listen-host" not in build_arguments(only_llm=False, port=None, arguments=["--mode", mode])


def test_an_empty_name_is_the_usual_database(tmp_path):
    (tmp_path / ".mitmproxy").mkdir()
    database = connect(tmp_path / ".mitmproxy" / "usage.db")
    migrate(database)
    database.close()
    assert said("report", "--db", "", code=0) == "Nothing was recorded in this time."


def test_the_last_day_is_shown_as_it_was_asked_for(tmp_path):
    database = connect(tmp_path / "usage.db")
    migrate(database)
    database.close()
    words = [
        "report",
        "--since",
        "2026-10",
        "--until",
        "2026-10",
        "--timezone",
        "UTC",
        "--db",
        str(tmp_path / "usage.db"),
    ]
    assert (
        CliRunner().invoke(main, words).output.startswith("Usage by model · since 2026-10-01 · until 2026-10-31 · UTC")
    )


def test_two_names_and_four_numbers_fit_sixty_columns():
    heads = [Column("month", align="left", whole=True), Column("model", align="left"), Column("provider", align="left")]
    heads += [Column(name) for name in ("reqs", "in", "out", "cost")]
    table = Table(heads, [("2026-10", "claude-sonnet-4-5", "anthropic", "2,913", "24,795,217", "1,652,152", "$57.56")])
    assert all(cell_width(line) <= 60 for line in table.render(60)[0])


def test_the_sql_of_the_readme_runs(tmp_path):
    database = connect(tmp_path / "usage.db")
    migrate(database)
    database.close()
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    section = readme.partition("### Plain SQLite")[2].partition("\n## ")[0]
    quoted = section.replace("'", '"').split('"SELECT ')[1:]
    statements = ["SELECT " + part.partition('"\n')[0] for part in quoted]
    assert len(statements) >= 2
    connection = sqlite3.connect(tmp_path / "usage.db")
    for statement in statements:
        connection.execute(statement.replace('"', "'")).fetchall()
    connection.close()
