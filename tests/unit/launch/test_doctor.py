import json
import os
import socket
import sqlite3
from contextlib import closing

import pytest
from click.testing import CliRunner
from tests.postgres import running_postgres

from usagetap.launch import doctor as module
from usagetap.launch.bundle import make_ca, system_roots
from usagetap.launch.doctor import (
    Finding,
    check_ca,
    check_database,
    check_optional,
    check_package,
    check_port,
    check_settings,
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


@pytest.fixture(scope="module")
def postgres():
    with running_postgres() as server:
        yield server


def test_a_server_that_lets_us_write(postgres):
    url = postgres.empty()
    found = check_database(url.replace("tester@", "tester:secret@"))
    assert found.verdict == "ok"
    assert "secret" not in str(found)
    assert "answers" in found.seen


def test_a_server_where_this_user_may_not_write(postgres):
    import psycopg

    url = postgres.empty()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE reader LOGIN")
    found = check_database(url.replace("tester@", "reader@"))
    assert (found.verdict, "may not write" in found.seen) == ("failed", True)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE usage (id int)")
        connection.execute("GRANT SELECT ON usage TO reader")
    assert check_database(url.replace("tester@", "reader@")).verdict == "failed"
    assert check_database(url).verdict == "ok"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cr3t@127.0.0.1:1/usage",
        "postgresql://me:s3cr3t@127.0.0.1:port/usage",
        "postgresql://me:s3cr3t@no-such-host.invalid/usage",
        "postgresql://me:s3cr3t%21@127.0.0.1:1/usage?nonsense=1",
        "postgres://127.0.0.1:1/usage?user=me&password=s3cr3t",
    ],
)
def test_a_server_that_does_not_answer_gets_one_sentence_without_its_password(url):
    pytest.importorskip("psycopg")
    found = check_database(url)
    assert found.verdict == "failed"
    assert "s3cr3t" not in str(found)
    assert "\n" not in found.seen


def test_a_url_of_something_else():
    assert check_database("mysql://me:secret@db/usage").seen.startswith("mysql://me:***@db/usage is no path")
    assert check_database("sqlite:usage.db").verdict == "failed"


def test_options_in_config_yaml_are_read_and_the_price_file_with_them(tmp_path):
    config, prices = tmp_path / "config.yaml", tmp_path / "prices.yaml"
    assert check_settings(tmp_path).verdict == "ok"
    prices.write_text("- model: x\n  lke: openai\n")
    config.write_text(f"usage_prices: {prices}\nusage_estimate: false\n")
    found = check_settings(tmp_path)
    assert found.verdict == "failed"
    assert found.seen == f"{prices}:2: entry 1: unknown key `lke`; did you mean `like`?"
    prices.write_text("- model: x\n  input: 1\n")
    assert check_settings(tmp_path).seen == f"usage_estimate, usage_prices in config.yaml; prices of {prices} are good"
    config.write_text("usage_inclde: force\n")
    assert check_settings(tmp_path).seen == "there is no option usage_inclde; did you mean usage_include?"


def test_a_price_file_may_be_named(tmp_path):
    assert check_settings(tmp_path, str(tmp_path / "none.yaml")).verdict == "failed"
    (tmp_path / "prices.yaml").write_text("- like: openia\n")
    assert "did you mean `openai`?" in check_settings(tmp_path, str(tmp_path / "prices.yaml")).seen


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
