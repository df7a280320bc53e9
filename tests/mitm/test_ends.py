"""How every exchange ends: who left, how, when, and the row that tells it (mitmproxy-facts.md, A), under real sockets.

HTTP/1.1 to an HTTP/2 upstream does not occur: mitmproxy offers an upstream what its client speaks.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.client import CHAT, STREAM, Client, Http1, Http2, Received
from tests.proxy import USAGE, Mitmdump, errors_in, free_ports, running_mitmdump

from usagetap.upstream.exchange import Exchange
from usagetap.upstream.server import Upstream

SLOW = Path(__file__).parent / "scripts" / "slow.py"
KILL = Path(__file__).parent / "scripts" / "kill.py"


@dataclass
class Line:
    """A way through the proxy: client's protocol, upstream's protocol."""

    proxy: Mitmdump
    port: int
    client: type[Client]
    tls: bool
    upstream: Upstream

    def open(self) -> Client:
        return self.client(self.port, tls=self.tls)

    def ask(self, words: str, tag: str, body: Any = STREAM, **headers: str) -> tuple[Client, Exchange]:
        """Send a request and wait until it has reached the upstream."""
        before = len(self.upstream.requests)
        client = self.open().post(body, CHAT, x_upstream=words, x_usage_tag=tag, **headers)
        return client, self.upstream.wait_for(before + 1)[before]

    def whole(self, words: str, tag: str, **headers: str) -> Received:
        client, _ = self.ask(words, tag, **headers)
        with client:
            return client.read()


@pytest.fixture(scope="module")
def lines(
    upstream: Upstream,
    h2_upstream: Upstream,
    h1_tls_upstream: Upstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Line]]:
    folder = tmp_path_factory.mktemp("ends")
    plain, h2, h1_tls = (f"reverse:{one.url}" for one in (upstream, h2_upstream, h1_tls_upstream))
    scripts = {"scripts": [USAGE, KILL], "usage_estimate": "false"}
    with (
        running_mitmdump(folder / "eager", plain, h2, h1_tls, **scripts) as eager,
        # an eager proxy offers its client only what the upstream speaks
        running_mitmdump(folder / "lazy", h1_tls, h2, connection_strategy="lazy", **scripts) as lazy,
    ):
        yield {
            "h1-h1": Line(eager, eager.ports[0], Http1, False, upstream),
            "h1-h1 tls": Line(eager, eager.ports[2], Http1, True, h1_tls_upstream),
            "h2-h2": Line(eager, eager.ports[1], Http2, True, h2_upstream),
            "h2-h1": Line(lazy, lazy.ports[0], Http2, True, h1_tls_upstream),
            "h2-h2 lazy": Line(lazy, lazy.ports[1], Http2, True, h2_upstream),
        }
        for proxy in (eager, lazy):
            assert errors_in(proxy.log) == []


ALL = ("h1-h1", "h1-h1 tls", "h2-h2", "h2-h1", "h2-h2 lazy")
HTTP1_UP = ("h1-h1", "h1-h1 tls", "h2-h1")
HTTP2_UP = ("h2-h2", "h2-h2 lazy")


@pytest.fixture
def line(lines: dict[str, Line], request: pytest.FixtureRequest) -> Line:
    return lines[request.param]


def over(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("line", names, indirect=True)


def leaving(*names: str) -> pytest.MarkDecorator:
    """Each way through, with each way to leave that its client has."""
    ways = [(name, how) for name in names for how in ("fin", "rst", "cancel" if name.startswith("h2") else "half")]
    return pytest.mark.parametrize(("line", "how"), ways, indirect=["line"])


def frames(count: int) -> Callable[[Received], bool]:
    return lambda received: received.body.count(b"\n\n") >= count


# -- the client


@leaving(*ALL)
def test_client_gone_before_headers(line: Line, how: str, tag: str) -> None:
    client, exchange = line.ask("silent", tag)
    with client:
        client.leave(how)
        row = line.proxy.row(tag)
    assert (row["status"], row["end_reason"]) == ("aborted", "client_disconnected")
    assert (row["http_status"], row["input_tokens"], row["usage_quality"]) == (None, None, "missing")
    assert exchange.done.wait(5)
    assert exchange.outcome == "client_gone"


@leaving(*ALL)
def test_client_gone_in_mid_stream(line: Line, how: str, tag: str) -> None:
    client, exchange = line.ask("chunks=20;hold=4", tag)
    with client:
        client.read(frames(4))
        client.leave(how)
        row = line.proxy.row(tag)
    assert (row["status"], row["end_reason"]) == ("aborted", "client_disconnected")
    assert (row["http_status"], row["response_model"], row["frames"]) == (200, "gpt-4o-mini", 4)
    assert (row["input_tokens"], row["output_tokens"], row["usage_quality"]) == (None, None, "missing")
    assert exchange.done.wait(5)
    assert exchange.outcome == "client_gone"


@leaving(*ALL)
def test_client_gone_after_done_is_ok(line: Line, how: str, tag: str) -> None:
    """openai-python closes right after [DONE], before the body's terminator: mitmproxy says `error`, we say `ok`."""
    client, _ = line.ask("chunks=3;cut=silence", tag)
    with client:
        client.read(lambda received: b"[DONE]" in received.body)
        client.leave(how)
        row = line.proxy.row(tag)
    assert (row["status"], row["end_reason"], row["usage_quality"]) == ("ok", "complete", "exact")
    assert (row["input_tokens"], row["output_tokens"]) == (11, 3)


