"""A new provider's usage is recognised in anybody's words, wherever known providers put it, in any framing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from usagetap.dialects import UNKNOWN
from usagetap.model import Observation
from usagetap.reader import Reader

FIRST = {"id": "i", "model": "m", "text": 'he said "usage": {'}
OPENAI = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
TOLD: dict[str, tuple[Any, tuple[int, int]]] = {
    "openai": ({"usage": OPENAI}, (3, 4)),
    "responses": ({"usage": {"input_tokens": 3, "output_tokens": 4}}, (3, 4)),
    "anthropic": ({"usage": {"input_tokens": 3, "cache_read_input_tokens": 10, "output_tokens": 4}}, (13, 4)),
    "databricks": ({"usage": OPENAI | {"cache_read_input_tokens": 2}}, (3, 4)),
    "gemini": (
        {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4, "thoughtsTokenCount": 5}},
        (3, 9),
    ),
    "interactions": ({"interaction": {"usage": {"total_input_tokens": 3, "total_output_tokens": 4}}}, (3, 4)),
    "bedrock": ({"usage": {"inputTokens": 3, "outputTokens": 4, "cacheReadInputTokens": 10}}, (13, 4)),
    "bedrock's last event": ({"metadata": {"usage": {"inputTokens": 3, "outputTokens": 4}}}, (3, 4)),
    "cohere": ({"delta": {"usage": {"tokens": {"input_tokens": 3, "output_tokens": 4}}}}, (3, 4)),
    "cohere's meta": ({"meta": {"billed_units": {"input_tokens": 3, "output_tokens": 4}}}, (3, 4)),
    "ollama": ({"done": True, "prompt_eval_count": 3, "eval_count": 4}, (3, 4)),
    "vercel's sdk": ({"usage": {"promptTokens": 3, "completionTokens": 4}}, (3, 4)),
    "cloudflare": ({"result": {"response": "hi", "usage": OPENAI}, "success": True}, (3, 4)),
    "inside a choice": ({"choices": [{"usage": OPENAI}]}, (3, 4)),
    "a response": ({"type": "response.completed", "response": {"usage": OPENAI}}, (3, 4)),
}


def lines(payload: Any) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in (FIRST, payload))


def events(payload: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in (FIRST, payload))


def document(payload: Any) -> bytes:
    return json.dumps(FIRST | payload).encode()


def array(payload: Any) -> bytes:
    return json.dumps([FIRST, payload], indent=1).encode()


def read(body: bytes, content_type: str, *, stream: bool) -> Observation:
    reader = Reader(UNKNOWN, content_type=content_type, stream=stream)
    reader.feed(body)
    reader.finish(complete=True)
    return reader.seen


@pytest.mark.parametrize(
    ("framed", "content_type", "stream"),
    [
        (document, "application/json", False),
        (document, "application/json", True),
        (array, "application/json", True),
        (events, "text/event-stream", True),
        (events, "", True),
        (lines, "application/x-ndjson", True),
        (lines, "application/json", True),
        (lines, "", True),
    ],
)
@pytest.mark.parametrize("told", TOLD)
def test_usage_is_found_in_any_words_and_framing(told: str, framed: Any, content_type: str, stream: bool) -> None:
    payload, counts = TOLD[told]
    seen = read(framed(payload), content_type, stream=stream)
    assert (seen.usage.input_tokens, seen.usage.output_tokens) == counts
    assert (seen.response_id, seen.response_model) == ("i", "m")
    assert seen.terminal or framed not in (document, array)


@pytest.mark.parametrize(
    "payload",
    [
        {"usage": {"storage_bytes": 7}},
        {"usage": None},
        {"usage": "limited"},
        {"meta": {"page": 1, "total": 70}},
        {"meta": {"tokens": {"a": 1}}},
        {"data": {"tokens": ["a", "b"]}},
        {"message": "eval_count"},
    ],
)
def test_what_counts_no_tokens_is_no_usage(payload: Any) -> None:
    assert read(document(payload), "application/json", stream=False).usage_raw is None


def test_the_last_word_on_each_field_counts() -> None:
    seen = Observation()
    UNKNOWN.observe(seen, {"type": "start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}})
    UNKNOWN.observe(seen, {"type": "end", "usage": {"output_tokens": 40}})
    assert (seen.usage.input_tokens, seen.usage.output_tokens, seen.terminal) == (9, 40, True)
