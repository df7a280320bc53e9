"""Gemini's Interactions: asked for, read back, unfinished."""

from __future__ import annotations

from typing import Any

import pytest

from usagetap.dialects import detect
from usagetap.dialects.gemini_interactions import GeminiInteractions, interactions_usage
from usagetap.model import Observation, Request


def request(method: str, path: str, body: Any = None, **query: str) -> Request:
    return Request(method, "gateway.example", 443, path, query, body=body)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1beta/interactions", {"model": "gemini-2.5-flash", "input": "hi"}),
        ("POST", "/google/v1alpha/interactions/", {"agent": "deep-research", "input": []}),
        ("GET", "/v1beta/interactions/v1_abc", None),
        ("POST", "/v1beta1/projects/p/locations/global/interactions", {"input": "hi"}),
    ],
)
def test_interactions_are_recognised(method: str, path: str, body: Any) -> None:
    assert isinstance(detect(request(method, path, body)), GeminiInteractions)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1beta/interactions", None),
        ("DELETE", "/v1beta/interactions/v1_abc", None),
        ("POST", "/v1beta/interactions/v1_abc/cancel", {}),
        ("POST", "/v1/interactions", {"user": "who clicked"}),
    ],
)
def test_what_generates_nothing_is_left_alone(method: str, path: str, body: Any) -> None:
    assert detect(request(method, path, body)) is None


def test_a_stream_is_asked_for_in_the_body_or_in_the_query() -> None:
    dialect = GeminiInteractions()
    assert dialect.streams(request("POST", "/v1beta/interactions", {"stream": True}))
    assert dialect.streams(request("GET", "/v1beta/interactions/v1_abc", stream="true"))
    assert not dialect.streams(request("GET", "/v1beta/interactions/v1_abc"))


def test_the_agent_stands_for_the_model() -> None:
    assert (
        GeminiInteractions().model(request("POST", "/v1beta/interactions", {"agent": "deep-research"}))
        == "deep-research"
    )


@pytest.mark.parametrize(("status", "background"), [("in_progress", True), ("completed", False), ("failed", False)])
def test_an_answer_in_progress_goes_on_elsewhere(status: str, background: bool) -> None:
    seen = Observation()
    GeminiInteractions().observe(seen, {"id": "v1_abc", "status": status})
    assert seen.background is background
    assert (seen.error_type == "failed") is (status == "failed")
    assert seen.response_id == "v1_abc"


def test_thoughts_and_tools_are_counted_apart() -> None:
    told = interactions_usage(
        {"total_input_tokens": 9, "total_output_tokens": 13, "total_thought_tokens": 207, "total_tool_use_tokens": 4}
    )
    assert (told.input_tokens, told.output_tokens, told.reasoning_output_tokens) == (9, 220, 207)
    assert told.tool_use_input_tokens == 4


TOLD = {"total_input_tokens": 9, "total_output_tokens": 3}


@pytest.mark.parametrize(
    "event",
    [
        {"event_type": "step.stop", "index": 0, "usage": TOLD, "step_usage": {"total_output_tokens": 1}},
        {"event_type": "step.stop", "index": 0, "metadata": {"usage": TOLD}},
        {"event_type": "interaction.status_update", "status": "in_progress", "usage": TOLD},
    ],
)
def test_the_usage_so_far_is_told_on_the_way(event: Any) -> None:
    seen = Observation()
    GeminiInteractions().observe(seen, event)
    assert (seen.usage.input_tokens, seen.usage.output_tokens, seen.usage_final) == (9, 3, False)
    whole: dict[str, Any] = {"id": "v1_abc", "status": "completed", "usage": TOLD | {"total_output_tokens": 8}}
    GeminiInteractions().observe(seen, {"event_type": "interaction.completed", "interaction": whole})
    assert (seen.usage.output_tokens, seen.usage_final, seen.terminal) == (8, True, True)
