import os
import sys

import pytest
from click.testing import CliRunner

from usagetap.launch import demo as module
from usagetap.launch.demo import demo
from usagetap.launch.proxy import ProxyFailed


@pytest.fixture
def runs(monkeypatch):
    """What `demo` would have run."""
    made = []

    def run_through_proxy(command, **options):
        made.append((command, options, {name: os.environ.get(name) for name in ("HTTPS_PROXY", "PYTHONPATH")}))
        return 0

    monkeypatch.setattr(module, "run_through_proxy", run_through_proxy)
    monkeypatch.setenv("HTTPS_PROXY", "http://corp:3128")
    monkeypatch.setenv("PYTHONPATH", "")
    return made


def test_the_demo_is_exec_around_a_client(runs):
    done = CliRunner().invoke(demo, [])
    assert done.exit_code == 0, done.output
    ((command, options, environment),) = runs
    assert command[:3] == [sys.executable, "-m", "usagetap.launch.demo_client"]
    assert command[3].startswith("http://127.0.0.1:")
    assert options["db"].endswith("usage.db")
    assert not os.path.exists(options["confdir"]), "everything temporary is gone"
    assert environment["HTTPS_PROXY"] is None, "a company's proxy cannot reach 127.0.0.1"


def test_the_rows_can_be_kept(runs, tmp_path):
    CliRunner().invoke(demo, ["--db", str(tmp_path / "kept.db")])
    assert runs[0][1]["db"] == str(tmp_path / "kept.db")


def test_a_proxy_that_fails_is_one_sentence(monkeypatch):
    def run_through_proxy(command, **options):
        raise ProxyFailed("mitmdump did not start")

    monkeypatch.setattr(module, "run_through_proxy", run_through_proxy)
    done = CliRunner().invoke(demo, [])
    assert (done.exit_code, done.output) == (1, "Error: mitmdump did not start\n")
