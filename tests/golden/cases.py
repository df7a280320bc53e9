"""The captures: `captures/<dialect>/<case>/{request.json,response.body,meta.toml,expected.json}`, read and run.

`meta.toml`: `source` (where the shape is documented), `method`, `url`, `status`, `content_type`, `stream`, `complete`
(false for a body that was cut), table `headers` (of the response). Of a WebSocket (`url = "wss://…"`) `response.body`
has one message a line, as the corpus has them: `{"dir": "sent" | "received", "data": "…"}`.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from usagetap.dialects import UNKNOWN, detect
from usagetap.dialects.base import Dialect
from usagetap.model import USAGE_FIELDS, Observation, Request
from usagetap.reader import Reader
from usagetap.turns import Answered, Ended, Event, Opened, turns_for

CAPTURES = Path(__file__).parents[2] / "captures"


@dataclass(frozen=True)
class Case:
    """One capture."""

    folder: Path
    request: Request
    body: bytes
    meta: dict[str, Any]

    @property
    def name(self) -> str:
        return self.folder.relative_to(CAPTURES).as_posix()

    @property
    def websocket(self) -> bool:
        return bool(self.meta["url"].startswith("wss:"))

    @property
    def dialect(self) -> Dialect:
        """As detected; the folder says which it must be."""
        found = UNKNOWN if self.folder.parent.name == UNKNOWN.name else detect(self.request)
        assert found is not None, f"{self.name}: no dialect"
        return found

    @property
    def expected(self) -> Any:
        return json.loads((self.folder / "expected.json").read_bytes())

    def reader(self) -> Reader:
        headers = {name.lower(): value for name, value in self.meta.get("headers", {}).items()}
        return Reader(
            self.dialect,
            content_type=self.meta.get("content_type", ""),
            content_encoding=headers.get("content-encoding"),
            http_status=self.meta["status"],
            headers=headers,
            stream=self.dialect.streams(self.request),
        )

    def read(self, chunks: Iterable[bytes]) -> Reader:
        """Through a reader's tap, which must return every chunk as it came."""
        reader = self.reader()
        tap = reader.tap(_raise)
        for chunk in chunks:
            assert tap(chunk) is chunk
        reader.finish(complete=self.meta.get("complete", True))
        return reader

    def run(self, chunks: Iterable[bytes] | None = None) -> Any:
        """What the capture gives, as in `expected.json`."""
        if self.websocket:
            return {"turns": list(_turns_told(self.events()))}
        reader = self.read([self.body] if chunks is None else chunks)
        return {
            "dialect": self.dialect.name,
            "operation": self.dialect.operation(self.request),
            "request_model": self.dialect.model(self.request),
            "transport": reader.transport,
            "frames": reader.frames,
            **observed(reader.seen),
        }

    def events(self) -> Iterator[Event]:
        turns = turns_for(self.request)
        assert turns is not None, f"{self.name}: no protocol"
        assert turns.dialect.name == self.folder.parent.name
        for sent, message in self.messages():
            yield from (turns.sent if sent else turns.received)(message)
        yield from turns.finish()

    def messages(self) -> Iterator[tuple[bool, bytes]]:
        for line in self.body.splitlines():
            message = json.loads(line)
            yield message["dir"] == "sent", message["data"].encode()


def observed(seen: Observation) -> dict[str, Any]:
    """An observation without what nobody said."""
    told: dict[str, Any] = {
        "response_id": seen.response_id,
        "response_model": seen.response_model,
        "service_tier": seen.service_tier,
        "finish_reasons": {str(index): reason for index, reason in sorted(seen.finish_reasons.items())} or None,
        "usage": {name: getattr(seen.usage, name) for name in USAGE_FIELDS if getattr(seen.usage, name) is not None},
        "usage_raw": seen.usage_raw,
        "usage_final": seen.usage_final,
        "terminal": seen.terminal,
        "background": seen.background or None,
        "error_type": seen.error_type,
        "error_message": seen.error_message,
        "cost": None if seen.cost is None else f"{seen.cost.normalize():f}",
        "currency": seen.currency,
    }
    return {name: value for name, value in told.items() if value is not None}


def cases() -> list[Case]:
    """All captures, by name."""
    return [_case(meta.parent) for meta in sorted(CAPTURES.glob("*/*/meta.toml"))]


def _case(folder: Path) -> Case:
    meta = tomllib.loads((folder / "meta.toml").read_text(encoding="utf-8"))
    url = urlsplit(meta["url"])
    asked = folder / "request.json"
    request = Request(
        method=meta.get("method", "POST"),
        host=url.hostname or "",
        port=url.port or 443,
        path=url.path,
        query=dict(parse_qsl(url.query, keep_blank_values=True)),
        body=json.loads(asked.read_bytes()) if asked.exists() else None,
    )
    return Case(folder, request, (folder / "response.body").read_bytes(), meta)


def _turns_told(events: Iterable[Event]) -> Iterator[dict[str, Any]]:
    """The turns in the order of their ends; each was opened once, answered at most once, and ended once."""
    opened: list[int] = []
    answered: list[int] = []
    ended: list[int] = []
    for event in events:
        turn = event.turn
        if isinstance(event, Opened):
            opened.append(turn.number)
        elif isinstance(event, Answered):
            answered.append(turn.number)
        elif isinstance(event, Ended):
            ended.append(turn.number)
            yield {
                "turn": turn.number,
                "operation": turn.operation,
                "request_model": turn.request_model,
                "frames": turn.frames,
                **observed(turn.seen),
            }
    assert opened == sorted(set(opened)) == sorted(ended)
    assert len(answered) == len(set(answered))


def _raise(error: Exception) -> None:
    raise error
