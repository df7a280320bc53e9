"""Five paths, one truth: the same counts come out the same whichever way OpenAI's APIs tell them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from usagetap.dialects import detect
from usagetap.model import Request, Usage
from usagetap.reader import Reader
from usagetap.turns import Ended, turns_for

COUNT = st.integers(0, 1 << 40)
SUBSETS = ("cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens")


@st.composite
def counts(draw: st.DrawFn) -> dict[str, int]:
    """What one response used, in OpenAI's own words for the details."""
    names = ("input", "output", "reasoning", "audio_out", "image_out", *SUBSETS)
    told = {name: draw(COUNT) for name in names}
    told["output"] += told["reasoning"]
    return told


def usage_of(told: dict[str, int], words: tuple[str, str]) -> dict[str, Any]:
    """The usage object: `prompt`/`completion` in chat, `input`/`output` elsewhere."""
    into, out = words
    return {
        f"{into}_tokens": told["input"],
        f"{into}_tokens_details": {name: told[name] for name in SUBSETS},
        f"{out}_tokens": told["output"],
        f"{out}_tokens_details": {
            "reasoning_tokens": told["reasoning"],
            "audio_tokens": told["audio_out"],
            "image_tokens": told["image_out"],
        },
        "total_tokens": told["input"] + told["output"],
    }


def sse(*payloads: dict[str, Any], named: bool) -> bytes:
    """Payloads as an event stream."""
    head = "event: {type}\n" if named else ""
    return b"".join((head.format(**each) + f"data: {json.dumps(each)}\n\n").encode() for each in payloads)


def read(path: str, body: bytes, content_type: str) -> Usage:
    """The usage that the reader takes from a body."""
    key = "messages" if "chat" in path else "input"
    dialect = detect(Request("POST", "api.openai.com", 443, path, body={"model": "m", key: []}))
    assert dialect is not None
    reader = Reader(dialect, content_type=content_type, stream="stream" in content_type)
    reader.feed(body)
    reader.finish(complete=True)
    assert reader.seen.usage_final
    return reader.seen.usage


@given(counts())
def test_the_same_counts_come_out_the_same_on_all_five_paths(told: dict[str, int]) -> None:
    chat = {"id": "a", "model": "m", "choices": [{"index": 0, "finish_reason": "stop"}]}
    chat_usage, usage = usage_of(told, ("prompt", "completion")), usage_of(told, ("input", "output"))
    response = {"id": "r", "object": "response", "model": "m", "status": "completed", "usage": usage}
    events = [{"type": "response.created", "response": response | {"status": "in_progress", "usage": None}}]
    events.append({"type": "response.completed", "response": response})
    turns = turns_for(Request("GET", "api.openai.com", 443, "/v1/responses"))
    assert turns is not None
    happened = [*turns.sent(b'{"type":"response.create","model":"m"}')]
    for event in events:
        happened += turns.received(json.dumps(event).encode())
    (ended,) = [event for event in happened if isinstance(event, Ended)]
    paths = [
        read("/v1/chat/completions", json.dumps(chat | {"usage": chat_usage}).encode(), "application/json"),
        read("/v1/responses", json.dumps(response).encode(), "application/json"),
        read(
            "/v1/chat/completions",
            sse(chat | {"usage": None}, {"id": "a", "model": "m", "choices": [], "usage": chat_usage}, named=False)
            + b"data: [DONE]\n\n",
            "text/event-stream",
        ),
        read("/v1/responses", sse(*events, named=True), "text/event-stream"),
        ended.turn.seen.usage,
    ]
    assert paths[0].input_tokens == told["input"]
    assert paths[0].reasoning_output_tokens == told["reasoning"]
    assert paths[0].cache_write_input_tokens == told["cache_write_tokens"]
    assert paths[0].image_output_tokens == told["image_out"]
    assert all(path == paths[0] for path in paths)
