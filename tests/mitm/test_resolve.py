"""A client hangs up, and the row gets the cost that the provider tells afterwards."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.client import STREAM, Http1
from tests.proxy import USAGE, Mitmdump

OPENROUTER = Path(__file__).parent / "scripts" / "openrouter_here.py"
KEY = "sk-or-v1-marked-secret-0123456789"
CHUNK = {
    "id": "gen-77",
    "object": "chat.completion.chunk",
    "model": "openai/gpt-4o-mini",
    "choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": None}],
}


class OpenRouter(BaseHTTPRequestHandler):
    """Streams until the client is gone; knows its generations from the second question on."""

    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        try:
            while not self.server.over.wait(0.02):
                self.wfile.write(f"data: {json.dumps(CHUNK)}\n\n".encode())
        except OSError:
            return

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["authorization"]))
        status = 404 if len(self.server.asked) == 1 else self.server.status
        self.send_response(status)
        self.end_headers()
        told = {"id": "gen-77", "total_cost": 0.00042, "native_tokens_prompt": 9, "native_tokens_completion": 33}
        self.wfile.write(json.dumps({"data": told} if status == 200 else {"error": {"message": KEY}}).encode())

    def log_message(self, *_: object) -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), OpenRouter)
        self.over = threading.Event()
        self.asked: list[tuple[str, str | None]] = []
        self.status = 200


@pytest.fixture
def openrouter() -> Iterator[Server]:
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()


def hang_up(start: Callable[..., Mitmdump], server: Server, **options: str) -> Mitmdump:
    proxy = start(f"reverse:http://127.0.0.1:{server.server_port}", scripts=[OPENROUTER, USAGE], **options)
    with Http1(proxy.port).post(
        STREAM, "/api/v1/chat/completions", authorization=f"Bearer {KEY}", x_usage_tag="gone"
    ) as client:
        client.read(until=lambda received: b"Hello" in received.body)
    return proxy


def test_an_abort_is_resolved_with_the_clients_own_key(start: Callable[..., Mitmdump], openrouter: Server) -> None:
    proxy = hang_up(start, openrouter, usage_resolve="true")
    assert proxy.row("gone")["status"] == "aborted"
    deadline = time.monotonic() + 20
    while (row := proxy.row("gone"))["cost_source"] != "resolved" and time.monotonic() < deadline:
        time.sleep(0.05)  # the database has no event to wait for
    assert (row["status"], row["end_reason"]) == ("aborted", "client_disconnected")
    assert (row["cost"], row["currency"], row["cost_source"]) == ("0.00042", "USD", "resolved")
    assert (row["input_tokens"], row["output_tokens"], row["usage_quality"]) == (9, 33, "exact")
    assert openrouter.asked == [("/api/v1/generation?id=gen-77", f"Bearer {KEY}")] * 2
    assert proxy.stop() == 0
    assert KEY not in proxy.log
    assert all(KEY.encode() not in path.read_bytes() for path in proxy.db.parent.glob("usage*"))


def test_a_refusal_leaves_the_row_as_it_was(start: Callable[..., Mitmdump], openrouter: Server) -> None:
    openrouter.status = 401
    proxy = hang_up(start, openrouter, usage_resolve="true")
    proxy.wait_for_line("does not tell what gen-77 cost: 401")
    row = proxy.row("gone")
    assert (row["status"], row["input_tokens"]) == ("aborted", None)
    assert row["cost_source"] != "resolved"
    assert KEY not in proxy.log


def test_nobody_is_asked_unless_the_user_wants_it(start: Callable[..., Mitmdump], openrouter: Server) -> None:
    proxy = hang_up(start, openrouter)
    assert proxy.row("gone")["status"] == "aborted"
    assert proxy.stop() == 0
    assert openrouter.asked == []
