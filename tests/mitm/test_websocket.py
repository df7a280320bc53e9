"""WebSocket sessions through a real mitmdump: recorded ones, and every way to end."""

from __future__ import annotations

import gzip
import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import corpus
from tests.client import call
from tests.proxy import REDIRECT, USAGE, Mitmdump, errors_in, running_mitmdump
from tests.socket_client import WebSocketClient

from usagetap.upstream.server import Upstream, running_upstream

type Start = Callable[..., Mitmdump]

ASK = {"type": "response.create", "model": "gpt-5@chunks=3;input=20", "input": "?"}


@pytest.fixture(scope="module")
def proxy(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mitmdump]:
    with running_mitmdump(
        tmp_path_factory.mktemp("sockets"), f"reverse:{upstream.url}", usage_estimate="false"
    ) as running:
        yield running
        assert errors_in(running.log) == []


def responses(proxy: Mitmdump, tag: str, **headers: str) -> WebSocketClient:
    return WebSocketClient(proxy.port, "/v1/responses", x_usage_tag=tag, **headers)


def test_each_turn_has_its_row(proxy: Mitmdump, upstream: Upstream, tag: str) -> None:
    client = responses(proxy, tag)
    for _ in range(3):
        client.say(ASK)
        assert client.hear_until("response.completed")[-1]["response"]["status"] == "completed"
    client.close()
    rows = proxy.ended(3, "tag = ?", tag)
    assert [row["turn"] for row in rows] == [1, 2, 3]
    assert {(row["status"], row["end_reason"], row["usage_quality"]) for row in rows} == {("ok", "complete", "exact")}
    assert {(row["transport"], row["http_status"], row["dialect"]) for row in rows} == {
        ("websocket", 101, "openai_responses")
    }
    assert {(row["input_tokens"], row["output_tokens"]) for row in rows} == {(20, 3)}
    assert len({row["response_id"] for row in rows}) == 3


def test_the_tag_header_does_not_go_upstream(proxy: Mitmdump, upstream: Upstream, tag: str) -> None:
    before = len(upstream.requests)
    with responses(proxy, tag):
        assert upstream.wait_for(before + 1)[before].header("x-usage-tag") is None


@pytest.mark.parametrize("how", ["fin", "rst", "close"])
def test_client_gone_in_mid_turn(proxy: Mitmdump, how: str, tag: str) -> None:
    client = responses(proxy, tag)
    client.say(ASK | {"model": "gpt-5@chunks=9;hold=4"})
    client.hear_until("response.in_progress")
    client.close() if how == "close" else client.leave(how)
    row = proxy.row(tag)
    assert (row["status"], row["end_reason"], row["output_tokens"]) == ("aborted", "client_disconnected", None)


@pytest.mark.parametrize("how", ["fin", "rst", "goaway"])
def test_upstream_gone_in_mid_turn(proxy: Mitmdump, how: str, tag: str) -> None:
    """mitmproxy tells the client of a clean close (1000); the row knows better."""
    with responses(proxy, tag) as client:
        client.say(ASK | {"model": f"gpt-5@chunks=9;die=4;cut={how}"})
        client.hear_until("never")
    row = proxy.row(tag)
    assert (row["status"], row["end_reason"]) == ("error", "upstream_disconnected")


def test_idle_socket_leaves_no_row(proxy: Mitmdump, tag: str) -> None:
    before = len(proxy.rows())
    responses(proxy, tag).close()
    client = responses(proxy, f"{tag} last")
    client.say(ASK)
    client.hear_until("response.completed")
    client.close()
    assert proxy.row(f"{tag} last")["turn"] == 1
    assert len(proxy.rows()) == before + 1


def test_realtime(proxy: Mitmdump, tag: str) -> None:
    client = WebSocketClient(proxy.port, "/v1/realtime?model=gpt-realtime@chunks=3", x_usage_tag=tag)
    client.hear_until("session.created")
    for _ in range(2):
        client.say({"type": "response.create"})
        client.hear_until("response.done")
    client.close()
    rows = proxy.ended(2, "tag = ?", tag)
    assert [(row["turn"], row["status"], row["dialect"]) for row in rows] == [
        (1, "ok", "openai_realtime"),
        (2, "ok", "openai_realtime"),
    ]


