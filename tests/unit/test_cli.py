import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from usagetap import cli
from usagetap.cli import SUBCOMMANDS, Subcommand, main

#: what must never be imported for `usagetap --help`: each costs more than the whole start
HEAVY = ("mitmproxy", "rich", "peewee", "genai_prices", "orjson", "asyncio", "tornado", "usagetap.launch.exec")


def test_help_names_every_subcommand_and_loads_none():
    script = (
        "import sys; from usagetap.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as done: code = done.code\n"
        f"print('LOADED', [name for name in {HEAVY} if name in sys.modules])\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "LOADED []" in done.stdout
    for name, entry in SUBCOMMANDS.items():
        assert f"  {name} " in done.stdout
        assert entry.summary.split()[0] in done.stdout


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_loads_and_explains_itself(name):
    done = CliRunner().invoke(main, [name, "--help"])
    assert done.exit_code == 0, done.output
    assert done.output.startswith(f"Usage: main {name}")


def test_unknown_subcommand_is_a_usage_error():
    done = CliRunner().invoke(main, ["nonsense"])
    assert done.exit_code == 2
    assert "nonsense" in done.output


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("usagetap.nowhere:command", "`usagetap x` is not in this version (module usagetap.nowhere is missing)."),
        ("usagetap.cli:nothing", "`usagetap x` is not in this version (usagetap.cli:nothing is missing)."),
        ("usagetap.cli:SUBCOMMANDS", "`usagetap x`: usagetap.cli:SUBCOMMANDS is not a command."),
    ],
)
def test_missing_subcommand_is_one_sentence(monkeypatch, target, sentence):
    monkeypatch.setitem(cli.SUBCOMMANDS, "x", Subcommand(target, "…"))
    done = CliRunner().invoke(main, ["x"])
    assert done.exit_code == 1
    assert done.output == f"Error: {sentence}\n"


def test_missing_package_names_the_command_that_installs_it(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'plotly'", name="plotly.graph_objects")

    monkeypatch.setattr(cli.importlib, "import_module", missing)
    done = CliRunner().invoke(main, ["web"])
    assert done.exit_code == 1
    assert done.output == "Error: `usagetap web` needs the Python package plotly: pip install plotly\n"


def test_ctrl_c_ends_a_command_without_a_word(monkeypatch):
    @click.command()
    def slow():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "load", lambda _name, _entry: slow)
    done = CliRunner().invoke(cli.main, ["report"])
    assert (done.exit_code, done.output) == (130, "")