@over(*ALL)
def test_client_gone_after_usage_but_before_done(line: Line, tag: str) -> None:
    """Finish reason and usage are the end; a client that stops reading there has had everything."""
    client, _ = line.ask("chunks=3;no_done;cut=silence", tag)
    client.read(lambda received: b'"usage":{' in received.body)
    client.leave()
    row = line.proxy.row(tag)
    assert (row["status"], row["end_reason"], row["output_tokens"]) == ("ok", "complete", 3)


@over("h1-h1", "h1-h1 tls")
def test_client_gone_while_it_sends_its_request_leaves_no_row(line: Line, tag: str) -> None:
    with line.open() as client:
        client.socket.sendall(b'POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n{"model"')
    line.whole("chunks=1", tag)
    assert line.proxy.row(tag)["status"] == "ok"
    assert line.proxy.rows("status = 'open'") == []


@over(*ALL)
def test_client_that_waits_for_a_silent_upstream_gives_up(line: Line, tag: str) -> None:
    client, _ = line.ask("chunks=9;die=3;cut=silence", tag)
    client.read(frames(3))
    client.leave()
    assert line.proxy.row(tag)["end_reason"] == "client_disconnected"


@over(*ALL)
def test_client_gone_from_a_json_answer(line: Line, tag: str) -> None:
    client, _ = line.ask("chunks=3;framing=length;die=0;cut=silence", tag, body=STREAM | {"stream": False})
    client.leave()
    row = line.proxy.row(tag)
    assert (row["status"], row["end_reason"]) == ("aborted", "client_disconnected")


@over("h1-h1", "h1-h1 tls", "h2-h2", "h2-h1")
def test_a_slow_client_gets_everything(line: Line, tag: str) -> None:
    """Some megabytes wait for it: in HTTP/1.1 with the upstream, in HTTP/2 in mitmproxy."""
    client, exchange = line.ask("chunks=3000;size=1000", tag)
    with client:
        client.read(frames(2))
        exchange.done.wait(1)  # nobody reads meanwhile
        received = client.read()
    assert received.ending == "complete"
    assert received.body == bytes(exchange.sent)
    row = line.proxy.row(tag)
    assert (row["end_reason"], row["output_tokens"]) == ("complete", 3000)


@over("h1-h1", "h2-h2")
def test_a_slow_client_that_leaves(line: Line, tag: str) -> None:
    client, _ = line.ask("chunks=100000;size=1000;delay=0.0005", tag)
    client.read(frames(2))
    client.leave("rst")
    assert line.proxy.row(tag)["end_reason"] == "client_disconnected"


@pytest.mark.parametrize(("where", "ends"), [("request", "client_disconnected"), ("response", "complete")])
def test_client_gone_while_another_addon_takes_its_time(
    upstream: Upstream, start: Callable[..., Mitmdump], where: str, ends: str, tag: str
) -> None:
    """mitmproxy has no `error` for a client that leaves in a `response` hook: all of it had passed."""
    proxy = start(f"reverse:{upstream.url}", scripts=[USAGE, SLOW])
    client = Http1(proxy.port).post(x_upstream="chunks=3", x_usage_tag=tag, x_slow=where)
    if where == "request":
        assert wait_until(lambda: proxy.rows("tag = ?", tag))
    else:
        client.read(lambda received: b"[DONE]" in received.body)
    client.leave()
    assert proxy.row(tag)["end_reason"] == ends
    assert errors_in(proxy.log) == []


# -- the upstream


