import os
import shutil
import socket
import stat
import subprocess
import sys

import pytest

from usagetap.launch import proxy as module
from usagetap.launch.environment import OWN_PROXY
from usagetap.launch.proxy import PrivateProxy, ProxyFailed, addon_script, tool_command, upstream_of

IDLE = "addons = []\n"


@pytest.fixture
def script(monkeypatch, tmp_path):
    """Makes any text the addon script."""

    def use(text):
        (tmp_path / "usage.py").write_text(text)
        monkeypatch.setattr(module, "addon_script", lambda: tmp_path / "usage.py")
        return [f"confdir={tmp_path}/confdir"]

    return use


def test_the_script_is_beside_the_package_or_inside_it(monkeypatch, tmp_path):
    package = tmp_path / "usagetap"
    package.mkdir()
    monkeypatch.setattr(module.usagetap, "__file__", str(package / "__init__.py"))
    with pytest.raises(ProxyFailed, match="install usagetap again"):
        addon_script()
    (tmp_path / "usage.py").touch()
    assert addon_script() == tmp_path / "usage.py"
    (package / "usage.py").touch()
    assert addon_script() == package / "usage.py"


def test_the_tool_is_that_of_this_environment(monkeypatch, tmp_path):
    assert subprocess.run([*tool_command("mitmdump"), "--version"], capture_output=True, check=True).stdout
    monkeypatch.setattr(module.sys, "executable", str(tmp_path / "python"))
    assert tool_command("mitmweb")[1] == "-c"
    (tmp_path / "mitmweb").touch()
    assert tool_command("mitmweb") == [str(tmp_path / "mitmweb")]


def test_without_a_script_in_bin_the_tool_still_starts():
    command = [sys.executable, *tool_command_without_bin()[1:], "--version"]
    assert b"Mitmproxy" in subprocess.run(command, capture_output=True, check=True).stdout


def tool_command_without_bin():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.sys, "executable", "/nowhere/python")
        return tool_command("mitmdump")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://corp:3128"}, ("upstream:http://corp:3128", None)),
        ({"https_proxy": "corp:3128"}, ("upstream:http://corp:3128", None)),
        ({"ALL_PROXY": "https://corp"}, ("upstream:https://corp:443", None)),
        ({"HTTPS_PROXY": "http://me:p%40ss@[::1]:3128"}, ("upstream:http://[::1]:3128", "me:p@ss")),
        ({"HTTPS_PROXY": "http://127.0.0.1:1", OWN_PROXY: "http://127.0.0.1:1"}, None),
        ({"HTTPS_PROXY": "http://corp:3128", OWN_PROXY: "http://127.0.0.1:1"}, ("upstream:http://corp:3128", None)),
    ],
)
def test_a_companys_proxy_stays_in_the_path_and_ours_does_not(environment, expected):
    assert upstream_of(environment) == expected


def test_a_socks_proxy_cannot_be_chained():
    with pytest.raises(ProxyFailed, match="unset HTTPS_PROXY") as failure:
        upstream_of({"ALL_PROXY": "socks5://me:secret@corp:1080"})
    assert "secret" not in str(failure.value)


def test_a_proxy_for_the_time_of_a_block(script):
    with PrivateProxy(options=script(IDLE)) as proxy:
        directory = proxy.directory
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        socket.create_connection(("127.0.0.1", proxy.port), timeout=5).close()
        assert proxy.url == f"http://127.0.0.1:{proxy.port}"
    assert proxy.process.returncode == 0
    assert not directory.exists()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
    proxy.close()


def test_a_proxy_that_does_not_start_says_why(script):
    with pytest.raises(ProxyFailed, match="ZeroDivisionError") as failure, PrivateProxy(options=script("1 / 0\n")):
        pass
    assert "did not start" in str(failure.value)


def test_a_slow_start_ends(script, monkeypatch):
    monkeypatch.setattr(module, "START_SECONDS", 0.0)
    with pytest.raises(ProxyFailed, match="does not listen"), PrivateProxy(options=script(IDLE)):
        pass


def test_an_orphaned_proxy_stops_in_good_order(script, tmp_path):
    """However its starter ends, `done` runs and the rows are written."""
    options = script(f"from pathlib import Path\ndef done():\n    Path({str(tmp_path / 'done')!r}).touch()\n")
    starter = (
        "import os, signal\nfrom pathlib import Path\nfrom usagetap.launch import proxy\n"
        f"proxy.addon_script = lambda: Path({str(tmp_path / 'usage.py')!r})\n"
        f"with proxy.PrivateProxy(options={options!r}) as it:\n"
        "    print(it.pid, it.directory, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", starter], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    pid, directory = done.stdout.split()
    await_end(int(pid))
    assert (tmp_path / "done").exists()
    shutil.rmtree(directory)  # nobody was left to remove it: otherwise the system's cleaning of /tmp does


def await_end(pid):
    """Wait until a process that is not our child has gone."""
    descriptor = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
    if descriptor is None:
        pytest.skip("no pidfd_open here")
    import select

    assert select.select([descriptor], [], [], 20)[0], "the proxy lives on"
    os.close(descriptor)
