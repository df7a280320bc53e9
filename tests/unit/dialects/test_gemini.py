"""Gemini: whom it recognises, and that the last usage counts as a whole."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.dialects import detect
from usagetap.dialects.base import Weight
from usagetap.dialects.gemini import Gemini, GeminiEmbeddings, gemini_usage
from usagetap.model import Observation, Request

BETA = "/v1beta/models/gemini-2.5-flash"
VERTEX = "/v1/projects/p/locations/global/publishers/google/models/"


def request(path: str, body: Any = None) -> Request:
    return Request("POST", "gateway.example", 443, path, body=body)


@pytest.mark.parametrize(
    ("path", "model", "stream"),
    [
        (BETA + ":generateContent", "gemini-2.5-flash", False),
        (BETA + ":streamGenerateContent", "gemini-2.5-flash", True),
        (BETA + "%3AstreamGenerateContent", "gemini-2.5-flash", True),
        (VERTEX + "gemini-3-pro:generateContent", "gemini-3-pro", False),
        ("/google/v1beta/tunedModels/mine:generateContent", "mine", False),
    ],
)
def test_the_path_names_model_and_stream(path: str, model: str, stream: bool) -> None:
    dialect = detect(request(path))
    assert isinstance(dialect, Gemini)
    assert dialect.model(request(path)) == model
    assert dialect.streams(request(path)) is stream
    assert dialect.operation(request(path)) == "generate_content"


def test_code_assist_names_the_model_in_the_body() -> None:
    asked = request("/v1internal:streamGenerateContent", {"model": "gemini-2.5-pro", "request": {}})
    dialect = detect(asked)
    assert isinstance(dialect, Gemini)
    assert dialect.model(asked) == "gemini-2.5-pro"


@pytest.mark.parametrize(
    "path",
    [BETA + ":embedContent", BETA + ":batchEmbedContents", VERTEX + "text-embedding-005:predict"],
)
def test_embeddings_are_recognised(path: str) -> None:
    dialect = detect(request(path))
    assert isinstance(dialect, GeminiEmbeddings)
    assert dialect.operation(request(path)) == "embeddings"


@pytest.mark.parametrize(
    "path",
    [BETA + ":countTokens", "/v1internal:countTokens", "/v1beta/models", VERTEX + "imagen-4.0:predict"],
)
def test_a_count_is_no_answer(path: str) -> None:
    assert detect(request(path, {"contents": []})) is None


@pytest.mark.parametrize(
    ("frame", "weight"),
    [
        (b'data: {"candidates": [{"finishReason": "STOP"}], "usageMetadata": {}}', Weight.PARSE),
        (b'data: {"promptFeedback": {"blockReason": "SAFETY"}}', Weight.PARSE),
        (b'data: {"error": {"code": 503}}', Weight.PARSE),
        (b'data: {"candidates": [{}], "usageMetadata": {"promptTokenCount": 3}}', Weight.LATEST),
        (b'data: {"candidates": [{"content": {"parts": [{"text": "\\"finishReason\\""}]}}]}', Weight.NOTHING),
    ],
)
def test_a_frame_is_weighed_by_its_names(frame: bytes, weight: Weight) -> None:
    assert Gemini().weigh(frame) is weight


USAGE = st.fixed_dictionaries(
    {},
    optional={
        name: st.none() | st.integers(0, 10**6)
        for name in ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount")
    },
)


@given(st.lists(USAGE.filter(bool), min_size=1, max_size=4))
def test_the_last_usage_counts_with_all_that_it_does_not_say(usages: list[dict[str, Any]]) -> None:
    seen = Observation()
    for usage in usages:
        Gemini().observe(seen, {"candidates": [{"content": {}}], "usageMetadata": usage})
    assert seen.usage == gemini_usage(usages[-1])
    assert seen.usage_raw == usages[-1]
    assert not seen.terminal


@given(st.integers(0, 10**6), st.none() | st.integers(0, 10**6))
def test_thinking_is_part_of_what_came_out(candidates: int, thoughts: int | None) -> None:
    told = gemini_usage({"candidatesTokenCount": candidates, "thoughtsTokenCount": thoughts})
    assert told.output_tokens == candidates + (thoughts or 0)
    assert told.reasoning_output_tokens == thoughts


def test_tool_prompts_stay_outside_the_input() -> None:
    told = gemini_usage({"promptTokenCount": 5, "toolUsePromptTokenCount": 50})
    assert (told.input_tokens, told.tool_use_input_tokens) == (5, 50)


@pytest.mark.parametrize("audio", ["AUDIO", 4])
def test_modalities_are_told_in_words_and_numbers(audio: str | int) -> None:
    told = gemini_usage({"promptTokensDetails": [{"modality": audio, "tokenCount": 7}, {"modality": 1}]})
    assert (told.audio_input_tokens, told.image_input_tokens) == (7, None)


def test_a_stream_ends_when_every_candidate_has() -> None:
    seen = Observation()
    Gemini().observe(seen, {"candidates": [{"index": 0, "finishReason": "STOP"}, {"index": 1}]})
    assert not seen.terminal
    Gemini().observe(seen, {"candidates": [{"index": 1, "finishReason": 2}], "usageMetadata": {"promptTokenCount": 1}})
    assert seen.finish_reasons == {0: "STOP", 1: 2}
    assert seen.terminal
    assert seen.usage_final


def test_a_blocked_prompt_is_an_end_without_candidates() -> None:
    seen = Observation()
    Gemini().observe(seen, {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}})
    assert seen.finish_reasons == {0: "blockReason:SAFETY"}
    assert seen.terminal
