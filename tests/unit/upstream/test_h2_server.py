"""HTTP/2: streams side by side, flow control, and each way to break."""

from __future__ import annotations

import json
import socket
import ssl
from contextlib import contextmanager

import h2.config
import h2.connection
import h2.events
import pytest

BODY = json.dumps({"model": "m", "messages": [], "stream": True}).encode()


class Client:
    """One HTTP/2 connection that writes down all events."""

    def __init__(self, line):
        self.line = line
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.events = []
        self.closed = False
        self.flush()

    def flush(self):
        self.line.sendall(self.h2.data_to_send())

    def ask(self, words="", body=BODY):
        number = self.h2.get_next_available_stream_id()
        path = [(":path", "/v1/chat/completions"), (":authority", "x"), (":scheme", "https")]
        self.h2.send_headers(number, [(":method", "POST"), *path, ("x-upstream", words)])
        self.h2.send_data(number, body, end_stream=True)
        self.flush()
        return number

    def read_until(self, *kinds):
        while not self.closed and not any(isinstance(event, kinds) for event in self.events):
            try:
                received = self.line.recv(65536)
                for event in self.h2.receive_data(received):
                    self.events.append(event)
                    if isinstance(event, h2.events.DataReceived):
                        self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self.flush()
                self.closed = not received
            except (ConnectionError, ssl.SSLError):
                self.closed = True

    def of(self, kind, number=None):
        return [e for e in self.events if isinstance(e, kind) and number in (None, getattr(e, "stream_id", None))]

    def body(self, number=None):
        return b"".join(event.data for event in self.of(h2.events.DataReceived, number))


@contextmanager
def connected(up):
    with socket.create_connection((up.host, up.port), timeout=10) as line:
        if not up.tls:
            yield Client(line)
            return
        context = ssl.create_default_context(cadata=up.certificate.decode())
        context.set_alpn_protocols(["h2"])
        with context.wrap_socket(line, server_hostname="localhost") as wrapped:
            yield Client(wrapped)


ENDS = (h2.events.StreamEnded, h2.events.StreamReset, h2.events.ConnectionTerminated)


@pytest.mark.parametrize("fixture", ["upstream", "tls_upstream"])
def test_a_stream_over_tls_and_with_prior_knowledge(fixture, request):
    up = request.getfixturevalue(fixture)
    with connected(up) as client:
        client.ask()
        client.read_until(*ENDS)
    exchange = up.requests[-1]
    assert exchange.done.wait(10)
    assert client.body() == bytes(exchange.sent)
    assert client.body().endswith(b"data: [DONE]\n\n")
    assert (exchange.version, exchange.method, exchange.path) == ("2", "POST", "/v1/chat/completions")
    assert (exchange.body, exchange.header("host")) == (BODY, "x")
    assert exchange.outcome == "complete"


def test_streams_run_side_by_side(tls_upstream):
    with connected(tls_upstream) as client:
        held, free = client.ask("hold=2"), client.ask()
        client.read_until(h2.events.StreamEnded)
        assert client.body(free).endswith(b"[DONE]\n\n")
        assert not client.of(h2.events.StreamEnded, held)
        tls_upstream.release()
        client.events.clear()
        client.read_until(h2.events.StreamEnded)
        assert client.body(held).endswith(b"[DONE]\n\n")


def test_the_clients_window_is_kept(tls_upstream):
    with connected(tls_upstream) as client:
        number = client.ask("size=40000;chunks=4")
        while len(client.body()) < 65535:
            client.events += client.h2.receive_data(client.line.recv(65536))
        assert len(client.body()) == 65535
        client.h2.acknowledge_received_data(65535, number)
        client.flush()
        client.read_until(h2.events.StreamEnded)
        assert client.body().endswith(b"[DONE]\n\n")


def test_trailers_hints_and_length(tls_upstream):
    with connected(tls_upstream) as client:
        client.ask("trailers;hints;framing=length")
        client.read_until(*ENDS)
    assert client.of(h2.events.InformationalResponseReceived)[0].headers[0] == (":status", "103")
    assert ("x-upstream-trailer", "yes") in client.of(h2.events.TrailersReceived)[0].headers
    assert ("content-length", str(len(client.body()))) in client.of(h2.events.ResponseReceived)[0].headers


@pytest.mark.parametrize(("cut", "code"), [("stream", 2), ("cancel", 8)])
def test_a_reset_stream_leaves_the_connection(tls_upstream, cut, code):
    with connected(tls_upstream) as client:
        client.ask(f"die=2;cut={cut}")
        client.read_until(*ENDS)
        assert client.of(h2.events.StreamReset)[0].error_code == code
        assert client.body().count(b"data: ") == 2
        client.events.clear()
        client.ask()
        client.read_until(*ENDS)
        assert client.body().endswith(b"[DONE]\n\n")


def test_goaway_ends_the_connection(tls_upstream):
    with connected(tls_upstream) as client:
        client.ask("die=2;cut=goaway")
        client.read_until(*ENDS)
        assert client.of(h2.events.ConnectionTerminated)[0].error_code == 11


def test_a_graceful_goaway_lets_the_stream_finish(tls_upstream):
    with connected(tls_upstream) as client:
        # h2 as a client refuses everything after a GOAWAY, so the frames are read raw
        client.ask("die=2;cut=graceful")
        raw = b""
        while b"[DONE]" not in raw:
            raw += client.line.recv(65536)
        assert b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" in raw


@pytest.mark.parametrize("cut", ["fin", "rst"])
def test_a_lost_connection(tls_upstream, cut):
    with connected(tls_upstream) as client:
        client.ask(f"die=2;cut={cut}")
        client.read_until(*ENDS)
        assert client.closed
        assert not client.of(h2.events.StreamEnded)
    assert tls_upstream.requests[-1].done.wait(10)
    assert tls_upstream.requests[-1].outcome == "cut"


def test_a_reset_after_the_end(tls_upstream):
    with connected(tls_upstream) as client:
        client.ask("cut=late_reset")
        raw = b""
        while b"\x00\x00\x04\x03\x00" not in raw:  # the head of a RST_STREAM frame
            raw += client.line.recv(65536)
        assert b"[DONE]" in raw


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_client_that_leaves_is_noticed(tls_upstream, how):
    count = len(tls_upstream.requests)
    with connected(tls_upstream) as client:
        number = client.ask("hold=1")
        exchange = tls_upstream.wait_for(count + 1)[-1]
        if how == "reset":
            client.h2.reset_stream(number, 8)
            client.flush()
            assert exchange.done.wait(10)
    assert exchange.done.wait(10)
    assert exchange.outcome == "client_gone"


def test_nonsense_ends_the_connection(upstream):
    with connected(upstream) as client:
        client.line.sendall(b"\x00" * 9)
        client.read_until(h2.events.StreamEnded)
        assert client.closed
