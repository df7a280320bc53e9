"""An upstream that says exactly the bytes it is told, for what no real one would say."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

type Answer = Callable[[bytes], Iterable[bytes]]
"""From a request's body to the bytes of the answer, head included, one `sendall` each."""

SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


@dataclass
class Feed:
    """What was asked, and what became of each connection."""

    port: int
    requests: list[bytes] = field(default_factory=list)
    hung_up: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """Released once for each client that left before its answer was over."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def chunked(pieces: Iterable[bytes], head: bytes = SSE_HEAD) -> Iterator[bytes]:
    """The pieces as HTTP chunks, one each, with head and end."""
    yield head + b"transfer-encoding: chunked\r\n\r\n"
    for piece in pieces:
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


@contextmanager
def running_feed(answer: Answer) -> Iterator[Feed]:
    """Listen, and answer every request with `answer`, each connection in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        feed = Feed(server.getsockname()[1])
        threading.Thread(target=_accept, args=(server, feed, answer), daemon=True).start()
        try:
            yield feed
        finally:
            server.shutdown(socket.SHUT_RDWR)


def _accept(server: socket.socket, feed: Feed, answer: Answer) -> None:
    with suppress(OSError):
        while True:
            line, _ = server.accept()
            threading.Thread(target=_serve, args=(line, feed, answer), daemon=True).start()


def _serve(line: socket.socket, feed: Feed, answer: Answer) -> None:
    with line, suppress(OSError):
        while (body := _request(line)) is not None:
            feed.requests.append(body)
            try:
                for piece in answer(body):
                    line.sendall(piece)
            except OSError:
                feed.hung_up.release()
                return


def _request(line: socket.socket) -> bytes | None:
    received = b""
    while b"\r\n\r\n" not in received:
        if not (piece := line.recv(65536)):
            return None
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    while length and len(body) < int(length[1]):
        body += line.recv(65536)
    return body


@dataclass(eq=False)
class Digest:
    """Bytes that went by."""

    _hash: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add(self, piece: bytes) -> None:
        self._hash.update(piece)

    @property
    def hex(self) -> str:
        return self._hash.hexdigest()
