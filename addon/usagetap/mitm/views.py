"""Content views: an LLM request and its answer as a person reads them, and on demand the frames as they came.

mitmproxy calls them when somebody looks, never for traffic. Whatever fails in one, mitmproxy shows the raw bytes.
"""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

from mitmproxy import contentviews, http
from mitmproxy.contentviews import Metadata

from usagetap.assembly import assemble, payloads
from usagetap.conversation import read
from usagetap.dialects import detect
from usagetap.encoding import DecodeError, Decoder, codings
from usagetap.headline import clean
from usagetap.mitm import layout, told
from usagetap.mitm.incoming import request_of

PRIORITY = 10
"""Over mitmproxy's own views of JSON (1) and GraphQL (2)."""
_FRAMES_SHOWN = 2_000
_HEADS = (b"{", b"[", b"data:", b"event:", b"id:", b"retry:", b":", b"error:", b"\0")


class LLM(contentviews.Contentview):
    """The readable view: it chooses itself for model requests and their answers."""

    name = "LLM"

    def prettify(self, data: bytes, metadata: Metadata) -> str:
        """The message as text."""
        body = _decoded(data, metadata)
        if metadata.websocket_message is not None:
            return _message(body, metadata)
        if isinstance(metadata.http_message, http.Request):
            return _request(body, metadata)
        return _response(body, metadata)

    def render_priority(self, data: bytes, metadata: Metadata) -> float:
        """High for what is ours, below zero for everything else."""
        return PRIORITY if data and _is_ours(metadata) and _readable(_decoded(data[:512], metadata)) else -1


class LLMFrames(contentviews.Contentview):
    """The frames of a streamed answer, one by one: only when somebody asks for it."""

    name = "LLM frames"

    def prettify(self, data: bytes, metadata: Metadata) -> str:
        """Every frame with its number."""
        body = _decoded(data, metadata)
        found = []
        for number, (frame, payload) in enumerate(islice(payloads(body), _FRAMES_SHOWN), 1):
            text = json.dumps(payload, indent=2, ensure_ascii=False) if payload is not None else None
            found.append(layout.section(f"{number}", text or frame.decode("utf-8", "replace"), f"{len(frame):,} bytes"))
        if len(found) == _FRAMES_SHOWN:
            found.append(f"only the first {_FRAMES_SHOWN:,} frames are shown")
        return "\n".join(found) or "no frames"

    def render_priority(self, data: bytes, metadata: Metadata) -> float:
        """Never by itself."""
        return -1


class Views:
    """The addon that registers them."""

    def load(self, loader: object) -> None:
        """Register the views; a reload of the script replaces them."""
        for view in (LLM, LLMFrames):
            contentviews.add(view)


def _is_ours(metadata: Metadata) -> bool:
    flow = metadata.flow
    if not isinstance(flow, http.HTTPFlow) or (metadata.http_message is None and metadata.websocket_message is None):
        return False
    if told.of(flow):
        return True
    body = flow.request.get_content(strict=False) if metadata.http_message is not None else None
    return detect(request_of(flow, body)) is not None


def _readable(head: bytes) -> bool:
    return head.lstrip(b" \t\r\n\xef\xbb\xbf").startswith(_HEADS)


def _decoded(data: bytes, metadata: Metadata) -> bytes:
    """The body in plain: mitmproxy gives up on one whose end is missing, we take what there is."""
    message = metadata.http_message
    encoding = message.headers.get("content-encoding") if message is not None else None
    if not encoding or message is None or not (message.raw_content or b"").startswith(data):
        return data
    pieces: list[bytes] = []
    try:
        for piece in Decoder(codings(encoding)).feed(data):
            pieces.append(piece)  # noqa: PERF402 - what was decoded before an error counts
    except DecodeError:
        pass
    return b"".join(pieces) or data


def _response(body: bytes, metadata: Metadata) -> str:
    facts = told.of(metadata.flow)
    frames = list(payloads(body))
    answer = assemble(payload for _, payload in frames)
    sections = layout.answer(answer)
    if not any(sections):
        sections = [layout.section("Body", _pretty(body))]
    if facts.get("body_cut"):
        sections.append(layout.section("Cut", f"only the first {len(body):,} bytes were kept (option usage_keep_body)"))
    count = f"{len(frames):,} frames: the view “{LLMFrames.name}” shows them as they came" if len(frames) > 1 else ""
    return layout.page(
        clean(facts.get("headline") or ""),
        *sections,
        layout.usage(facts),
        layout.ending(facts),
        layout.changes(facts),
        layout.section("Frames", count),
    )


def _request(body: bytes, metadata: Metadata) -> str:
    facts = told.of(metadata.flow)
    try:
        asked = read(json.loads(body.decode("utf-8", "replace")))
    except (ValueError, RecursionError):
        return _pretty(body)
    return layout.page(clean(facts.get("headline") or ""), *layout.asked(asked), layout.changes(facts))


def _message(body: bytes, metadata: Metadata) -> str:
    """One message of a WebSocket: its type, and what it says; the last one has the sums of all turns as well."""
    payload = next((payload for _, payload in payloads(body)), None)
    if not isinstance(payload, dict):
        return _pretty(body)
    kind = clean(payload.get("type") or next(iter(payload), "message"))
    said = _said(payload, from_client=getattr(metadata.websocket_message, "from_client", False))
    facts = told.of(metadata.flow) if _is_last(metadata) else {}
    sums = [layout.usage(facts), layout.ending(facts), layout.changes(facts)] if facts.get("status") else []
    delta = payload.get("delta")
    if isinstance(delta, str) and "audio.delta" not in kind:
        line = f"{kind}  {delta}"
        return layout.page(line, *sums) if sums else line
    if said or sums:
        return layout.page(kind, *said, layout.section("Message", _pretty(body)), *sums)
    return f"{kind}\n{_pretty(body)}"


def _said(payload: dict[str, Any], *, from_client: bool) -> list[str]:
    """What a message asks or answers, if it does either."""
    if from_client:
        inner = payload.get("response")
        request = inner if isinstance(inner, dict) else payload
        asked = read({name: value for name, value in request.items() if name != "type"})
        return layout.asked(asked) if asked.said else []
    answer = assemble([payload])
    speaks = any(choice.text or choice.calls or choice.reasoning for choice in answer.choices.values()) or answer.error
    return layout.answer(answer) if speaks else []


def _is_last(metadata: Metadata) -> bool:
    socket = getattr(metadata.flow, "websocket", None)
    return bool(socket and socket.messages and socket.messages[-1] is metadata.websocket_message)


def _pretty(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
