"""A real mitmdump or mitmweb in reverse mode before an upstream of our own, for benchmarks: its CPU time and memory are
read from outside, so only the proxy is measured.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ADDON = str(ROOT / "addon" / "usage.py")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Proxy:
    """A running proxy."""

    def __init__(self, pid: int, port: int) -> None:
        self.pid, self.port = pid, port

    @property
    def cpu(self) -> float:
        """Seconds of CPU that it has used, all threads."""
        return time.clock_gettime(~self.pid << 3 | 2)  # the clock of that process, as clock_getcpuclockid(3) names it

    @property
    def memory(self) -> int:
        """Bytes of resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def mitmdump(upstream: str, *arguments: str) -> Iterator[Proxy]:
    """Start it, wait until it listens, stop it."""
    with _running("mitmdump", upstream, "-q", *arguments) as proxy:
        yield proxy


@contextmanager
def mitmweb(upstream: str, *arguments: str) -> Iterator[Proxy]:
    """The same with its pages, and somebody who looks at them: a listener at `/updates`, as every open page is one."""
    port = free_port()
    pages = ("--no-web-open-browser", "--set", f"web_port={port}", "--set", "web_password=bench")
    quiet = ("--set", "termlog_verbosity=error", "--set", "flow_detail=0")
    with _running("mitmweb", upstream, *quiet, *pages, *arguments) as proxy, _connected(port) as line:
        line.sendall(
            b"GET /updates?token=bench HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nupgrade: websocket\r\n"
            b"connection: upgrade\r\nsec-websocket-version: 13\r\n"
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % port
        )
        if b" 101 " not in line.recv(65536):
            raise RuntimeError("mitmweb lets nobody listen")
        listener = threading.Thread(target=_listen, args=(line,), daemon=True)
        listener.start()
        yield proxy
        line.shutdown(socket.SHUT_RDWR)
        listener.join()


def _connected(port: int) -> socket.socket:
    deadline = time.monotonic() + 10
    while True:  # it serves its pages a moment later than it proxies
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _listen(line: socket.socket) -> None:
    with suppress(ConnectionResetError):
        while line.recv(1 << 18):
            pass


@contextmanager
def _running(tool: str, upstream: str, *arguments: str) -> Iterator[Proxy]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).parent / tool), "--mode", f"reverse:{upstream}"]
        command += ["--listen-host", "127.0.0.1", "--listen-port", str(port), "--set", f"confdir={folder}", *arguments]
        with subprocess.Popen(command) as process:
            try:
                _wait_for(port, process)
                yield Proxy(process.pid, port)
            finally:
                process.terminate()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("it did not start")


class Server:
    """Listens on loopback, and serves each connection on a thread."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._server.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._server.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        raise NotImplementedError


class Upstream(Server):
    """Answers every request with the same stream, `frames` times `frame` in chunks, and its usage at the end.

    Written by hand on sockets: the fake provider formats every frame anew, which would be the bottleneck here.
    """

    def __init__(self, frame: bytes, frames: int, *, join: int = 1, pause: float = 0.0) -> None:
        self.frames = frames
        self._pause = pause
        chunk = frame * join
        self._piece = b"%x\r\n%b\r\n" % (len(chunk), chunk)
        self._pieces = frames // join
        usage = b'"usage":{"prompt_tokens":9,"completion_tokens":%d}' % frames
        last = b'data: {"id":"c","model":"m","choices":[],%b}\n\ndata: [DONE]\n\n' % usage
        self._end = b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last)
        super().__init__()

    def _serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)  # a whole answer waits in it
        with client:
            while request := client.recv(65536):
                while b"\r\n\r\n" not in request:
                    request += client.recv(65536)
                head, _, body = request.partition(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                while len(body) < length:
                    body += client.recv(65536)
                client.sendall(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                )
                self._send(client)

    def _send(self, client: socket.socket) -> None:
        together = 1 if self._pause else max((1 << 20) // len(self._piece), 1)
        burst = self._piece * together
        for _ in range(self._pieces // together):
            client.sendall(burst)
            if self._pause:
                time.sleep(self._pause)
        client.sendall(self._piece * (self._pieces % together) + self._end)


HEADERS = b"".join(
    b"%b\r\n" % line
    for line in (
        # what openai-python sends
        *(b"Accept: application/json", b"Accept-Encoding: gzip, deflate, br, zstd", b"Connection: keep-alive"),
        *(
            b"Content-Type: application/json",
            b"User-Agent: OpenAI/Python 2.8.0",
            b"Authorization: Bearer sk-0123456789abc",
        ),
        *(b"X-Stainless-Lang: python", b"X-Stainless-Package-Version: 2.8.0", b"X-Stainless-OS: Linux"),
        *(b"X-Stainless-Arch: x64", b"X-Stainless-Runtime: CPython", b"X-Stainless-Runtime-Version: 3.13.9"),
        *(b"X-Stainless-Async: false", b"x-stainless-retry-count: 0", b"x-stainless-read-timeout: 600"),
    )
)
TURN = {"role": "user", "content": 'def double(word):\n\treturn word + "" + word  # twice\n' * 20}


def request(turns: int = 1) -> bytes:
    """A chat request with a conversation of that many kilobytes, as openai-python sends it."""
    body = json.dumps({"messages": [TURN] * turns, "model": "gpt-4o-mini", "stream": True}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n%bContent-Length: %d\r\n\r\n"
    return head % (HEADERS, len(body)) + body


REQUEST = request()


def drain(port: int, asked: bytes = REQUEST, *, asleep: int = 0) -> int:
    """One request; the bytes of its answer. The client sleeps until `asleep` bytes have come: a proxy that must wake
    it for every chunk pays for that, the more the sooner it falls asleep again.
    """
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, asleep)
        client.sendall(asked)
        select.select([client], [], [])
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        size = 0
        tail = b""
        while not tail.endswith(b"0\r\n\r\n"):
            piece = client.recv(1 << 18)
            if not piece:
                raise RuntimeError("the stream was cut")
            size += len(piece)
            tail = (tail + piece)[-5:]
        return size
