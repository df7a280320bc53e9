"""Every bound under real traffic: many streams, long sockets, large frames and bodies. Beyond it bytes pass, too."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from tests.client import CHAT, STREAM, WHOLE, Client, Http1
from tests.feed import SSE_HEAD, Feed, running_feed
from tests.proxy import Mitmdump, errors_in

from usagetap.rewrite import STRIP_LIMIT
from usagetap.upstream.server import Upstream

type Start = Callable[..., Mitmdump]

MIB = 1 << 20
BODY_LIMIT = ANSWER_LIMIT = 64 * MIB


# -- many at once


def test_hundreds_of_streams_at_once(upstream: Upstream, start: Start) -> None:
    """Each has its row from its request on, its own count at the end, and costs some tens of kilobytes meanwhile."""
    proxy = start(f"reverse:{upstream.url}")
    warm = 20
    with ExitStack() as stack:

        def open_lines(first: int, count: int) -> list[Client]:
            lines = [stack.enter_context(Http1(proxy.port, timeout=60)) for _ in range(count)]
            for number, line in enumerate(lines, first):
                line.post(STREAM, CHAT, x_upstream=f"chunks={2 + number % 7};hold=2", x_usage_tag=f"{number}")
            for line in lines:
                line.read(lambda got: got.body)
            return lines

        lines = open_lines(0, warm)
        before = proxy.rss
        lines += open_lines(warm, 300)
        assert (proxy.rss - before) / 300 < 256 << 10
        until = time.monotonic() + 10  # a row is written a moment later, on a busy machine some hundreds a good moment
        while len(proxy.rows("status = 'open'")) < warm + 300 and time.monotonic() < until:
            time.sleep(0.02)
        assert len(proxy.rows("status = 'open'")) == warm + 300
        upstream.release()
        for line in lines:
            assert line.read().ending == "complete"
        found = proxy.ended(warm + 300, timeout=30)
    assert {(int(row["tag"]), row["status"], row["output_tokens"]) for row in found} == {
        (number, "ok", 2 + number % 7) for number in range(warm + 300)
    }
    assert errors_in(proxy.log) == []


def test_a_long_socket_costs_flat_memory(upstream: Upstream, start: Start) -> None:
    """mitmproxy would keep every message; the last ones are kept."""
    from websockets.sync.client import connect

    turns, deltas = 40, 200
    proxy = start(f"reverse:{upstream.url}")
    headers = {"x-upstream": f"chunks={deltas};size=500"}
    with connect(f"ws://127.0.0.1:{proxy.port}/v1/responses", additional_headers=headers, max_size=None) as line:

        def ask() -> None:
            line.send(json.dumps({"type": "response.create", "model": "gpt-4o-mini", "input": "?"}))
            while json.loads(line.recv(timeout=20))["type"] != "response.completed":
                pass

        for _ in range(10):
            ask()
        before = proxy.rss
        for _ in range(turns):
            ask()
        grown = proxy.rss - before
    # untrimmed, 8,000 messages of some 700 bytes and their objects would be over 20 MiB
    assert grown < 10 * MIB, f"{grown / MIB:.1f} MiB"
    found = proxy.ended(10 + turns)
    assert {(row["status"], row["output_tokens"]) for row in found} == {("ok", deltas)}
    assert [row["turn"] for row in found] == list(range(1, 11 + turns))


# -- frames


@pytest.fixture(scope="module")
def small(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mitmdump]:
    """A proxy that parses frames of 64 KiB at most."""
    proxy = Mitmdump(tmp_path_factory.mktemp("small"), f"reverse:{upstream.url}", usage_frame_limit="64k")
    yield proxy.wait_until_listening()
    proxy.close()


def passed(proxy: Mitmdump, upstream: Upstream, tag: str, body: Any, words: str) -> dict[str, Any]:
    """One call that arrives byte for byte; its row."""
    before = len(upstream.requests)
    with Http1(proxy.port) as line:
        received = line.post(body, CHAT, x_upstream=words, x_usage_tag=tag).read()
    assert received.ending == "complete"
    assert received.body == bytes(upstream.requests[before].sent)
    return proxy.row(tag)


def test_a_frame_over_the_limit_is_skipped_and_flagged(small: Mitmdump, upstream: Upstream, tag: str) -> None:
    row = passed(small, upstream, tag, STREAM, "chunks=2;size=100000")
    assert (row["status"], row["output_tokens"], row["truncated"]) == ("ok", 2, 1)


@pytest.mark.parametrize("words", ["chunks=1;size=100000;slice=1000", "chunks=1;size=100000;encoding=gzip;stubborn"])
def test_also_in_pieces_and_compressed(small: Mitmdump, upstream: Upstream, tag: str, words: str) -> None:
    row = passed(small, upstream, tag, STREAM, words)
    assert (row["status"], row["output_tokens"], row["truncated"]) == ("ok", 1, 1)


def test_a_frame_below_it_is_read(small: Mitmdump, upstream: Upstream, tag: str) -> None:
    row = passed(small, upstream, tag, STREAM, "chunks=2;size=60000")
    assert (row["status"], row["output_tokens"], row["truncated"]) == ("ok", 2, 0)


def test_a_json_answer_over_it_is_no_count_and_no_error(small: Mitmdump, upstream: Upstream, tag: str) -> None:
    row = passed(small, upstream, tag, WHOLE, "chunks=2;size=100000")
    assert (row["status"], row["output_tokens"], row["truncated"]) == ("ok", None, 1)
    assert row["usage_quality"] in ("missing", "estimated")


# -- whole bodies


def test_answers_that_mitmproxy_streams_by_size_are_read(upstream: Upstream, start: Start) -> None:
    """Under `stream_large_bodies` a large JSON answer streams; it is counted all the same."""
    proxy = start(f"reverse:{upstream.url}", stream_large_bodies="1k")
    for number, framing in enumerate(("length", "chunked", "close")):
        row = passed(proxy, upstream, f"{number}", WHOLE, f"chunks=2;size=50000;framing={framing}")
        assert (row["status"], row["output_tokens"], row["truncated"]) == ("ok", 2, 0), framing
    assert passed(proxy, upstream, "sse", STREAM, "chunks=3")["output_tokens"] == 3


def test_a_request_over_the_bound_goes_as_it_is(proxy: Mitmdump, upstream: Upstream, tag: str) -> None:
    before = len(upstream.requests)
    body = json.dumps(STREAM)[:-1].encode() + b',"x":"' + b"a" * BODY_LIMIT + b'"}'
    with Http1(proxy.port, timeout=60) as line:
        received = line.post(body, CHAT, x_upstream="chunks=2", x_usage_tag=tag).read()
    assert received.ending == "complete"
    assert upstream.requests[before].body == body
    upstream.requests[before].body = b""
    row = proxy.row(tag)
    assert (row["status"], row["injected"], row["inject_skipped"]) == ("ok", 0, "too_large")


# -- what is held


@pytest.fixture
def gate() -> threading.Event:
    return threading.Event()


@pytest.fixture
def holding(gate: threading.Event) -> Iterator[Feed]:
    """A frame without choices, in two pieces with a wait between them."""

    def answer(_: bytes) -> Iterator[bytes]:
        yield SSE_HEAD + b"connection: close\r\n\r\n" + b'data: {"x":"' + b"a" * (STRIP_LIMIT + 1)
        gate.wait(20)
        yield b'"}\n\ndata: [DONE]\n\n'

    with running_feed(answer) as feed:
        yield feed
        gate.set()


def test_an_undecided_frame_is_held_up_to_its_bound_only(holding: Feed, gate: threading.Event, start: Start) -> None:
    """While frames are withheld, what may become the usage frame waits; not for ever."""
    proxy = start(f"reverse:{holding.url}", usage_strip_frame="always")
    with Http1(proxy.port) as line:
        line.post(STREAM, CHAT)
        assert len(line.read(lambda got: len(got.body) > STRIP_LIMIT).body) == STRIP_LIMIT + 13
        gate.set()
        line.socket.settimeout(10)
        assert line.read(lambda got: got.body.endswith(b"[DONE]\n\n"))


def test_a_second_answer_over_the_bound_leaves_the_refusal(start: Start) -> None:
    refusal = b'{"error":{"message":"Unknown parameter: stream_options"}}'
    asked: list[bytes] = []

    def answer(body: bytes) -> Iterator[bytes]:
        asked.append(body)
        if b"stream_options" in body:
            yield b"HTTP/1.1 400 Bad\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(refusal)
            yield refusal
        else:
            yield SSE_HEAD + b"content-length: %d\r\n\r\n" % (2 * ANSWER_LIMIT)
            for _ in range(2 * ANSWER_LIMIT // MIB):
                yield bytes(MIB)

    with running_feed(answer) as feed:
        proxy = start(f"reverse:{feed.url}")
        with Http1(proxy.port, timeout=60) as line:
            received = line.post(STREAM, CHAT, x_usage_tag="large").read()
        row = proxy.row("large")
    assert (received.status, received.body) == (400, refusal)
    assert len(asked) == 2
    assert (row["end_reason"], row["http_status"], row["retried"]) == ("http_error", 400, 0)
