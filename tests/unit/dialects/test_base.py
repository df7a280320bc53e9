"""What dialects share: counts, errors in every shape, what a path tells."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.dialects import detect
from usagetap.dialects.base import integer, model_in_path, observe_error, observe_error_body
from usagetap.model import Observation, Request


@given(st.integers(0, (1 << 53) - 1))
def test_a_count_is_a_count_also_as_a_float(count: int) -> None:
    assert integer(count) == count
    assert integer(float(count)) == count


@pytest.mark.parametrize("value", [None, True, "5", -1, 1.5, 1 << 53, float("inf"), float("nan"), [], {}])
def test_anything_else_is_none(value: Any) -> None:
    assert integer(value) is None


@pytest.mark.parametrize(
    ("payload", "kind", "message"),
    [
        ({"error": {"type": "server_error", "message": "Oh."}}, "server_error", "Oh."),
        ({"error": {"type": None, "code": 503, "message": "Oh."}}, "503", "Oh."),
        ([{"error": {"status": "INVALID_ARGUMENT", "message": "Oh."}}], "INVALID_ARGUMENT", "Oh."),
        ({"code": "invalid-argument", "error": "Oh."}, "invalid-argument", "Oh."),
        ({"error": "Oh.", "error_type": "validation"}, "validation", "Oh."),
        ({"object": "error", "code": 40001, "message": "Oh."}, "40001", "Oh."),
    ],
)
def test_errors_have_many_shapes(payload: Any, kind: str, message: str) -> None:
    seen = Observation()
    assert observe_error(seen, payload)
    assert (seen.error_type, seen.error_message) == (kind, message)


@pytest.mark.parametrize(
    "payload", [{"error": None}, {"error": ""}, {"error": 0}, {"error": {}}, {"message": "hi"}, [], None, "error"]
)
def test_what_is_no_error_is_none(payload: Any) -> None:
    seen = Observation()
    assert not observe_error(seen, payload)
    assert seen.error_type is None


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"detail": [{"msg": "Field required"}]}, "[{'msg': 'Field required'}]"),
        ({"Message": "No."}, "No."),
        ("Failed to deserialize\n", "Failed to deserialize"),
        ("<html>502</html>", None),
        ("  ", None),
    ],
)
def test_the_body_of_a_refusal_may_be_anything(payload: Any, message: str | None) -> None:
    seen = Observation()
    observe_error_body(seen, payload)
    assert seen.error_message == message


def test_a_message_is_cut_at_500_characters() -> None:
    seen = Observation()
    observe_error(seen, {"error": "x" * 501})
    assert len(seen.error_message or "") == 500


def test_the_first_error_stays() -> None:
    seen = Observation()
    observe_error(seen, {"error": {"type": "first", "message": "1"}})
    observe_error(seen, {"error": {"type": "second", "message": "2"}})
    assert (seen.error_type, seen.error_message) == ("first", "1")


def test_azure_names_its_deployment_in_the_path() -> None:
    assert model_in_path("//openai/deployments/gpt-4o/chat/completions") == "gpt-4o"
    assert model_in_path("/v1/chat/completions") is None


def test_databricks_and_sagemaker_name_what_they_serve_in_the_path() -> None:
    assert model_in_path("/serving-endpoints/my-claude/invocations") == "my-claude"
    assert model_in_path("/endpoints/my-llama/invocations") == "my-llama"


@pytest.mark.parametrize(
    ("host", "port", "path", "name"),
    [
        ("api.anthropic.com", 443, "/v1/messages", "anthropic"),
        ("api.anthropic.com", 443, "/v1/complete", "anthropic"),
        ("api.deepseek.com", 443, "/responses", "openai_responses"),
        ("localhost", 11434, "/api/chat", "ollama"),
        ("api.voyageai.com", 443, "/v1/rerank", "rerank"),
        ("api.mistral.ai", 443, "/v1/conversations", "mistral_conversations"),
        ("api-inference.huggingface.co", 443, "/models/gpt2", "tgi"),
        ("api.cohere.com", 443, "/v1/chat", "cohere"),
        ("api.writer.com", 443, "/v1/chat", "openai_chat"),
    ],
)
def test_a_body_that_cannot_be_read_leaves_path_and_host(host: str, port: int, path: str, name: str) -> None:
    found = detect(Request("POST", host, port, path))
    assert found is not None
    assert found.name == name
    assert detect(Request("POST", "intranet.example", 443, path)) is None
