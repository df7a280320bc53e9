"""One request and its answer, as the fake upstream knows them: what arrived, what is to be sent, what became of it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from usagetap.upstream.behaviour import Behaviour
from usagetap.upstream.compress import decompress_request

Headers = list[tuple[str, str]]

#: bytes of each answer that are kept for comparison; a test that compares more uses `sent_digest`
KEEP = 4 << 20


@dataclass(slots=True)
class Exchange:
    """One entry of `Upstream.requests`. `body` is what arrived, still content-encoded; `outcome` is None while it is
    being answered, then `complete`, `cut` (by us) or `client_gone`."""

    method: str
    target: str
    headers: Headers
    body: bytes = b""
    version: str = "1.1"
    connection: int = 0
    """Numbers the connections, so that reuse shows."""
    status: int | None = None
    outcome: str | None = None
    sent: bytearray = field(default_factory=bytearray)
    """The body as sent, content-encoding included, transfer framing not; its first 4 MiB."""
    sent_length: int = 0
    done: threading.Event = field(default_factory=threading.Event)
    """Set when `outcome` is."""
    released: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by `Upstream.release()`; an answer that holds waits for it."""
    _digest: Any = field(default_factory=sha256)

    @property
    def path(self) -> str:
        """The target without its query, unquoted."""
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        """The query, the last value of each name."""
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.target).query).items()}

    def header(self, name: str) -> str | None:
        """A header's value, several joined by commas; None if it is not there."""
        values = [value for key, value in self.headers if key.lower() == name]
        return ", ".join(values) if values else None

    @property
    def json(self) -> Any:
        """The body as JSON, whatever its content-encoding. Bytes that are no such thing raise ValueError."""
        try:
            return json.loads(decompress_request(self.body, self.header("content-encoding") or ""))
        except Exception as error:  # each decoder has its own exception class
            raise ValueError(f"request body is not JSON: {error}") from error

    @property
    def sent_digest(self) -> str:
        """SHA-256 of all that was sent, as hex."""
        return str(self._digest.hexdigest())

    def note(self, piece: bytes) -> None:
        """Remember a piece of the answer's body that was handed to the socket."""
        self.sent_length += len(piece)
        self._digest.update(piece)
        self.sent += piece[: KEEP - len(self.sent)]

    def end(self, outcome: str) -> None:
        """Say what became of it; the first word stays."""
        if self.outcome is None:
            self.outcome = outcome
            self.done.set()


@dataclass(slots=True)
class Answer:
    """What is to be sent, before the behaviour's pace, codings and cuts."""

    status: int = 200
    headers: Headers = field(default_factory=list)
    body: Iterable[bytes] = ()
    """One item per frame, produced while it is sent."""
    streamed: bool = False
    behaviour: Behaviour = field(default_factory=Behaviour)


def json_answer(value: Any, behaviour: Behaviour, status: int = 200) -> Answer:
    """A whole JSON document."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Answer(status, [("content-type", "application/json")], [text], behaviour=behaviour)
