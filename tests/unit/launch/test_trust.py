import subprocess
import sys

import pytest
from click.testing import CliRunner

from usagetap.launch import trust as module
from usagetap.launch.bundle import make_ca
from usagetap.launch.trust import LINUX_STORES, fingerprint, plan_for, trust


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_ca(tmp_path_factory.mktemp("confdir"))


def plan(platform, certificate, *, remove=False, folder=""):
    return plan_for(platform, certificate, remove=remove, exists=lambda name: name == folder)


@pytest.mark.parametrize("store", LINUX_STORES, ids=lambda store: store.folder)
def test_linux_copies_the_certificate_and_refreshes(certificate, store):
    added = plan("linux", certificate, folder=store.folder)
    taken = plan("linux", certificate, folder=store.folder, remove=True)
    anchor = f"{store.folder}/usagetap-mitmproxy.crt"
    assert added.steps == [["install", "-m", "0644", str(certificate), anchor], store.refresh.split()]
    assert taken.steps == [["rm", "-f", anchor], store.refresh.split()]
    assert added.root
    assert taken.root


def test_an_unknown_linux_has_no_plan(certificate):
    assert plan("linux", certificate) is None


def test_macos_trusts_in_the_system_keychain(certificate):
    (add,) = plan("darwin", certificate).steps
    assert add[:2] == ["security", "add-trusted-cert"]
    assert add[-1] == str(certificate)
    assert [step[1] for step in plan("darwin", certificate, remove=True).steps] == [
        "remove-trusted-cert",
        "delete-certificate",
    ]


def test_windows_needs_no_administrator(certificate):
    added = plan("win32", certificate)
    assert not added.root
    assert added.steps == [["certutil", "-user", "-addstore", "Root", str(certificate)]]
    assert plan("win32", certificate, remove=True).steps[0][-1] == fingerprint(certificate)


@pytest.mark.skipif(sys.platform == "win32", reason="asks the openssl command")
def test_the_fingerprint_is_the_one_that_openssl_names(certificate):
    command = ["openssl", "x509", "-in", str(certificate), "-noout", "-fingerprint", "-sha1"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.strip().rpartition("=")[2].replace(":", "") == fingerprint(certificate)


@pytest.fixture
def debian(monkeypatch, certificate):
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.setattr(module.os.path, "isdir", lambda name: name == LINUX_STORES[0].folder)
    performed = []
    monkeypatch.setattr(module, "perform", performed.append)
    return performed, ["--confdir", str(certificate.parent)]


def test_nothing_is_done_without_yes(debian):
    performed, confdir = debian
    done = CliRunner().invoke(trust, confdir)
    assert done.exit_code == 0, done.output
    assert performed == []
    assert "update-ca-certificates" in done.output
    assert "Nothing was done" in done.output


@pytest.mark.parametrize("root", [True, False])
def test_yes_does_what_was_shown(debian, monkeypatch, root):
    performed, confdir = debian
    monkeypatch.setattr(module.os, "geteuid", lambda: 0 if root else 1000)
    done = CliRunner().invoke(trust, [*confdir, "--remove", "--yes"])
    assert done.exit_code == 0, done.output
    assert [step[0] for step in performed] == (["rm", "update-ca-certificates"] if root else ["sudo", "sudo"])
    assert all(" ".join(step) in done.output for step in performed)


def test_a_failing_step_says_what_failed():
    step = ["sh", "-c", "echo 'no such\n store' >&2; exit 3"]
    with pytest.raises(module.click.ClickException, match="failed: no such store"):
        module.perform(step)
    with pytest.raises(module.click.ClickException, match="nosuchcommand is not installed"):
        module.perform(["nosuchcommand"])
