"""Recorded exchanges as answers: a request with the header `x-capture: ID` gets that recording's body, byte for byte.

Read are corpus files (one JSON object a line, gzip or not; HTTP and WebSocket) and folders of captures as this project
keeps them: `<dialect>/<case>/` with `response.body` and `meta.toml` (`status`, `content_type`, `url`, table `headers`),
whose id is `<dialect>/<case>`.
"""

from __future__ import annotations

import base64
import gzip
import json
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from usagetap.upstream.behaviour import Behaviour
from usagetap.upstream.exchange import Answer, Headers
from usagetap.upstream.ws_server import Message


@dataclass(frozen=True, slots=True)
class Capture:
    """One recorded answer."""

    id: str
    body: bytes = b""
    status: int = 200
    content_type: str | None = None
    headers: Headers = field(default_factory=list)
    """The usage-bearing ones, beside the content type."""
    stream: bool = False
    messages: tuple[tuple[bool, Message], ...] = ()
    """WebSocket: whether the server said it, and what."""


def load(paths: Iterable[str | Path]) -> dict[str, Capture]:
    """All captures of those files and folders by id. What is neither raises ValueError, what is not there OSError."""
    return {capture.id: capture for path in paths for capture in _captures(Path(path))}


def _captures(path: Path) -> Iterator[Capture]:
    if path.is_dir():
        for meta in sorted(path.rglob("meta.toml")):
            yield read_folder(meta.parent)
        return
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield read_record(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number}: not a recorded exchange ({error!r})") from error


def read_folder(folder: Path) -> Capture:
    """One `captures/<dialect>/<case>/`."""
    meta = tomllib.loads((folder / "meta.toml").read_text(encoding="utf-8"))
    content_type = meta.get("content_type")
    name, body = f"{folder.parent.name}/{folder.name}", (folder / "response.body").read_bytes()
    if meta.get("url", "").startswith("wss:"):  # one message a line
        return Capture(id=name, status=101, messages=_said(json.loads(line) for line in body.splitlines()))
    return Capture(
        id=name,
        body=body,
        status=int(meta.get("status", 200)),
        content_type=content_type,
        headers=[(name, str(value)) for name, value in meta.get("headers", {}).items() if name != "content-type"],
        stream=_streams(content_type),
    )


def read_record(record: dict[str, Any]) -> Capture:
    """One line of a corpus."""
    if "messages" in record:
        messages = (message for message in record["messages"] if message["kind"] == "message")
        return Capture(id=record["id"], status=101, messages=_said(messages))
    body = base64.b64decode(record["body_b64"]) if "body_b64" in record else (record.get("body") or "").encode()
    return Capture(
        id=record["id"],
        body=body,
        status=record["status"],
        content_type=record.get("content_type"),
        headers=list((record.get("usage_headers") or {}).items()),
        stream=bool(record.get("stream")),
    )


def _said(messages: Iterable[dict[str, Any]]) -> tuple[tuple[bool, Message], ...]:
    return tuple((message["dir"] == "received", message["data"]) for message in messages)


def _streams(content_type: str | None) -> bool:
    return any(kind in (content_type or "") for kind in ("event-stream", "eventstream", "ndjson", "stream+json"))


def replayed(capture: Capture, how: Behaviour) -> Answer:
    """The recording as an answer; `slice` of the behaviour says where it is cut (whole unless told)."""
    typed = [("content-type", capture.content_type)] if capture.content_type else []
    return Answer(capture.status, typed + capture.headers, [capture.body], streamed=capture.stream, behaviour=how)
