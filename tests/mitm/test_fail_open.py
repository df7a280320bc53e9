"""A bug of ours, at any hook or chunk, costs the client nothing, and the log one entry.

One function of the addon after the other is made to raise, and calls of all kinds go through. (The catch-all that the
fuzzers look for is at work here.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.client import CHAT, STREAM, WHOLE, Http1
from tests.proxy import USAGE, Mitmdump, running_mitmdump

from usagetap.upstream.server import Upstream

BREAK = Path(__file__).parent / "scripts" / "break.py"
EDITED = json.dumps(STREAM)[:-1].encode() + b',"stream_options":{"include_usage":true}}'

TARGETS = [
    "usagetap.dialects.openai_chat.OpenAIChat.matches",
    "usagetap.dialects.openai_chat.OpenAIChat.model",
    "usagetap.dialects.openai_chat.OpenAIChat.observe",
    "usagetap.dialects.openai_chat.OpenAIChat.observe_headers",
    "usagetap.dialects.openai_chat.OpenAIChat.weigh",
    "usagetap.encoding.Decoder.feed",
    "usagetap.framing._Holding.finish",
    "usagetap.framing.Sse.payload",
    "usagetap.framing.Sse.take",
    "usagetap.mitm.edits.apply",
    "usagetap.mitm.edits.edit",
    "usagetap.mitm.exchange.begin",
    "usagetap.mitm.recording.Recording.fingerprint",
    "usagetap.mitm.recording.Recording.put",
    "usagetap.mitm.recording.current",
    "usagetap.mitm.retry.ask_again",
    "usagetap.mitm.tap.Tap._outgoing",
    "usagetap.mitm.tap._dialect",
    "usagetap.mitm.tap._streams",
    "usagetap.mitm.tap.blames_us",
    "usagetap.mitm.tap.conclude",
    "usagetap.mitm.tap.cut_of",
    "usagetap.mitm.tap.keep_whole_once_shown",
    "usagetap.mitm.tap.headers_of",
    "usagetap.mitm.tap.killed",
    "usagetap.mitm.tap.open_row",
    "usagetap.mitm.tap.plain_body",
    "usagetap.mitm.tap.provider",
    "usagetap.mitm.tap.request_of",
    "usagetap.mitm.tap.take_read",
    "usagetap.mitm.tap.tap_response",
    "usagetap.mitm.tap.timed",
    "usagetap.reader.Reader.__init__",
    "usagetap.reader.Reader._events",
    "usagetap.reader.Reader._identity",
    "usagetap.reader.Reader._observe",
    "usagetap.reader.Reader.feed",
    "usagetap.reader.Reader.finish",
    "usagetap.reader.Reader.tap",
    "usagetap.rewrite.Stripper.feed",
    "usagetap.rewrite._is_silent",
    "usagetap.rewrite.is_usage_frame",
    "usagetap.skim.Skim.learn",
    "usagetap.skim.Skim.past",
]

WORDS = (
    "chunks=6",
    "chunks=6;slice=1",
    "chunks=3;encoding=gzip;stubborn",
    "chunks=6;crlf",
    "refuse=openai",
    "status=500",
)


@pytest.fixture(scope="module")
def proxy(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mitmdump]:
    with running_mitmdump(
        tmp_path_factory.mktemp("fail_open"),
        f"reverse:{upstream.url}",
        scripts=[BREAK, USAGE],
        usage_strip_frame="injected",
    ) as running:
        yield running
        assert sum("unrecorded from here" in said for said in running.lines) <= len(TARGETS) * (2 * len(WORDS) + 1)
        assert [said for said in running.lines if "Addon error" in said or "has crashed" in said] == []


def without_usage_frame(body: bytes) -> bytes:
    end = b"\r\n\r\n" if b"\r\n" in body else b"\n\n"
    return end.join(frame for frame in body.split(end) if b'"usage":{' not in frame)


@pytest.mark.parametrize("target", TARGETS)
def test_broken(proxy: Mitmdump, upstream: Upstream, target: str) -> None:
    for words in WORDS:
        for body in (STREAM, WHOLE):
            before = len(upstream.requests)
            with Http1(proxy.port) as line:
                received = line.post(body, CHAT, x_upstream=words, x_break=target).read()
            arrived = upstream.requests[before:]
            sent = bytes(arrived[-1].sent)
            assert received.ending == "complete", words
            assert received.status == arrived[-1].status
            assert received.body in (sent, without_usage_frame(sent)), words
            assert {each.body for each in arrived} <= {EDITED, json.dumps(body).encode()}
    before = len(upstream.requests)
    with Http1(proxy.port) as line:
        line.post(STREAM, CHAT, x_upstream="chunks=9;hold=3", x_break=target)
        assert upstream.wait_for(before + 1)
    assert upstream.requests[before].done.wait(5)
    with Http1(proxy.port) as line:  # heals
        line.post(STREAM, CHAT, x_upstream="chunks=1", x_usage_tag=f"after-{target}").read()
    assert proxy.row(f"after-{target}")["status"] == "ok"


def test_what_broke_does_not_stay_open(upstream: Upstream, start: Callable[..., Mitmdump]) -> None:
    """Whatever was opened has an end, if only `proxy_stopped` with our name as the error's type."""
    proxy = start(f"reverse:{upstream.url}", scripts=[BREAK, USAGE])
    for target in TARGETS:
        with Http1(proxy.port) as line:
            line.post(STREAM, CHAT, x_upstream="chunks=3", x_break=target, x_usage_tag=target).read()
    assert proxy.stop() == 0
    assert [row["tag"] for row in proxy.rows("status = 'open'")] == []


READ = "usagetap.reader.Reader"


@pytest.mark.parametrize(
    ("target", "ends"), [(f"{READ}.finish", "complete"), ("usagetap.mitm.tap.conclude", "complete")]
)
def test_a_row_that_cannot_be_concluded_ends_and_says_so(
    proxy: Mitmdump, upstream: Upstream, tag: str, target: str, ends: str
) -> None:
    with Http1(proxy.port) as line:
        line.post(STREAM, CHAT, x_upstream="chunks=3", x_break=target, x_usage_tag=tag).read()
    row = proxy.row(tag)
    assert (row["status"], row["end_reason"], row["truncated"]) == ("ok", ends, 1)
    assert row["ended_at"]


@pytest.mark.parametrize("target", [f"{READ}.__init__", f"{READ}.tap", "usagetap.mitm.tap.provider"])
def test_a_stream_that_cannot_be_read_streams_all_the_same(
    proxy: Mitmdump, upstream: Upstream, tag: str, target: str
) -> None:
    before = len(upstream.requests)
    with Http1(proxy.port) as line:
        line.post(STREAM, CHAT, x_upstream="chunks=9;hold=3", x_break=target, x_usage_tag=tag)
        assert line.read(lambda got: got.body)  # else it would wait for the whole
        upstream.release()
        received = line.read()
    assert received.body == bytes(upstream.requests[before].sent)
    assert proxy.row(tag)["truncated"] == 1
