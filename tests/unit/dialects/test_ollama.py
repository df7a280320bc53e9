"""Ollama: a stream unless the client says no, and counts on the last line."""

from __future__ import annotations

from typing import Any

import pytest

from usagetap.dialects import detect
from usagetap.dialects.base import Weight
from usagetap.dialects.ollama import Ollama
from usagetap.model import Observation, Request


def request(path: str, body: Any) -> Request:
    return Request("POST", "localhost", 11434, path, body=body)


@pytest.mark.parametrize(
    ("path", "body", "operation", "stream"),
    [
        ("/api/chat", {"model": "m", "messages": []}, "chat", True),
        ("/ollama/api/chat", {"model": "m", "messages": [], "stream": False}, "chat", False),
        ("/api/generate", {"model": "m", "prompt": "", "stream": True}, "text_completion", True),
        ("/api/embed", {"model": "m", "input": ""}, "embeddings", False),
        ("/api/embeddings", {"model": "m", "prompt": ""}, "embeddings", False),
    ],
)
def test_it_streams_unless_told_otherwise(path: str, body: Any, operation: str, stream: bool) -> None:
    asked = request(path, body)
    dialect = detect(asked)
    assert isinstance(dialect, Ollama)
    assert dialect.operation(asked) == operation
    assert dialect.streams(asked) is stream
    assert dialect.model(asked) == "m"


@pytest.mark.parametrize(
    ("path", "body"), [("/api/chat", {"messages": []}), ("/api/tags", None), ("/api/tags", {"model": "m"})]
)
def test_other_chats_are_left_alone(path: str, body: Any) -> None:
    assert detect(request(path, body)) is None


@pytest.mark.parametrize(
    ("frame", "weight"),
    [
        (b'{"message":{"content":"a"},"done":false}', Weight.NOTHING),
        (b'{"message":{"content":"\\"done\\":true"},"done":false}', Weight.NOTHING),
        (b'{"done": true,"eval_count":3}', Weight.PARSE),
        (b'{"error":"out of memory"}', Weight.PARSE),
    ],
)
def test_a_line_is_weighed_by_its_names(frame: bytes, weight: Weight) -> None:
    assert Ollama().weigh(frame) is weight


def test_a_cached_prompt_leaves_the_input_unknown() -> None:
    seen = Observation()
    Ollama().observe(seen, {"model": "m", "done": True, "done_reason": "stop", "eval_count": 7, "total_duration": 5})
    assert (seen.usage.input_tokens, seen.usage.output_tokens) == (None, 7)
    assert seen.usage_raw == {"eval_count": 7, "total_duration": 5}
    assert seen.terminal


def test_an_error_line_is_no_end() -> None:
    seen = Observation()
    Ollama().observe(seen, {"model": "m", "message": {"content": "a"}, "done": False})
    Ollama().observe(seen, {"error": "out of memory"})
    assert seen.error_message == "out of memory"
    assert not seen.terminal
    assert not seen.finished
