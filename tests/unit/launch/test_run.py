import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from usagetap.launch import run as module
from usagetap.launch.run import build_arguments, directions, run, usage_hosts, wants_detail


@pytest.fixture(autouse=True)
def quiet_home(monkeypatch, tmp_path):
    """No config.yaml and no certificate variables of whoever runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "addon_script", lambda: Path("/x/usage.py"))


def command(*arguments, only_llm=False, port=None):
    return build_arguments(only_llm=only_llm, port=port, arguments=arguments)


def test_the_plain_command():
    assert command() == ["-s", "/x/usage.py", "--set", "usage_strip_frame=injected", "--listen-host", "127.0.0.1"]


def test_what_the_user_says_about_the_frame_stands():
    assert "usage_strip_frame=injected" not in command("--set", "usage_strip_frame=never")
    (Path(os.environ["HOME"]) / ".mitmproxy").mkdir()
    (Path(os.environ["HOME"]) / ".mitmproxy" / "config.yaml").write_text("usage_strip_frame: always")
    assert "usage_strip_frame=injected" not in command()


def test_another_mode_or_address_is_not_tied_to_loopback():
    assert "--listen-host" not in command("--mode", "transparent")
    assert command("--listen-host", "0.0.0.0").count("--listen-host") == 1


def test_the_users_arguments_come_last():
    assert command("-w", "flows", port=0)[-4:] == ["--listen-port", "0", "-w", "flows"]


def test_upstream_is_trusted_as_the_environment_says(monkeypatch, tmp_path):
    (tmp_path / "corp.pem").write_text("…")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "corp.pem"))
    assert f"ssl_verify_upstream_trusted_ca={tmp_path}/corp.pem" in command()
    assert f"ssl_verify_upstream_trusted_ca={tmp_path}/corp.pem" not in command(
        "--set", "ssl_verify_upstream_trusted_ca=y"
    )


def test_only_llm_knows_the_users_hosts():
    words = command("--set", "usage_hosts=llm.corp", only_llm=True)
    rule = words[words.index("--allow-hosts") + 1]
    assert r"llm\.corp" in rule
    assert r"api\.anthropic\.com" in rule


def test_usage_hosts_from_several_places():
    assert usage_hosts(["--set", "usage_hosts=a, b", "--set", "usage_hosts=c"]) == ["a", "b", "c"]
    (Path(os.environ["HOME"]) / ".mitmproxy").mkdir()
    (Path(os.environ["HOME"]) / ".mitmproxy" / "config.yaml").write_text("usage_hosts: [d, e]")
    assert usage_hosts([]) == ["d", "e"]


@pytest.mark.parametrize(
    ("mode", "port", "words"),
    [
        ("regular", 8080, ['eval "$(usagetap env)"', "HTTPS_PROXY=http://127.0.0.1:8080", "usagetap report"]),
        ("regular", "9000", ["usagetap env --port 9000", "127.0.0.1:9000", "usagetap report"]),
        ("reverse:https://api.openai.com", 8080, ["http://127.0.0.1:8080 instead of https://api.openai.com"]),
        ("transparent", 8080, ["usagetap report"]),
    ],
)
def test_directions_fit_the_mode(monkeypatch, mode, port, words):
    monkeypatch.setattr(module, "own_command", lambda: "usagetap")
    said = directions(mode, port)
    assert all(word in said for word in words)
    assert len(said.splitlines()) == {"regular": 3, "transparent": 1}.get(mode, 2)


def test_we_are_called_by_name_only_where_that_is_us(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module.sys, "executable", str(tmp_path / "bin" / "python"))
    assert module.own_command() == "python -m usagetap"
    ours, other = tmp_path / "bin" / "usagetap", tmp_path / "usagetap"
    ours.parent.mkdir()
    for program in (ours, other):
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    assert module.own_command() == str(ours), "another one of that name is first on the path"
    monkeypatch.setenv("PATH", str(ours.parent))
    assert module.own_command() == "usagetap"


@pytest.mark.parametrize(
    ("arguments", "tool", "port"),
    [([], "mitmdump", "8080"), (["--web"], "mitmweb", "8080"), (["-p", "91", "--", "--anticache"], "mitmdump", "91")],
)
def test_run_becomes_mitmproxy(monkeypatch, arguments, tool, port):
    started = []
    monkeypatch.setattr(module, "start", lambda *told: started.extend(told))
    done = CliRunner().invoke(run, arguments)
    assert done.exit_code == 0, done.output
    assert started[0] == tool
    assert f":{port}" in done.output
    assert ("--anticache" in started[1]) == ("--anticache" in arguments)


def test_the_console_gets_no_lines_above_it(monkeypatch):
    monkeypatch.setattr(module, "start", lambda *told: None)
    assert CliRunner().invoke(run, ["--console"]).output == ""


@pytest.mark.parametrize("words", [["-v"], ["--verbose"], ["--flow-detail", "1"], ["--set", "flow_detail=1"]])
def test_mitmdump_tells_all_where_that_is_asked_for(words):
    assert wants_detail(words)
    assert not wants_detail(["--set", "usage_include=off"])