@pytest.mark.parametrize(
    "words", ["cut=fin", "cut=rst", "cut=bad_chunk", "framing=length;cut=fin", "framing=close;cut=fin"]
)
@over(*HTTP1_UP)
def test_upstream_cut_in_mid_stream(line: Line, words: str, tag: str) -> None:
    """A close-delimited body ends politely, however it ends: only the payload shows that it was cut."""
    received = line.whole(f"chunks=9;die=4;{words}", tag)
    row = line.proxy.row(tag)
    assert (row["status"], row["end_reason"]) == ("error", "upstream_disconnected")
    assert (row["http_status"], row["frames"], row["usage_quality"]) == (200, 4, "missing")
    assert received.body.count(b"\n\n") == 4


@pytest.mark.parametrize("cut", ["stream", "cancel", "goaway", "graceful", "fin", "rst"])
@over(*HTTP2_UP)
def test_http2_upstream_cut_in_mid_stream(line: Line, cut: str, tag: str) -> None:
    """RST_STREAM reads `stream reset by client` in mitmproxy's words, whoever sent it."""
    line.whole(f"chunks=9;die=4;cut={cut}", tag)
    row = line.proxy.row(tag)
    assert (row["status"], row["end_reason"]) == ("error", "upstream_disconnected")


@over(*HTTP2_UP)
def test_reset_without_error_after_the_end_is_none(line: Line, tag: str) -> None:
    line.whole("chunks=2;cut=late_reset", tag)
    assert line.proxy.row(tag)["end_reason"] == "complete"


@pytest.mark.parametrize("words", ["die=-1;cut=fin", "die=-1;cut=rst", "cut=half_head"])
@over(*HTTP1_UP)
def test_upstream_cut_before_headers(line: Line, words: str, tag: str) -> None:
    received = line.whole(words, tag)
    row = line.proxy.row(tag)
    assert (row["status"], row["end_reason"]) == ("error", "upstream_disconnected")
    assert received.status == 502


@pytest.mark.parametrize("words", ["die=-1;cut=stream", "die=-1;cut=cancel", "die=-1;cut=goaway", "die=-1;cut=fin"])
@over(*HTTP2_UP)
def test_http2_upstream_cut_before_headers(line: Line, words: str, tag: str) -> None:
    line.whole(words, tag)
    row = line.proxy.row(tag)
    assert (row["status"], row["end_reason"]) == ("error", "upstream_disconnected")


@over(*ALL)
def test_cut_after_usage_keeps_the_count(line: Line, tag: str) -> None:
    """Continuous usage, then a cut: the provider's numbers, as a lower bound."""
    line.whole("chunks=3;no_done;die=6;cut=fin", tag)
    row = line.proxy.row(tag)
    assert (row["input_tokens"], row["output_tokens"]) == (11, 3)


@over(*ALL)
def test_error_frame_in_a_200_stream(line: Line, tag: str) -> None:
    line.whole("chunks=9;error=3", tag)
    row = line.proxy.row(tag)
    assert (row["status"], row["end_reason"], row["http_status"]) == ("error", "upstream_error", 200)
    assert row["error_type"]
    assert row["error_message"]


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
@over("h1-h1", "h2-h2")
def test_http_errors(line: Line, status: int, tag: str) -> None:
    received = line.whole(f"status={status}", tag)
    row = line.proxy.row(tag)
    assert received.status == status
    assert (row["status"], row["end_reason"], row["http_status"]) == ("error", "http_error", status)
    assert row["error_message"] == f"The fake upstream was told to answer {status}."
    assert row["usage_quality"] is None


@over(*ALL)
def test_usage_that_never_comes(line: Line, tag: str) -> None:
    line.whole("chunks=3;no_usage", tag)
    row = line.proxy.row(tag)
    assert (row["status"], row["end_reason"], row["usage_quality"]) == ("error", "no_usage", "missing")
    assert (row["input_tokens"], row["output_tokens"], row["cost"]) == (None, None, None)


@over(*ALL)
def test_no_done_but_a_finish_and_a_clean_end(line: Line, tag: str) -> None:
    line.whole("chunks=3;no_done", tag)
    assert line.proxy.row(tag)["end_reason"] == "complete"


@over("h1-h1")
def test_early_hints_are_an_end(line: Line, tag: str) -> None:
    """mitmproxy takes a 103 for the answer and drops the 200 (mitmproxy#2229): the client hangs, with or without us."""
    client, exchange = line.ask("chunks=1;hints", tag)
    row = line.proxy.row(tag)
    assert (row["status"], row["end_reason"], row["http_status"]) == ("error", "upstream_disconnected", 103)
    client.leave()
    assert exchange.done.wait(5)


