"""A fake upstream for each module, and a client that shows every byte of the answer."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from usagetap.upstream import Upstream, running_upstream

STREAM = {"model": "gpt-4o", "messages": [], "stream": True}


@dataclass
class Raw:
    """All that came back on a connection until it ended."""

    bytes: bytes
    reset: bool

    @property
    def head(self) -> str:
        return self.bytes.partition(b"\r\n\r\n")[0].decode("latin-1")

    @property
    def body(self) -> bytes:
        return self.bytes.partition(b"\r\n\r\n")[2]

    @property
    def status(self) -> int:
        return int(self.head.split(" ")[1])

    @property
    def chunks(self) -> list[bytes]:
        """The HTTP chunks, the empty last one included if it came; nonsense raises ValueError."""
        found, rest = [], self.body
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            found.append(rest[:length])
            rest = rest[length + 2 :]
        return found

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    upstream: Upstream, words: str = "", body: Any = None, path: str = "/v1/chat/completions", **headers: str
) -> Raw:
    sent = json.dumps(STREAM if body is None else body).encode()
    names = {"host": "upstream", "content-length": str(len(sent)), "connection": "close"}
    lines = names | ({"x-upstream": words} if words else {}) | {k.replace("_", "-"): v for k, v in headers.items()}
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    with socket.create_connection((upstream.host, upstream.port), timeout=10) as line:
        line.sendall(head.encode() + b"\r\n" + sent)
        return read_all(line)


def read_all(line: socket.socket) -> Raw:
    received = b""
    try:
        while piece := line.recv(65536):
            received += piece
    except ConnectionResetError:
        return Raw(received, reset=True)
    return Raw(received, reset=False)


@pytest.fixture(name="ask")
def ask_fixture() -> Callable[..., Raw]:
    return ask


@pytest.fixture(name="read_all")
def read_all_fixture() -> Callable[..., Raw]:
    return read_all


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running_upstream() as running:
        yield running


@pytest.fixture(scope="module")
def tls_upstream() -> Iterator[Upstream]:
    with running_upstream(tls=True) as running:
        yield running