def test_other_sockets_are_none_of_our_business(proxy: Mitmdump, upstream: Upstream) -> None:
    before = len(proxy.rows())
    refused = call(proxy.port, b"", "/chat/rooms/7", upgrade="websocket", connection="upgrade")
    assert refused.status == 404
    assert len(proxy.rows()) == before


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_proxy_gone_in_mid_turn(
    upstream: Upstream, start: Start, tmp_path: Path, how: signal.Signals, tag: str
) -> None:
    db = tmp_path / "usage.db"
    proxy = start(f"reverse:{upstream.url}", usage_db=db)
    with responses(proxy, tag) as client:
        client.say(ASK | {"model": "gpt-5@chunks=9;hold=4"})
        client.hear_until("response.in_progress")
        if how is signal.SIGTERM:
            assert proxy.stop(how) == 0
        else:
            proxy._wait(lambda: proxy.rows("tag = ?", tag), 5, "an open row")
            proxy.stop(how)
            start(f"reverse:{upstream.url}", usage_db=db)
    row = proxy.row(tag)
    assert row["end_reason"] == ("proxy_stopped" if how is signal.SIGTERM else "proxy_died")


# -- recorded sessions


def sessions(name: str) -> list[dict[str, Any]]:
    if not corpus.FOLDER:
        return []
    with gzip.open(corpus.path(name), "rb") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mitmdump]:
    """A proxy to the recorded sessions, whatever host is asked for."""
    files = [corpus.path("websocket.jsonl.gz"), corpus.path("websocket_derived.jsonl.gz")]
    with (
        running_upstream(replay=files) as upstream,
        running_mitmdump(
            tmp_path_factory.mktemp("recorded"),
            "regular",
            scripts=[USAGE, REDIRECT],
            environment={"REDIRECT_TO": f"127.0.0.1:{upstream.port}"},
            usage_estimate="false",
        ) as proxy,
    ):
        yield proxy
        assert errors_in(proxy.log) == []


def play(proxy: Mitmdump, session: dict[str, Any]) -> None:
    """Say what the client said, and hear what the server said, in the recorded order."""
    url = re.sub(r"[<>\s]", "", session["url"]).replace("wss://", "http://", 1)
    host = url.removeprefix("http://").partition("/")[0]
    with WebSocketClient(proxy.port, url, host, x_capture=session["id"], x_usage_tag=session["id"]) as client:
        for message in session["messages"]:
            if message["kind"] != "message":
                continue
            if message["dir"] == "sent":
                client.say(message["data"])
            else:
                assert client.hear() == message["data"]
        client.close()


@corpus.needs_corpus
@pytest.mark.parametrize("session", sessions("websocket_derived.jsonl.gz"), ids=lambda session: session["id"])
def test_recorded_responses_sessions(replayed: Mitmdump, session: dict[str, Any]) -> None:
    play(replayed, session)
    row, expect = replayed.row(session["id"]), session["expect"]
    assert (row["input_tokens"], row["output_tokens"]) == (expect.get("input_tokens"), expect.get("output_tokens"))
    assert (row["response_model"], row["response_id"]) == (expect["model"], expect["response_id"])
    assert json.loads(row["finish_reasons"] or "[]")[:1] == [expect["finish_reason"]]


@corpus.needs_corpus
@pytest.mark.parametrize("session", sessions("websocket.jsonl.gz"), ids=lambda session: session["id"])
def test_recorded_live_sessions(replayed: Mitmdump, session: dict[str, Any]) -> None:
    play(replayed, session)
    expect = session["expect"]
    told = expect["response_usages"] or expect["usageMetadata"]
    apart = len(expect["transcription_usages"])  # a transcription of the input is a turn of its own
    rows = replayed.ended(max(1, len(told) + apart), "tag = ?", session["id"])
    counted = [row for row in rows if row["usage_raw"] is not None and row["operation"] != "transcription"]
    assert len([row for row in rows if row["usage_raw"] is not None]) == len(told) + apart
    total = dict.fromkeys(("input_tokens", "output_tokens", "reasoning_tokens"), 0) | (expect.get("sum") or {})
    ids = {usage.get("response_id") for usage in told}
    if ids != {None}:
        counted = [row for row in counted if row["response_id"] in ids]
    assert sum(row["input_tokens"] or 0 for row in counted) == total["input_tokens"]
    # Gemini's responseTokenCount leaves thoughts out; output_tokens has them
    assert sum(row["output_tokens"] or 0 for row in counted) == total["output_tokens"] + total["reasoning_tokens"]
