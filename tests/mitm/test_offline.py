"""What a real mitmdump saves, read again: the rows are those that the addon wrote when it passed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.client import CHAT, STREAM, WHOLE, Http1, Received
from tests.proxy import Mitmdump, rows
from websockets.sync.client import connect

from usagetap.mitm.offline import replay, scrub
from usagetap.upstream.server import Upstream

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ASKING = STREAM | {"stream_options": {"include_usage": True}}
KEY = "sk-proj-0123456789abcdefghijklmnop"
#: what a reading cannot know (or, `injected` and its kin, does not do), or knows a little differently
APART = {
    *("id", "uid", "instance", "started_at", "ended_at", "duration", "time_to_first_chunk", "tag", "inject_skipped"),
    *("chunks", "frames", "body_bytes", "key_fingerprint", "request_fingerprint"),
    *("usage_quality", "estimated_input_tokens", "estimated_output_tokens", "cost", "price_note", "cost_source"),
}


def ask(proxy: Mitmdump, body: Any, words: str, until: Callable[[Received], object] | None = None) -> None:
    with Http1(proxy.port).post(
        body, CHAT + f"?api_key={KEY}", x_upstream=words, authorization=f"Bearer {KEY}", cookie=f"sid={KEY}"
    ) as client:
        client.read(until)


@pytest.fixture
def passed(upstream: Upstream, start: Callable[..., Mitmdump], tmp_path: Path) -> Mitmdump:
    """A proxy that has recorded and saved calls of every sort, and has stopped."""
    proxy = start(
        f"reverse:{upstream.url}",
        arguments=["-w", str(tmp_path / "flows.mitm")],
        hardump=tmp_path / "flows.har",
        store_streamed_bodies="true",
        usage_estimate="false",
    )
    ask(proxy, ASKING, "")
    ask(proxy, WHOLE, "encoding=gzip")
    ask(proxy, ASKING, "encoding=br")
    ask(proxy, ASKING, "delay=0.2;chunks=50", until=lambda received: b"data:" in received.body)
    proxy.ended(4)
    ask(proxy, ASKING, "die=3")
    ask(proxy, WHOLE, "status=429")
    with connect(f"ws://127.0.0.1:{proxy.port}/v1/realtime?model=gpt-realtime", proxy=None) as socket:
        for _ in range(2):
            socket.send(json.dumps({"type": "response.create"}))
            while json.loads(socket.recv())["type"] != "response.done":
                pass
    with Http1(proxy.port).post({}, "/other") as client:
        client.read()
    proxy.ended(8)
    assert proxy.stop() == 0
    return proxy


#: what a response that broke off does not have in a file: mitmproxy keeps no part of its body
OF_THE_BODY = {"transport", "stream", "response_id", "response_model", "finish_reasons"}


def told(db: Path) -> list[dict[str, Any]]:
    found = []
    for row in sorted(rows(db), key=lambda row: (row["started_at"], row["turn"])):
        broken = row["end_reason"] in ("client_disconnected", "upstream_disconnected")
        apart = APART | OF_THE_BODY if broken else APART
        found.append({name: value for name, value in row.items() if name not in apart})
    return found


def run(*arguments: object) -> dict[str, Any]:
    found = CliRunner().invoke(replay, [*map(str, arguments), "--json"])
    assert found.exit_code == 0, found.output
    outcome: dict[str, Any] = json.loads(found.stdout)
    return outcome


def test_saved_flows_give_the_rows_that_they_gave_live(passed: Mitmdump, tmp_path: Path) -> None:
    flows, db = tmp_path / "flows.mitm", tmp_path / "again.db"
    outcome = run(flows, "--db", db)
    assert (outcome["flows"], outcome["rows"], outcome["recorded"], outcome["other"]) == (8, 8, 7, 1)
    assert told(db) == told(passed.db)
    before = rows(db)
    assert run(flows, "--db", db)["known"] == 7
    assert rows(db) == before


def test_a_reading_adds_nothing_to_what_was_recorded_live(passed: Mitmdump, tmp_path: Path) -> None:
    before = rows(passed.db)
    outcome = run(tmp_path / "flows.mitm", "--db", passed.db)
    assert (outcome["rows"], outcome["known"]) == (0, 7)
    assert rows(passed.db) == before


def test_a_har_file_gives_what_it_has(passed: Mitmdump, tmp_path: Path) -> None:
    db = tmp_path / "har.db"
    outcome = run(tmp_path / "flows.har", "--db", db)
    # the two that broke off have no body there, and nothing says that they broke off; the socket has no messages
    assert (outcome["rows"], outcome["without_body"]) == (4, 2)
    counted = [(row["status"], row["input_tokens"], row["output_tokens"]) for row in rows(db)]
    live = [(row["status"], row["input_tokens"], row["output_tokens"]) for row in rows(passed.db, "turn = 0")]
    assert counted == [*live[:3], live[5]]
    assert run(tmp_path / "flows.har", "--db", db)["rows"] == 0


def test_a_scrubbed_file_has_no_key_and_gives_the_same_rows(passed: Mitmdump, tmp_path: Path) -> None:
    flows, out = tmp_path / "flows.mitm", tmp_path / "clean.mitm"
    assert flows.read_bytes().count(KEY.encode()) == 18
    found = CliRunner().invoke(scrub, [str(flows), str(out)])
    assert found.exit_code == 0, found.output
    assert KEY.encode() not in out.read_bytes()
    run(out, "--db", tmp_path / "clean.db")
    assert told(tmp_path / "clean.db") == told(passed.db)
