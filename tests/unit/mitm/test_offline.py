from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mitmproxy.io import FlowWriter
from mitmproxy.test import tflow
from tests.proxy import rows
from tests.unit.mitm.test_reading import call, saved

from usagetap.mitm.offline import replay, scrub

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def run(command: object, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])  # type: ignore[arg-type]


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    return saved(tmp_path / "flows.mitm", call(), tflow.tflow(resp=True), call(body=None))


def test_replay_says_what_it_did(tmp_path: Path, flows: Path) -> None:
    db = tmp_path / "usage.db"
    found = run(replay, flows, "--db", db)
    assert found.exit_code == 0
    wanted = "3 flows read, 1 response added, 1 without a body in the file (left out), 1 not to a model.\n"
    wanted += (
        "mitmproxy keeps the bodies of streams in a file where it records with --set store_streamed_bodies=true.\n"
    )
    assert found.stdout == wanted
    found = run(replay, flows, flows, "--db", db, "--json")
    assert json.loads(found.stdout) == {
        "flows": 6,
        "rows": 0,
        "recorded": 0,
        "known": 2,
        "without_body": 2,
        "other": 2,
    }
    assert len(rows(db)) == 1


def test_the_database_is_that_of_the_environment(tmp_path: Path, flows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USAGETAP_DB", str(tmp_path / "named.db"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert run(replay, flows).exit_code == 0
    assert len(rows(tmp_path / "named.db")) == 1
    assert not (tmp_path / "home").exists()


def test_prices_and_options_are_the_addons(tmp_path: Path, flows: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("prices:\n  - model: gpt-4o-mini\n    currency: sats\n    input: 1000000\n    output: 0\n")
    assert run(replay, flows, "--db", tmp_path / "a.db", "--prices", prices).exit_code == 0
    assert [(row["cost"], row["currency"]) for row in rows(tmp_path / "a.db")] == [("11", "sats")]
    assert run(replay, flows, "--db", tmp_path / "b.db", "--set", "usage_hosts=!api.openai.com").exit_code == 0
    assert rows(tmp_path / "b.db") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "usage_frame_limit=huge"], "usage_frame_limit is 'huge'"),
        (["--set", "nosuch=1"], "Unknown option(s): nosuch"),
        (["--prices", "nosuch.yaml"], "usage_prices names 'nosuch.yaml'"),
        (["--db", "/proc/nowhere/usage.db"], "/proc/nowhere/usage.db: "),
        (["--db", "sqlite:x"], "names no database file"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(tmp_path: Path, flows: Path, arguments: list[str], message: str) -> None:
    found = run(replay, flows, "--db", tmp_path / "usage.db", *arguments)
    assert found.exit_code == 1
    assert found.stderr.startswith("Error: ")
    assert message in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_one_damaged_file_does_not_keep_the_others_out(tmp_path: Path, flows: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"junk")
    found = run(replay, junk, flows, "--db", tmp_path / "usage.db")
    assert found.exit_code == 1
    assert f"{junk} is neither" in found.stderr
    assert len(rows(tmp_path / "usage.db")) == 1


def test_scrub_writes_a_private_copy_that_mitmproxy_reads(tmp_path: Path, flows: Path) -> None:
    before = flows.read_bytes()
    out = tmp_path / "out.mitm"
    found = run(scrub, flows, out)
    assert found.exit_code == 0
    assert found.stdout.startswith(f"3 flows copied to {out}, ")
    assert out.stat().st_mode & 0o777 == 0o600
    assert flows.read_bytes() == before
    assert run(replay, out, "--db", tmp_path / "usage.db").stdout.startswith("3 flows read, 1 response added")


def test_scrub_overwrites_nothing(tmp_path: Path, flows: Path) -> None:
    before = flows.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(flows)
    for out in (flows, link):
        found = run(scrub, flows, out, "--force")
        assert found.exit_code == 2
        assert "OUT is IN" in found.stderr
    other = tmp_path / "other"
    other.write_text("mine")
    assert run(scrub, flows, other).exit_code == 2
    assert other.read_text() == "mine"
    assert flows.read_bytes() == before
    assert run(scrub, flows, other, "--force", "--json").exit_code == 0


def test_scrub_leaves_no_half_a_file(tmp_path: Path) -> None:
    source = tmp_path / "cut"
    with source.open("wb") as file:
        for _ in range(2):
            FlowWriter(file).add(call())
    source.write_bytes(source.read_bytes()[:-50])
    found = run(scrub, source, tmp_path / "out")
    assert found.exit_code == 1
    assert "damaged: 1 of its flows" in found.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut"]
