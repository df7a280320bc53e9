"""Responses: what it recognises, where its usage is, and that it says the same on every path."""

from __future__ import annotations

import json
from typing import Any

import pytest

from usagetap.dialects import detect
from usagetap.dialects.base import Weight
from usagetap.dialects.openai_responses import OpenAIResponses
from usagetap.model import Observation, Request, Usage
from usagetap.reader import Reader
from usagetap.turns import Ended, turns_for

RESPONSE_ID = "resp_0a1b2c3d4e5f60718293a4b5c6d7e8f9"


def request(method: str, path: str, body: Any = None, **query: str) -> Request:
    return Request(method, "gateway.example", 443, path, query, body=body)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/responses", {"model": "m", "input": "hi"}),
        ("POST", "/responses", {"model": "m", "prompt": {"id": "p"}}),
        ("POST", "/openai/responses/", {"model": "m"}),
        ("POST", "/backend-api/codex/responses", None),
        ("POST", "/v1/responses/compact", {"model": "m", "input": []}),
        ("POST", f"/v1/responses/{RESPONSE_ID}/cancel", None),
        ("GET", f"/v1/responses/{RESPONSE_ID}", None),
        ("GET", "/v1/responses/1c1cae28-e3a2-9687-8eb0-6f07b789a60e", None),
    ],
)
def test_its_requests_are_recognised(method: str, path: str, body: Any) -> None:
    assert isinstance(detect(request(method, path, body)), OpenAIResponses)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/responses/input_tokens", {"model": "m", "input": "hi"}),
        ("POST", "/surveys/1/responses", {"answers": []}),
        ("POST", "/surveys/1/responses", None),
        ("GET", "/v1/responses", None),
        ("GET", f"/v1/responses/{RESPONSE_ID}/input_items", None),
        ("DELETE", f"/v1/responses/{RESPONSE_ID}", None),
    ],
)
def test_counts_lists_and_strangers_are_not(method: str, path: str, body: Any) -> None:
    assert detect(request(method, path, body)) is None


def test_it_never_takes_stream_options() -> None:
    assert not OpenAIResponses.takes_include_usage


def test_a_resumed_stream_is_a_stream() -> None:
    assert OpenAIResponses().streams(request("GET", f"/v1/responses/{RESPONSE_ID}", stream="true", starting_after="5"))
    assert not OpenAIResponses().streams(request("GET", f"/v1/responses/{RESPONSE_ID}", stream="false"))


@pytest.mark.parametrize(
    ("frame", "weight"),
    [
        (b'event: response.output_text.delta\ndata: {"delta":"response.completed"}\n\n', Weight.NOTHING),
        (b'event: response.completed\ndata: {"type":"response.completed"}\n\n', Weight.PARSE),
        (
            b'data: {"type":"response.output_text.delta","delta":"\\"type\\":\\"response.completed\\""}\n\n',
            Weight.NOTHING,
        ),
        (b'data: {"response":{},"sequence_number":9,"type":"response.failed"}\n\n', Weight.PARSE),
        (b'data: {"type" : "error","message":"no"}\n\n', Weight.PARSE),
    ],
)
def test_only_what_the_response_itself_does_is_parsed(frame: bytes, weight: Weight) -> None:
    assert OpenAIResponses().weigh(frame) is weight


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed", "cancelled"])
def test_usage_counts_in_every_terminal_event(status: str) -> None:
    seen = Observation()
    usage = {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8}
    OpenAIResponses().observe(seen, {"type": f"response.{status}", "response": {"id": "r", "usage": usage}})
    assert (seen.usage.input_tokens, seen.usage_final, seen.terminal) == (5, True, True)
    assert seen.finish_reasons == {0: status}
    assert (seen.error_type is not None) is (status == "failed")


def test_a_background_response_is_due_later() -> None:
    seen = Observation()
    OpenAIResponses().observe(seen, {"object": "response", "id": "r", "status": "queued", "usage": None})
    assert (seen.background, seen.terminal, seen.usage_raw) == (True, False, None)
    streamed = Observation()
    OpenAIResponses().observe(streamed, {"type": "response.queued", "response": {"id": "r", "status": "queued"}})
    assert (streamed.background, streamed.finish_reasons) == (False, {0: None})


CHAT_USAGE = {
    "prompt_tokens": 900,
    "completion_tokens": 300,
    "total_tokens": 1200,
    "prompt_tokens_details": {"cached_tokens": 512, "cache_write_tokens": 64, "audio_tokens": 20, "image_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 128, "audio_tokens": 12, "image_tokens": 4},
}
RESPONSES_USAGE = {
    "input_tokens": 900,
    "output_tokens": 300,
    "total_tokens": 1200,
    "input_tokens_details": CHAT_USAGE["prompt_tokens_details"],
    "output_tokens_details": CHAT_USAGE["completion_tokens_details"],
}
TRUTH = Usage(
    input_tokens=900,
    output_tokens=300,
    total_tokens=1200,
    cache_read_input_tokens=512,
    cache_write_input_tokens=64,
    reasoning_output_tokens=128,
    audio_input_tokens=20,
    audio_output_tokens=12,
    image_input_tokens=8,
    image_output_tokens=4,
)


def over_http(path: str, body: bytes, content_type: str) -> Usage:
    asked = request("POST", path, {"model": "m", "messages": []} if "chat" in path else {"model": "m", "input": "hi"})
    dialect = detect(asked)
    assert dialect is not None
    reader = Reader(dialect, content_type=content_type)
    reader.feed(body)
    reader.finish(complete=True)
    return reader.seen.usage


def over_websocket() -> Usage:
    turns = turns_for(Request("GET", "gateway.example", 443, "/v1/responses"))
    assert turns is not None
    turns.sent(b'{"type":"response.create","model":"m"}')
    response = {"id": "r", "status": "completed", "usage": RESPONSES_USAGE}
    events = turns.received(json.dumps({"type": "response.completed", "response": response}).encode())
    return next(event.turn.seen.usage for event in events if isinstance(event, Ended))


def test_five_paths_one_truth() -> None:
    whole = {"object": "response", "id": "r", "status": "completed", "usage": RESPONSES_USAGE}
    event = {"type": "response.completed", "response": whole}
    chunk = {"id": "c", "choices": [], "usage": CHAT_USAGE}
    choices = [{"index": 0, "finish_reason": "stop"}]
    json_, sse = "application/json", "text/event-stream"
    told = [
        over_http("/v1/chat/completions", json.dumps(chunk | {"choices": choices}).encode(), json_),
        over_http("/v1/responses", json.dumps(whole).encode(), json_),
        over_http("/v1/chat/completions", f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode(), sse),
        over_http("/v1/responses", f"event: response.completed\ndata: {json.dumps(event)}\n\n".encode(), sse),
        over_websocket(),
    ]
    assert told == [TRUTH] * 5
