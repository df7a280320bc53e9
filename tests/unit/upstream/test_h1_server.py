"""Every byte of HTTP/1.1: framings, cuts, reuse, and clients that leave."""

from __future__ import annotations

import gzip
import json
import socket

import pytest

from usagetap.upstream.h1_server import head_bytes


def test_chunked_one_frame_a_chunk_and_a_terminator(upstream, ask):
    answer = ask(upstream)
    assert "transfer-encoding: chunked" in answer.head
    assert answer.body.endswith(b"\r\n0\r\n\r\n")
    assert all(chunk.endswith(b"\n\n") for chunk in answer.chunks[:-1])
    assert upstream.requests[-1].sent == b"".join(answer.chunks)


def test_content_length_and_close_delimited(upstream, ask):
    counted = ask(upstream, "framing=length")
    assert f"content-length: {len(counted.body)}\r\n" in counted.head + "\r\n"
    closed = ask(upstream, "framing=close")
    assert "connection: close" in closed.head
    assert "content-length" not in closed.head
    assert closed.body.endswith(b"data: [DONE]\n\n")


def test_missing_terminator(upstream, ask):
    answer = ask(upstream, "cut=fin")
    assert not answer.reset
    assert answer.body.endswith(b"data: [DONE]\n\n\r\n")


def test_short_content_length(upstream, ask):
    answer = ask(upstream, "framing=length;die=2")
    length = int(answer.head.partition("content-length: ")[2].split("\r\n")[0])
    assert 0 < len(answer.body) < length


def test_malformed_chunk_header(upstream, ask):
    assert ask(upstream, "die=2;cut=bad_chunk").body.endswith(b"zz\r\nnonsense\r\n")


def test_half_a_head_and_none_at_all(upstream, ask):
    assert ask(upstream, "cut=half_head").bytes == b"HTTP/1.1 200 O"
    assert ask(upstream, "die=-1").bytes == b""


def test_reset(upstream, ask):
    assert ask(upstream, "die=2;cut=rst").reset
    assert upstream.requests[-1].done.wait(10)
    assert upstream.requests[-1].outcome == "cut"


def test_early_hints_come_before_the_head(upstream, ask):
    answer = ask(upstream, "hints")
    assert answer.status == 103
    assert answer.body.startswith(b"HTTP/1.1 200 OK\r\n")


def test_trailers(upstream, ask):
    assert ask(upstream, "trailers").body.endswith(b"0\r\nx-upstream-trailer: yes\r\n\r\n")


def test_a_connection_serves_one_request_after_the_other(upstream):
    body = json.dumps({"model": "m@framing=length", "messages": []}).encode()
    request = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    with socket.create_connection((upstream.host, upstream.port), timeout=10) as line:
        for part in (request + request[:40], request[40:]):  # also pipelined, also in pieces
            line.sendall(part)
        received = b""
        while received.count(b"chat.completion") < 2:
            received += line.recv(65536)
    assert received.count(b"HTTP/1.1 200 OK") == 2
    first, second = upstream.requests[-2:]
    assert first.connection == second.connection


def test_chunked_and_compressed_request_bodies_arrive_raw(upstream, read_all):
    body = gzip.compress(json.dumps({"model": "zipped", "messages": []}).encode())
    lines = ["transfer-encoding: chunked", "content-encoding: gzip", "connection: close"]
    head = "\r\n".join(["POST /v1/chat/completions HTTP/1.1", *lines, "", ""]).encode()
    chunks = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:]))
    with socket.create_connection((upstream.host, upstream.port), timeout=10) as line:
        line.sendall(head + chunks + b"0\r\nx-trailer: 1\r\n\r\n")
        assert read_all(line).json["model"] == "zipped"
    assert upstream.requests[-1].body == body


def test_expect_continue(upstream):
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
    with socket.create_connection((upstream.host, upstream.port), timeout=10) as line:
        line.sendall(head)
        assert line.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        line.sendall(b"{}")
        assert line.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("words", ["silent", "hold=1", "die=1;cut=silence"])
@pytest.mark.parametrize("leave", ["close", "reset", "half-close"])
def test_a_client_that_leaves_is_noticed(upstream, words, leave):
    body = json.dumps({"model": f"m@{words}", "messages": [], "stream": True}).encode()
    request = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    count = len(upstream.requests)
    with socket.create_connection((upstream.host, upstream.port), timeout=10) as line:
        line.sendall(request)
        exchange = upstream.wait_for(count + 1)[-1]
        if leave == "reset":
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        elif leave == "half-close":
            line.shutdown(socket.SHUT_WR)
            assert exchange.done.wait(10)
    assert exchange.done.wait(10)
    assert exchange.outcome == "client_gone"


@pytest.mark.parametrize("nonsense", [b"hello\r\n\r\n", b"\r\n\r\n", b"GET / HTTP/1.1\r\nx: " + b"y" * (1 << 21)])
def test_nonsense_ends_the_connection(upstream, nonsense):
    with socket.create_connection((upstream.host, upstream.port), timeout=10) as line:
        try:
            line.sendall(nonsense)
            assert line.recv(1) == b""
        except ConnectionError:
            pass  # closed with our bytes unread


def test_head_bytes():
    assert head_bytes(200, [("a", "b")]) == b"HTTP/1.1 200 OK\r\na: b\r\n\r\n"
    assert head_bytes(418, []) == b"HTTP/1.1 418 Unknown\r\n\r\n"
