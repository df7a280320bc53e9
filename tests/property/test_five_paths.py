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
INTO = {
    "cached": "cached_tokens",
    "cache_write": "cache_write_tokens",
    "audio_in": "audio_tokens",
    "image_in": "image_tokens",
}
OUT = {"reasoning": "reasoning_tokens", "audio_out": "audio_tokens", "image_out": "image_tokens"}


@st.composite
def counts(draw: st.DrawFn) -> dict[str, int | None]:
    """What one response used; a detail may go unsaid."""
    told: dict[str, int | None] = {name: draw(COUNT) for name in ("input", "output")}
    return told | {name: draw(st.none() | COUNT) for name in (*INTO, *OUT)}


def by_our_rules(told: dict[str, int | None]) -> Usage:
    """The same as it must come out; the sums have all the details in them already."""
    return Usage(
        input_tokens=told["input"],
        output_tokens=told["output"],
        total_tokens=(told["input"] or 0) + (told["output"] or 0),
        cache_read_input_tokens=told["cached"],
        cache_write_input_tokens=told["cache_write"],
        reasoning_output_tokens=told["reasoning"],
        audio_input_tokens=told["audio_in"],
        audio_output_tokens=told["audio_out"],
        image_input_tokens=told["image_in"],
        image_output_tokens=told["image_out"],
    )


def usage_of(told: dict[str, int | None], words: tuple[str, str], details: str = "tokens_details") -> dict[str, Any]:
    """The usage object: `prompt`/`completion` in chat, `input`/`output` elsewhere, `…_token_details` in Realtime."""
    into, out = words
    return {
        f"{into}_tokens": told["input"],
        f"{into}_{details}": {name: told[key] for key, name in INTO.items() if told[key] is not None},
        f"{out}_tokens": told["output"],
        f"{out}_{details}": {name: told[key] for key, name in OUT.items() if told[key] is not None},
        "total_tokens": (told["input"] or 0) + (told["output"] or 0),
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


def spoken(path: str, asked: dict[str, Any], *events: dict[str, Any]) -> Usage:
    """The usage of the one turn that these messages make on a WebSocket."""
    turns = turns_for(Request("GET", "api.openai.com", 443, path))
    assert turns is not None
    happened = [*turns.sent(json.dumps(asked).encode())]
    for event in events:
        happened += turns.received(json.dumps(event).encode())
    (ended,) = [event for event in happened if isinstance(event, Ended)]
    assert ended.turn.seen.usage_final
    return ended.turn.seen.usage


@given(counts())
def test_the_same_counts_come_out_the_same_on_all_five_paths(told: dict[str, int | None]) -> None:
    chat = {"id": "a", "model": "m", "choices": [{"index": 0, "finish_reason": "stop"}]}
    chat_usage, usage = usage_of(told, ("prompt", "completion")), usage_of(told, ("input", "output"))
    response = {"id": "r", "object": "response", "model": "m", "status": "completed", "usage": usage}
    events = [{"type": "response.created", "response": response | {"status": "in_progress", "usage": None}}]
    events.append({"type": "response.completed", "response": response})
    chunks = chat | {"usage": None}, {"id": "a", "model": "m", "choices": [], "usage": chat_usage}
    paths = {
        "chat": read("/v1/chat/completions", json.dumps(chat | {"usage": chat_usage}).encode(), "application/json"),
        "responses": read("/v1/responses", json.dumps(response).encode(), "application/json"),
        "chat, streamed": read(
            "/v1/chat/completions", sse(*chunks, named=False) + b"data: [DONE]\n\n", "text/event-stream"
        ),
        "responses, streamed": read("/v1/responses", sse(*events, named=True), "text/event-stream"),
        "websocket": spoken("/v1/responses", {"type": "response.create", "model": "m"}, *events),
    }
    assert paths == dict.fromkeys(paths, by_our_rules(told))


@given(counts())
def test_realtime_s_other_names_come_out_the_same_too(told: dict[str, int | None]) -> None:
    done = {"id": "r", "status": "completed", "usage": usage_of(told, ("input", "output"), "token_details")}
    usage = spoken("/v1/realtime", {"type": "response.create"}, {"type": "response.done", "response": done})
    assert usage == by_our_rules(told)
