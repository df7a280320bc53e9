"""`usage_idle_timeout`: a stream without frames is recorded, then cut loudly; comments are no frames."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import pytest
from tests.client import CHAT, STREAM, Http1, Http2
from tests.feed import chunked, running_feed
from tests.proxy import Mitmdump

from usagetap.upstream.server import Upstream

type Start = Callable[..., Mitmdump]

FRAME = b'data: {"id":"r","model":"m","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'


@pytest.mark.parametrize("client", [Http1, Http2])
def test_a_silent_stream_is_recorded_and_cut(
    upstream: Upstream, h2_upstream: Upstream, start: Start, client: type[Http1 | Http2], tag: str
) -> None:
    up = h2_upstream if client is Http2 else upstream
    proxy = start(f"reverse:{up.url}", usage_idle_timeout=1)
    before = len(up.requests)
    with client(proxy.port, tls=client is Http2) as line:
        received = line.post(STREAM, CHAT, x_upstream="chunks=9;die=3;cut=silence", x_usage_tag=tag).read()
    assert received.ending != "complete", "a cut, not an end"
    assert received.body.count(b"\n\n") == 3
    row = proxy.row(tag)
    assert (row["status"], row["end_reason"], row["frames"]) == ("error", "idle_timeout", 3)
    assert up.requests[before].done.wait(5)
    assert up.requests[before].outcome == "client_gone"


def test_comments_do_not_count(start: Start, tag: str) -> None:
    def keep_alive() -> Iterator[bytes]:
        yield FRAME
        while True:
            time.sleep(0.1)  # a keep-alive is a matter of time
            yield b": keep-alive\n\n"

    with running_feed(lambda _: chunked(keep_alive())) as feed:
        proxy = start(f"reverse:{feed.url}", usage_idle_timeout=1)
        with Http1(proxy.port) as line:
            received = line.post(STREAM, CHAT, x_usage_tag=tag).read()
        assert received.ending != "complete"
        assert b": keep-alive" in received.body
        assert proxy.row(tag)["end_reason"] == "idle_timeout"
        assert feed.hung_up.acquire(timeout=5)


def test_a_slow_stream_goes_on(start: Start, tag: str) -> None:
    """Twice the limit in all, never as long without a frame."""

    def slow() -> Iterator[bytes]:
        for _ in itertools.repeat(None, 8):
            time.sleep(0.3)
            yield FRAME
        yield FRAME.replace(b"null", b'"stop"')
        yield b"data: [DONE]\n\n"

    with running_feed(lambda _: chunked(slow())) as feed:
        proxy = start(f"reverse:{feed.url}", usage_idle_timeout=1.2, usage_include="off")
        with Http1(proxy.port) as line:
            assert line.post(STREAM, CHAT, x_usage_tag=tag).read().ending == "complete"
        assert proxy.row(tag)["end_reason"] == "complete"


def test_a_neighbour_on_the_same_http2_connection_is_not_harmed(h2_upstream: Upstream, start: Start) -> None:
    """One idle stream of two: recorded, and either reset alone or, as the log then says, left."""
    proxy = start(f"reverse:{h2_upstream.url}", usage_idle_timeout=1)
    with Http2(proxy.port) as line:
        line.post(STREAM, CHAT, x_upstream="chunks=9;die=2;cut=silence", x_usage_tag="idle")
        line.stream = 3
        line.post(STREAM, CHAT, x_upstream="chunks=14;delay=0.2", x_usage_tag="busy")
        received = line.read(lambda got: b"[DONE]" in got.body)
        assert b"[DONE]" in received.body
    assert proxy.row("idle")["end_reason"] == "idle_timeout"
    assert proxy.row("busy")["end_reason"] == "complete"