@over(*HTTP2_UP)
@pytest.mark.parametrize("words", ["hints", "trailers", "hints;trailers"])
def test_http2_passes_hints_and_trailers(line: Line, words: str, tag: str) -> None:
    received = line.whole(f"chunks=3;{words}", tag)
    assert (received.status, received.ending) == (200, "complete")
    assert received.body == bytes(line.upstream.requests[-1].sent)
    row = line.proxy.row(tag)
    assert (row["end_reason"], row["http_status"], row["output_tokens"]) == ("complete", 200, 3)


def test_http1_trailers_are_no_worse_with_us(start: Callable[..., Mitmdump], upstream: Upstream, tag: str) -> None:
    """mitmproxy has none over HTTP/1 (mitmproxy#2474): its client hangs, with or without us. The row is whole."""
    proxy = start(f"reverse:{upstream.url}")
    with Http1(proxy.port) as client:
        before = len(upstream.requests)
        client.post(x_upstream="chunks=3;trailers", x_usage_tag=tag)
        received = client.read(lambda got: b"[DONE]" in got.body)
        assert received.body == bytes(upstream.requests[before].sent)
    row = proxy.row(tag)
    assert (row["status"], row["end_reason"], row["output_tokens"]) == ("ok", "complete", 3)


# -- what was never counted


@pytest.mark.parametrize("words", ["chunks=40;hold=20", "chunks=40;hold=20;encoding=gzip;stubborn"])
def test_a_cut_stream_is_estimated_and_says_so(proxy: Mitmdump, words: str, tag: str) -> None:
    """Estimates have columns of their own; the provider's stay empty, and so does the exact cost."""
    with Http1(proxy.port) as client:
        client.post(STREAM, CHAT, x_upstream=words, x_usage_tag=tag).read(lambda got: len(got.body) > 300)
    # the row is safe first; the first count loads the vocabulary, and is added when it is there
    (row,) = proxy.ended(1, "tag = ? AND estimated_output_tokens IS NOT NULL", tag)
    assert (row["end_reason"], row["usage_quality"]) == ("client_disconnected", "estimated")
    assert (row["input_tokens"], row["output_tokens"], row["total_tokens"]) == (None, None, None)
    assert row["estimated_input_tokens"] > 0
    assert row["estimated_output_tokens"] > 0
    assert row["cost_source"] in (None, "estimated")


def test_a_whole_stream_is_not_estimated(proxy: Mitmdump, tag: str) -> None:
    with Http1(proxy.port) as client:
        client.post(STREAM, CHAT, x_upstream="chunks=3", x_usage_tag=tag).read()
    row = proxy.row(tag)
    assert (row["usage_quality"], row["estimated_output_tokens"]) == ("exact", None)


# -- nobody there


def test_connection_refused(start: Callable[..., Mitmdump], tag: str) -> None:
    (nobody,) = free_ports(1)
    proxy = start(f"reverse:http://127.0.0.1:{nobody}", connection_strategy="lazy")
    with Http1(proxy.port) as client:
        assert client.post(x_usage_tag=tag).read().status == 502
    row = proxy.row(tag)
    assert (row["status"], row["end_reason"]) == ("error", "connect_failed")
    assert "Connect call failed" in row["error_message"]


def test_connection_refused_before_there_is_a_request(start: Callable[..., Mitmdump]) -> None:
    """In reverse mode mitmproxy connects first, and closes on the client: there never is a flow, so there is no row."""
    (nobody,) = free_ports(1)
    proxy = start(f"reverse:http://127.0.0.1:{nobody}")
    with Http1(proxy.port) as client:
        assert client.post().read().ending in ("fin", "rst")
    proxy.wait_for_line("Connect call failed")
    assert proxy.stop() == 0
    assert proxy.rows() == []
    assert errors_in(proxy.log) == []


def test_name_that_does_not_resolve(start: Callable[..., Mitmdump], tag: str) -> None:
    proxy = start("reverse:http://no-such-host.invalid", connection_strategy="lazy")
    with Http1(proxy.port) as client:
        assert client.post(x_usage_tag=tag).read().status == 502
    assert proxy.row(tag)["end_reason"] == "connect_failed"


def test_client_gone_while_the_connection_is_being_made(start: Callable[..., Mitmdump], tag: str) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        # a full backlog: the kernel answers no further SYN
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(deaf.getsockname())
        proxy = start(f"reverse:http://127.0.0.1:{deaf.getsockname()[1]}", connection_strategy="lazy")
        client = Http1(proxy.port).post(x_usage_tag=tag)
        assert wait_until(lambda: proxy.rows("tag = ?", tag))
        client.leave()
        assert proxy.row(tag)["end_reason"] == "client_disconnected"
        for one in waiting:
            one.close()


