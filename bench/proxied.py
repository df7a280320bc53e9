"""A real mitmdump in reverse mode before an upstream of our own, for benchmarks: its CPU time and memory are read from
`/proc`, so only the proxy is measured.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ADDON = str(ROOT / "addon" / "usage.py")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Proxy:
    """A running mitmdump."""

    def __init__(self, pid: int, port: int) -> None:
        self.pid, self.port = pid, port

    @property
    def cpu(self) -> float:
        """Seconds of CPU that it has used, all threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def memory(self) -> int:
        """Bytes of resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def mitmdump(upstream: str, *arguments: str) -> Iterator[Proxy]:
    """Start it, wait until it listens, stop it."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).parent / "mitmdump"), "-q", "--mode", f"reverse:{upstream}"]
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
    raise RuntimeError("mitmdump did not start")


class Upstream:
    """Answers every request with the same stream, `frames` times `frame` in chunks, and its usage at the end.

    Written by hand on sockets: the fake provider formats every frame anew, which would be the bottleneck here.
    """

    def __init__(self, frame: bytes, frames: int, *, join: int = 1) -> None:
        self.frames = frames
        chunk = frame * join
        self._piece = b"%x\r\n%b\r\n" % (len(chunk), chunk)
        self._pieces = frames // join
        usage = b'"usage":{"prompt_tokens":9,"completion_tokens":%d}' % frames
        last = b'data: {"id":"c","model":"m","choices":[],%b}\n\ndata: [DONE]\n\n' % usage
        self._end = b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last)
        self._server = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._server.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
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
                burst = self._piece * 16
                for _ in range(self._pieces // 16):
                    client.sendall(burst)
                client.sendall(self._piece * (self._pieces % 16) + self._end)


REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 41\r\n\r\n"
    b'{"model":"m","stream":true,"messages":[]}'
)


def drain(port: int) -> int:
    """One request; the bytes of its answer."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(REQUEST)
        size = 0
        tail = b""
        while not tail.endswith(b"0\r\n\r\n"):
            piece = client.recv(1 << 18)
            if not piece:
                raise RuntimeError("the stream was cut")
            size += len(piece)
            tail = (tail + piece)[-5:]
        return size
