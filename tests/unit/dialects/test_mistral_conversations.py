"""Mistral's conversations share their path with OpenAI's, which answer nothing."""

from __future__ import annotations

import pytest

from usagetap.dialects import detect
from usagetap.model import Request


@pytest.mark.parametrize(
    ("host", "body", "name"),
    [
        ("api.mistral.ai", {"inputs": "Hi", "model": "m"}, "mistral_conversations"),
        ("gateway.example", {"inputs": "Hi", "model": "m"}, "mistral_conversations"),
        ("api.mistral.ai", None, "mistral_conversations"),
        ("api.openai.com", None, None),
        ("api.openai.com", {"items": [], "metadata": {}}, None),
    ],
)
def test_a_conversation_is_mistral_s_by_its_inputs(host: str, body: object, name: str | None) -> None:
    found = detect(Request("POST", host, 443, "/v1/conversations", body=body))
    assert (found and found.name) == name
