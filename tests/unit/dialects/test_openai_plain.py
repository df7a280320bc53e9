"""What answers once: embeddings, audio, images, rerank; and what they share."""

from __future__ import annotations

from typing import Any

import pytest

from usagetap.dialects import UNKNOWN, detect
from usagetap.dialects.base import Dialect
from usagetap.model import Observation, Request
from usagetap.reader import Reader


def request(path: str, body: Any = None, method: str = "POST") -> Request:
    return Request(method, "gateway.example", 443, path, body=body)


def known(asked: Request) -> Dialect:
    found = detect(asked)
    assert found is not None
    return found


DOCUMENTS = {"query": "q", "documents": ["d"]}


@pytest.mark.parametrize(
    ("path", "body", "name", "operation"),
    [
        ("/v1/embeddings", {"input": "a", "model": "m"}, "openai_embeddings", "embeddings"),
        ("/v1/multimodalembeddings", {"inputs": [], "model": "m"}, "openai_embeddings", "embeddings"),
        ("/openai/deployments/d/embeddings", {"input": "a"}, "openai_embeddings", "embeddings"),
        ("/v1/audio/transcriptions", {"model": "whisper-1"}, "openai_audio", "transcription"),
        ("/v1/audio/translations", None, "openai_audio", "translation"),
        ("/v1/audio/speech", {"model": "tts-1"}, "openai_audio", "speech"),
        ("/v1/images/generations", {"prompt": "p"}, "openai_images", "image_generation"),
        ("/v1/images/edits", None, "openai_images", "image_generation"),
        ("/v1/rerank", DOCUMENTS, "rerank", "rerank"),
        ("/v1/threads/thread_1/runs", {"assistant_id": "a"}, "openai_assistants", "invoke_agent"),
        ("/v1/threads/runs", {"assistant_id": "a"}, "openai_assistants", "invoke_agent"),
        ("/v1/models/meta/llama/predictions", {"input": {}}, "replicate", "generate_content"),
        ("/generate_stream", {"inputs": "a"}, "tgi", "text_completion"),
        ("/completion", {"prompt": "a"}, "llamacpp", "text_completion"),
    ],
)
def test_each_endpoint_is_recognised(path: str, body: Any, name: str, operation: str) -> None:
    asked = request(path, body)
    assert (known(asked).name, known(asked).operation(asked)) == (name, operation)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/embeddings", None),
        ("POST", "/v1/rerank", {"items": []}),
        ("POST", "/v1/embeddings", {"folder": "x"}),
        ("GET", "/v1/threads/thread_1/runs", None),
        ("POST", "/v1/threads/thread_1/messages", {"role": "user"}),
        ("POST", "/v1/moderations", {"input": "x"}),
        ("POST", "/v1/files", None),
        ("POST", "/generate", {"width": 3}),
        ("GET", "/v1/images/generations", None),
    ],
)
def test_nothing_else_is(method: str, path: str, body: Any) -> None:
    assert detect(request(path, body, method)) is None


def test_azures_model_is_in_the_path() -> None:
    asked = request("/openai/deployments/my-whisper/audio/transcriptions", {})
    assert known(asked).model(asked) == "my-whisper"


def read(asked: Request, body: bytes, content_type: str = "application/json") -> Observation:
    reader = Reader(known(asked), content_type=content_type)
    reader.feed(body)
    reader.finish(complete=True)
    return reader.seen


def test_a_total_alone_is_what_went_in() -> None:
    seen = read(request("/v1/embeddings", {"input": "a"}), b'{"model":"voyage-4","usage":{"total_tokens":0}}')
    assert (seen.usage.input_tokens, seen.usage.output_tokens, seen.usage.total_tokens) == (0, None, 0)


def test_seconds_are_no_tokens_and_are_kept() -> None:
    asked = request("/v1/audio/transcriptions", {"model": "whisper-1"})
    seen = read(asked, b'{"text":"hi","usage":{"type":"duration","seconds":7}}')
    assert not seen.usage.known
    assert seen.usage_raw == {"type": "duration", "seconds": 7}


def test_a_segments_id_is_no_responses() -> None:
    asked = request("/v1/audio/transcriptions", {"model": "m", "stream": True})
    body = (
        b'data: {"type":"transcript.text.segment","id":"seg_0","text":"hi"}\r\n\r\n'
        b'data: {"type":"transcript.text.done","text":"hi","usage":{"input_tokens":2,"output_tokens":1}}\r\n\r\n'
    )
    seen = read(asked, body, "text/event-stream")
    assert (seen.response_id, seen.terminal, seen.usage_final, seen.usage.output_tokens) == (None, True, True, 1)


def test_what_only_costs_has_a_cost_and_no_tokens() -> None:
    seen = read(request("/v1/images/generations", {"prompt": "p"}), b'{"usage":{"cost_in_usd_ticks":200000000}}')
    assert (str(seen.cost.normalize() if seen.cost else None), seen.usage.known) == ("0.02", False)


def test_a_step_of_a_run_does_not_count_for_the_run() -> None:
    dialect = known(request("/v1/threads/t/runs", {}))
    seen = Observation()
    dialect.observe(seen, {"object": "thread.run.step", "id": "step_1", "usage": {"prompt_tokens": 1}})
    assert (seen.response_id, seen.usage_raw) == (None, None)


def test_an_unknown_answer_with_usage_is_seen_and_one_without_is_nothing() -> None:
    seen = Observation()
    UNKNOWN.observe(seen, {"result": "hi", "usage": {"disk": 3}})
    assert seen.usage_raw is None
    UNKNOWN.observe(seen, {"message": {"usage": {"input_tokens": 4, "output_tokens": 2}}})
    assert (seen.usage.input_tokens, seen.usage.output_tokens) == (4, 2)
