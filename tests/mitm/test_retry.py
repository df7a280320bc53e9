"""The second try after a refusal of our edit: invisible, once, and gone when the client is.

That refusals are answered by the original, remembered, listed and cleared is in test_requests.py.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.client import CHAT, STREAM, Http1, Http2, call
from tests.feed import SSE_HEAD, Feed, chunked, running_feed
from tests.proxy import Mitmdump

from usagetap.upstream.server import Upstream

type Start = Callable[..., Mitmdump]

REFUSAL = json.dumps({"error": {"message": "Unrecognized request argument supplied: stream_options"}}).encode()
REFUSED = [
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(REFUSAL),
    REFUSAL,
]
FRAMES = [
    b'data: {"id":"r","model":"m","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n',
    b"data: [DONE]\n\n",
]
ORIGINAL = json.dumps(STREAM, indent=2).encode()


def refusing(then: Callable[[], Iterator[bytes]]) -> Callable[[bytes], Iterator[bytes]]:
    """An upstream that refuses the field, and answers `then` to a request without it."""

    def answer(body: bytes) -> Iterator[bytes]:
        yield from REFUSED if b"stream_options" in body else then()

    return answer


@pytest.mark.parametrize("client", [Http1, Http2])
def test_over_tls_and_http2(
    h2_upstream: Upstream, h1_tls_upstream: Upstream, start: Start, client: type[Http1 | Http2], tag: str
) -> None:
    up = h2_upstream if client is Http2 else h1_tls_upstream
    proxy = start(f"reverse:{up.url}")
    before = len(up.requests)
    received = call(proxy.port, ORIGINAL, client=client, tls=True, x_upstream="chunks=3;refuse=openai", x_usage_tag=tag)
    assert (received.status, received.ending) == (200, "complete")
    first, second = up.requests[before:]
    assert received.body == bytes(second.sent)
    assert second.body == ORIGINAL
    assert "stream_options" in first.json
    row = proxy.row(tag)
    assert (row["status"], row["retried"], row["injected"], row["http_status"]) == ("ok", 1, 0, 200)
    assert len(proxy.rows()) == 1


def test_what_the_second_try_says_is_what_the_client_gets(start: Start, tag: str) -> None:
    other = b'{"error":{"message":"You exceeded your current quota","type":"insufficient_quota"}}'
    head = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: %d\r\n\r\n" % len(other)
    with running_feed(refusing(lambda: iter([head + other]))) as feed:
        proxy = start(f"reverse:{feed.url}")
        received = call(proxy.port, ORIGINAL, x_usage_tag=tag)
        assert (received.status, received.body, received.headers["retry-after"]) == (429, other, "7")
        row = proxy.row(tag)
    assert (row["end_reason"], row["http_status"], row["error_type"]) == ("http_error", 429, "insufficient_quota")
    assert feed.requests[1] == ORIGINAL


def test_an_upstream_that_breaks_at_the_second_try_leaves_the_refusal(start: Start, tag: str) -> None:
    """The client gets the answer that there is; a refusal is better than a broken connection."""
    broken = SSE_HEAD + b"content-length: 1000\r\n\r\ndata: {"

    def break_off() -> Iterator[bytes]:
        yield broken
        raise ConnectionError

    with running_feed(refusing(break_off)) as feed:
        proxy = start(f"reverse:{feed.url}")
        received = call(proxy.port, ORIGINAL, x_usage_tag=tag)
        assert (received.status, received.body) == (400, REFUSAL)
        row = proxy.row(tag)
    assert (row["end_reason"], row["http_status"], row["retried"]) == ("http_error", 400, 0)


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_client_that_leaves_takes_the_second_try_with_it(start: Start, how: str, tag: str) -> None:
    asked_again = threading.Event()

    def endless() -> Iterator[bytes]:
        asked_again.set()
        yield SSE_HEAD + b"transfer-encoding: chunked\r\n\r\n"
        while True:
            time.sleep(0.01)  # an upstream notices that nobody listens when it writes
            yield b"c\r\n: still here\r\n"

    with running_feed(refusing(endless)) as feed:
        proxy = start(f"reverse:{feed.url}")
        client = Http1(proxy.port).post(ORIGINAL, CHAT, x_usage_tag=tag)
        assert asked_again.wait(10)
        client.leave(how)
        assert feed.hung_up.acquire(timeout=10), "the second try's upstream was left open"
        row = proxy.row(tag)
        assert (row["status"], row["end_reason"]) == ("aborted", "client_disconnected")


def test_several_at_once_are_all_answered(start: Start) -> None:
    with running_feed(refusing(lambda: chunked(FRAMES))) as feed:
        proxy = start(f"reverse:{feed.url}")
        with ThreadPoolExecutor(8) as pool:
            received = list(pool.map(lambda _: call(proxy.port, ORIGINAL), range(8)))
        assert {(each.status, each.body) for each in received} == {(200, b"".join(FRAMES))}
        rows = proxy.ended(8)
        assert {(row["status"], row["retried"]) for row in rows} <= {("ok", 0), ("ok", 1)}
        answered = len(feed.requests)
        assert call(proxy.port, ORIGINAL).status == 200
        assert feed.requests[answered:] == [ORIGINAL]


@pytest.mark.parametrize("days", [-1, 1])
def test_what_was_learned_expires(start: Start, tmp_path: Path, days: int) -> None:
    """In a database, for the next start, and for a proxy that runs on. Then the host is asked again."""
    db = tmp_path / "usage.db"
    with running_feed(refusing(lambda: chunked(FRAMES))) as feed:
        first = start(f"reverse:{feed.url}", usage_db=db)
        assert call(first.port, ORIGINAL).body == b"".join(FRAMES)
        assert first.stop() == 0
        expires = (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        with closing(sqlite3.connect(db)) as other, other:
            assert other.execute("UPDATE refusals SET expires_at = ?", (expires,)).rowcount == 1
        asked = len(feed.requests)
        again = start(f"reverse:{feed.url}", usage_db=db)
        assert call(again.port, ORIGINAL).body == b"".join(FRAMES)
        touched = [b"stream_options" in body for body in feed.requests[asked:]]
        assert touched == ([False] if days > 0 else [True, False])
        again.ended(2)
        with closing(sqlite3.connect(db)) as other:
            ((until,),) = other.execute("SELECT expires_at FROM refusals").fetchall()
        assert until == expires if days > 0 else until > expires


def test_other_addons_do_not_see_the_second_try(upstream: Upstream, start: Start, tmp_path: Path) -> None:
    """A flow file has one flow, with the answer that the client got."""
    flows = tmp_path / "flows"
    proxy = start(f"reverse:{upstream.url}", arguments=["-w", str(flows)])
    call(proxy.port, ORIGINAL, x_upstream="chunks=1;refuse=openai")
    assert proxy.stop() == 0
    again = Mitmdump(tmp_path / "again", arguments=["-nr", str(flows)])
    assert again.wait() == 0
    (row,) = again.rows()
    assert row["http_status"] == 200


def test_a_refusal_to_a_json_request_is_not_ours(start: Start, tag: str) -> None:
    """Nothing was added to a request without `stream`, so nothing is tried again."""
    with running_feed(lambda _: iter(REFUSED)) as feed:
        proxy = start(f"reverse:{feed.url}")
        assert call(proxy.port, STREAM | {"stream": False}, x_usage_tag=tag).status == 400
        assert len(feed.requests) == 1
        assert proxy.row(tag)["retried"] == 0


def test_a_refusal_of_the_original_too_is_the_answer(start: Start, tag: str) -> None:
    """An echo of the words is no reason to try for ever."""

    def answer(_: bytes) -> Iterator[bytes]:
        yield from REFUSED

    feeds: list[Feed] = []
    with running_feed(answer) as feed:
        feeds.append(feed)
        proxy = start(f"reverse:{feed.url}")
        received = call(proxy.port, ORIGINAL, x_usage_tag=tag)
        assert (received.status, received.body) == (400, REFUSAL)
        assert len(feed.requests) == 2
        assert proxy.row(tag)["end_reason"] == "http_error"
