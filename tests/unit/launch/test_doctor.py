import json
import os
import socket
import sqlite3
from contextlib import closing

import pytest
from click.testing import CliRunner

from usagetap.launch import doctor as module
from usagetap.launch.bundle import make_ca, system_roots
from usagetap.launch.doctor import (
    Finding,
    check_ca,
    check_database,
    check_optional,
    check_package,
    check_port,
    check_trust,
    check_variables,
    doctor,
)
from usagetap.launch.environment import CA_VARIABLES


@pytest.fixture(scope="module")
def confdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("confdir")
    make_ca(folder)
    return folder


def test_a_missing_package_names_the_command(monkeypatch):
    found = check_package("no-such-package")
    assert found.verdict == "failed"
    assert "pip install no-such-package" in found.advice
    assert check_optional("pip").verdict == "ok"


@pytest.mark.parametrize(("version", "verdict"), [("12.0.1", "failed"), ("12.1.0", "ok"), ("13.0.0", "warning")])
def test_mitmproxys_version_matters(monkeypatch, version, verdict):
    monkeypatch.setattr(module.metadata, "version", lambda name: version)
    assert check_package("mitmproxy").verdict == verdict


def test_the_ca(confdir, tmp_path):
    assert check_ca(confdir).verdict == "ok"
    assert check_ca(tmp_path).verdict == "warning"


def test_trust_is_read_from_the_systems_store(confdir, tmp_path, monkeypatch):
    assert check_trust(confdir).verdict == "warning"
    store = tmp_path / "store.pem"
    store.write_bytes(system_roots().read_bytes() + (confdir / "mitmproxy-ca-cert.pem").read_bytes())
    monkeypatch.setattr(module, "system_roots", lambda: store)
    assert check_trust(confdir).verdict == "ok"
    assert check_trust(tmp_path).verdict == "warning", "no CA at all is not a trusted one"


def test_variables_that_do_not_hold_the_ca_are_named(confdir):
    assert check_variables(confdir, {}).verdict == "warning"
    good = dict.fromkeys(CA_VARIABLES, str(confdir / "mitmproxy-ca-cert.pem"))
    found = check_variables(confdir, {"HTTPS_PROXY": "http://user:secret@127.0.0.1:8080", **good})
    assert found.verdict == "ok"
    assert "secret" not in found.seen
    found = check_variables(confdir, {"https_proxy": "http://127.0.0.1:8080", **good, "SSL_CERT_FILE": "/no/file"})
    assert found.verdict == "warning"
    assert "SSL_CERT_FILE" in found.advice
    assert "CURL_CA_BUNDLE" not in found.advice


def test_the_port():
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        assert check_port(port).verdict == "warning"
    assert check_port(port).verdict == "ok"


def test_a_database_that_can_be_written(tmp_path):
    assert check_database(str(tmp_path / "new" / "usage.db")).verdict == "ok"
    assert not (tmp_path / "new").exists(), "a check leaves nothing behind"
    file = tmp_path / "usage.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE usage (id)")
        assert check_database(f"sqlite:///{file}").verdict == "ok"
        connection.execute("INSERT INTO usage VALUES (1)")  # and holds the lock
        assert check_database(str(file)).verdict == "failed"


def test_a_database_that_cannot(tmp_path, monkeypatch):
    file = tmp_path / "usage.db"
    file.write_bytes(b"not a database, but long enough to look like one" * 100)
    assert check_database(str(file)).verdict == "failed"
    monkeypatch.setattr(module.os, "access", lambda folder, mode: False)
    assert check_database("/no/such/folder/usage.db").verdict == "failed"


def test_a_server_is_not_tried_and_its_password_not_shown():
    found = check_database("postgresql://me:secret@db/usage")
    assert found.verdict == "ok"
    assert "secret" not in found.seen


@pytest.mark.parametrize(("verdict", "code"), [("ok", 0), ("warning", 0), ("failed", 1)])
def test_only_a_failure_fails(monkeypatch, tmp_path, verdict, code):
    monkeypatch.setattr(module, "check_addon", lambda: Finding("addon", verdict, "as told", "do this"))
    monkeypatch.setattr(module, "check_package", lambda name: Finding(name, "ok", "1.0"))
    arguments = ["--confdir", str(tmp_path), "--port", "1" if os.geteuid() == 0 else "18080"]
    done = CliRunner().invoke(doctor, [*arguments, "--json"])
    assert done.exit_code == code, done.output
    findings = {finding["check"]: finding for finding in json.loads(done.output)}
    assert findings["addon"] == {"check": "addon", "verdict": verdict, "seen": "as told", "advice": "do this"}
    said = CliRunner().invoke(doctor, arguments).output
    assert "do this" in said
    assert all(name in said for name in findings)
