import os
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from usagetap.launch import exec as module
from usagetap.launch import proxy
from usagetap.launch.exec import exec_, run_command


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 77"], 77),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["/no/such/command"], 127),
        (["/"], 126),
    ],
)
def test_the_exit_code_is_the_commands(command, code):
    assert run_command(command, os.environ) == code


def test_signals_are_passed_on_and_dispositions_put_back():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    # the child tells its parent when it is ready, and says which signal came
    script = (
        "import os, signal, sys\n"
        "for name in ('SIGTERM', 'SIGUSR2'): signal.signal(getattr(signal, name), lambda n, f: sys.exit(n))\n"
        "os.kill(os.getppid(), signal.SIGUSR1)\n"
        "signal.pause()\n"
    )
    outer = (
        "import os, signal, sys\n"
        "from usagetap.launch import exec as module\n"
        "module.FORWARDED = tuple(name for name in module.FORWARDED if name != 'SIGUSR1')\n"
        "signal.signal(signal.SIGUSR1, lambda n, f: os.kill(os.getpid(), signal.SIGUSR2))\n"
        f"sys.exit(module.run_command([sys.executable, '-c', {script!r}], os.environ))\n"
    )
    done = subprocess.run([sys.executable, "-c", outer], capture_output=True, text=True, check=False)
    assert done.returncode == signal.SIGUSR2, done.stderr
    run_command(["true"], os.environ)
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.fixture
def idle_addon(monkeypatch, tmp_path):
    (tmp_path / "usage.py").write_text("addons = []\n")
    monkeypatch.setattr(proxy, "addon_script", lambda: tmp_path / "usage.py")
    monkeypatch.setattr(module, "summary", lambda database, pid: f"TABLE of {database}")
    return ["--confdir", str(tmp_path / "confdir")]


def test_the_command_gets_the_variables_and_keeps_its_streams(idle_addon, tmp_path, capfd):
    script = (
        "import os, ssl, sys\n"
        "assert os.environ['HTTPS_PROXY'].startswith('http://127.0.0.1:')\n"
        "ssl.create_default_context(cafile=os.environ['SSL_CERT_FILE'])\n"
        "print('out'); print('err', file=sys.stderr); sys.exit(5)\n"
    )
    done = CliRunner().invoke(exec_, [*idle_addon, "--db", "x.db", "--", sys.executable, "-c", script])
    assert done.exit_code == 5, done.output
    assert capfd.readouterr() == ("out\n", "err\n")
    assert done.stdout == ""
    assert done.stderr == "TABLE of x.db\n"


def test_quiet_prints_nothing(idle_addon):
    done = CliRunner().invoke(exec_, [*idle_addon, "-q", "--", "true"])
    assert (done.exit_code, done.output) == (0, "")


def test_a_proxy_that_cannot_start_runs_no_command(monkeypatch, tmp_path):
    (tmp_path / "usage.py").write_text("raise SystemError('broken')\n")
    monkeypatch.setattr(proxy, "addon_script", lambda: tmp_path / "usage.py")
    done = CliRunner().invoke(exec_, ["--confdir", str(tmp_path), "--", "touch", str(tmp_path / "ran")])
    assert done.exit_code == 1
    assert "did not start" in done.output
    assert not (tmp_path / "ran").exists()


def test_without_a_command_it_is_a_usage_error():
    assert CliRunner().invoke(exec_, []).exit_code == 2