def wait_until(reached: Callable[[], object], timeout: float = 10) -> bool:
    deadline = time.monotonic() + timeout
    while not reached():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


# -- by hand, by the proxy


@over(*ALL)
def test_killed_before_it_leaves(line: Line, tag: str) -> None:
    with line.open() as client:
        client.post(x_usage_tag=tag, x_kill="0").read()
    row = line.proxy.row(tag)
    assert (row["status"], row["end_reason"]) == ("aborted", "killed")


@over(*ALL)
def test_killed_in_mid_stream_then_cut(line: Line, tag: str) -> None:
    """mitmproxy lets a killed stream go on; when it breaks off, the kill is the reason."""
    line.whole("chunks=9;die=4;cut=fin", tag, x_kill="2")
    row = line.proxy.row(tag)
    assert (row["status"], row["end_reason"]) == ("aborted", "killed")


@over(*ALL)
def test_killed_in_mid_stream_but_it_came_to_its_end(line: Line, tag: str) -> None:
    line.whole("chunks=3", tag, x_kill="2")
    assert line.proxy.row(tag)["end_reason"] == "complete"


def test_mitmproxys_own_idle_limit_is_not_the_client(
    upstream: Upstream, start: Callable[..., Mitmdump], tag: str
) -> None:
    proxy = start(f"reverse:{upstream.url}", tcp_timeout=1)
    with Http1(proxy.port) as client:
        client.post(x_upstream="chunks=9;die=2;cut=silence", x_usage_tag=tag).read()
    row = proxy.row(tag)
    assert (row["status"], row["end_reason"]) == ("error", "idle_timeout")


@pytest.mark.parametrize("protocol", ["h1", "h2"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_proxy_told_to_stop(
    upstream: Upstream,
    h2_upstream: Upstream,
    start: Callable[..., Mitmdump],
    how: signal.Signals,
    protocol: str,
    tag: str,
) -> None:
    up, client = (upstream, Http1) if protocol == "h1" else (h2_upstream, Http2)
    proxy = start(f"reverse:{up.url}")
    with client(proxy.port, tls=protocol == "h2") as line:
        line.post(x_upstream="chunks=9;hold=3").read(frames(3))
        assert proxy.stop(how) == 0
    (row,) = proxy.rows()
    assert (row["status"], row["end_reason"]) == ("error", "proxy_stopped")
    assert row["frames"] == 3


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("protocol", ["h1", "h2"])
def test_who_left_before_the_stop_is_not_stopped(
    upstream: Upstream,
    h2_upstream: Upstream,
    start: Callable[..., Mitmdump],
    protocol: str,
    how: str,
    tag: str,
) -> None:
    """A program that ends together with its proxy, whose proxy is too busy to see which was first: it stands still."""
    up, client = (upstream, Http1) if protocol == "h1" else (h2_upstream, Http2)
    proxy = start(f"reverse:{up.url}")
    with client(proxy.port, tls=protocol == "h2") as line:
        line.post(x_upstream="chunks=9;hold=3").read(frames(2))
        proxy.process.send_signal(signal.SIGSTOP)
        line.leave(how)
        proxy.process.send_signal(signal.SIGTERM)
        proxy.process.send_signal(signal.SIGCONT)
        assert proxy.stop(signal.SIGTERM) == 0
    (row,) = proxy.rows()
    assert (row["status"], row["end_reason"]) == ("aborted", "client_disconnected")


@pytest.mark.parametrize("protocol", ["h1", "h2"])
def test_proxy_killed_in_mid_stream(
    upstream: Upstream, h2_upstream: Upstream, start: Callable[..., Mitmdump], protocol: str, tmp_path: Path, tag: str
) -> None:
    up, client = (upstream, Http1) if protocol == "h1" else (h2_upstream, Http2)
    db = tmp_path / "usage.db"
    proxy = start(f"reverse:{up.url}", usage_db=db)
    with client(proxy.port, tls=protocol == "h2") as line:
        line.post(x_upstream="chunks=9;hold=3", x_usage_tag=tag).read(frames(2))
        assert wait_until(lambda: proxy.rows("tag = ?", tag))
        proxy.stop(signal.SIGKILL)
    assert proxy.rows()[0]["status"] == "open"
    again = start(f"reverse:{up.url}", usage_db=db)
    row = again.row(tag)
    assert (row["status"], row["end_reason"]) == ("error", "proxy_died")
    assert row["usage_quality"] in (None, "missing")
