"""Which requests are OpenAI's chat in another's clothes, and errors that hide in a frame."""

from __future__ import annotations

from typing import Any

import pytest

from usagetap.dialects import detect
from usagetap.dialects.base import Weight
from usagetap.dialects.gemini import Gemini
from usagetap.dialects.openai_chat import OpenAIChat
from usagetap.model import Observation, Request

VERTEX = "/v1/projects/p/locations/l/publishers/"
SAID = {"messages": [{"role": "user", "content": "?"}]}


def asked(path: str, body: Any = None, **more: str) -> Request:
    return Request("POST", "host.example", 443, path, body=body, **more)


@pytest.mark.parametrize(
    ("path", "body", "model", "streams"),
    [
        ("/serving-endpoints/databricks-claude/invocations", SAID, "databricks-claude", False),
        ("/serving-endpoints/databricks-claude/invocations", SAID | {"stream": True}, "databricks-claude", True),
        (VERTEX + "mistralai/models/mistral-medium-3:rawPredict", SAID, "mistral-medium-3", False),
        (VERTEX + "mistralai/models/mistral-medium-3:streamRawPredict", SAID, "mistral-medium-3", True),
        (VERTEX + "mistralai/models/codestral-2:rawPredict", {"prompt": "def", "suffix": "x"}, "codestral-2", False),
        ("/gateway/acme/v1/chat", SAID | {"model": "palmyra"}, "palmyra", False),
    ],
)
def test_chat_is_told_by_path_and_shape(path: str, body: Any, model: str, streams: bool) -> None:
    request = asked(path, body)
    found = detect(request)
    assert isinstance(found, OpenAIChat)
    assert (found.name, found.model(request), found.streams(request)) == ("openai_chat", model, streams)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (VERTEX + "mistralai/models/mistral-ocr:rawPredict", {"document": {}}),
        ("/serving-endpoints/forest/invocations", {"dataframe_split": {}}),
        (VERTEX + "mistralai/models/mistral-medium-3:rawPredict", None),
    ],
)
def test_what_has_no_messages_is_no_chat(path: str, body: Any) -> None:
    assert detect(asked(path, body)) is None


def test_vertex_refuses_fields_that_mistral_does_not_know() -> None:
    found = detect(asked(VERTEX + "mistralai/models/mistral-medium-3:streamRawPredict", SAID | {"stream": True}))
    assert found is not None
    assert not found.takes_include_usage


@pytest.mark.parametrize(
    ("payload", "kind", "message"),
    [
        ({"choices": [], "x_groq": {"id": "r", "error": "out of tokens"}}, "error", "out of tokens"),
        ({"choices": [{"finish_reason": "error", "error": {"code": 502, "message": "Oh."}}]}, "502", "Oh."),
        ({"choices": [{"finish_reason": "error", "delta": {}}]}, "error", None),
    ],
)
def test_an_error_may_stand_inside_a_frame(payload: Any, kind: str, message: str | None) -> None:
    seen = Observation()
    OpenAIChat().observe(seen, payload)
    assert (seen.error_type, seen.error_message) == (kind, message)


@pytest.mark.parametrize("payload", [{"x_groq": {"id": "r"}}, {"x_groq": None}, {"choices": [{"error": None}]}])
def test_the_usual_frame_has_none(payload: Any) -> None:
    seen = Observation()
    OpenAIChat().observe(seen, payload)
    assert seen.error_type is None


@pytest.mark.parametrize(
    "path",
    [
        "/api/v2/cortex/inference:complete",
        "/v1/projects/p/locations/l/publishers/mistralai/models/mistral-medium-3:streamRawPredict",
    ],
)
def test_who_refuses_other_fields_is_asked_for_nothing(path: str) -> None:
    dialect = detect(Request("POST", "h", 443, path, body={"model": "m", "messages": [], "stream": True}))
    assert dialect is not None
    assert dialect.name == "openai_chat"
    assert not dialect.takes_include_usage


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"messages": []}, "openai_chat"),
        ({"prompt": "Hi"}, "openai_completions"),
        ({"input": "Hi"}, "openai_embeddings"),
        ({"input": ["Hi", "you"]}, "openai_embeddings"),
        ({"input": [{"role": "user", "content": "an agent's"}]}, None),
        ({"dataframe_split": {}}, None),
        (None, None),
    ],
)
def test_what_a_serving_endpoint_is_asked_tells_what_it_speaks(asked: Any, name: str | None) -> None:
    """https://docs.databricks.com/machine-learning/foundation-models/api-reference"""
    found = detect(Request("POST", "h", 443, "/serving-endpoints/mine/invocations", body=asked))
    assert (found and found.name) == name


def test_an_empty_usage_object_does_not_replace_one_that_tells() -> None:
    """Nor does Gemini's: only the last frame that weighs is read."""
    weigh = OpenAIChat().weigh
    assert weigh(b'data: {"choices":[],"usage":{"prompt_tokens":3}}\n\n') is Weight.LATEST
    assert weigh(b'data: {"choices":[],"usage": { }}\n\n') is Weight.NOTHING
    assert Gemini().weigh(b'data: {"usageMetadata": {"promptTokenCount":3}}\r\n\r\n') is Weight.LATEST
    assert Gemini().weigh(b'data: {"usageMetadata":{},"modelVersion":"g"}\r\n\r\n') is Weight.NOTHING
