from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.conversation import Asked, Said, content, read

KEYS = ("messages", "role", "content", "parts", "text", "tools", "function", "type", "input", "functionCall", "system")
NEARLY = st.recursive(
    st.none() | st.text(max_size=5) | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=25,
)


@given(NEARLY)
def test_any_json_gives_something_to_read(body: Any) -> None:
    assert isinstance(read(body), Asked)


BODIES: dict[str, dict[str, Any]] = {
    "chat": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        ]
    },
    "anthropic": {"system": [{"type": "text", "text": "Be brief."}], "messages": [{"role": "user", "content": "Hi"}]},
    "responses": {
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
    },
    "gemini": {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
    },
    "code assist": {
        "model": "m",
        "request": {
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        },
    },
    "converse": {"system": [{"text": "Be brief."}], "messages": [{"role": "user", "content": [{"text": "Hi"}]}]},
}


@pytest.mark.parametrize("dialect", BODIES)
def test_every_dialect_reads_the_same(dialect: str) -> None:
    assert read(BODIES[dialect]).said == [Said("system", "Be brief."), Said("user", "Hi")]


@pytest.mark.parametrize("body", [{"input": ["a", "b"]}, {"prompt": ["a", "b"]}, {"texts": ["a", "b"]}])
def test_texts_without_a_role_are_input(body: dict[str, Any]) -> None:
    assert read(body).said == [Said("input", "a"), Said("input", "b")]


@pytest.mark.parametrize(
    "tools",
    [
        [{"type": "function", "function": {"name": "f", "description": "Does it.\nAt length."}}],
        [{"name": "f", "description": "Does it."}],
        [{"functionDeclarations": [{"name": "f", "description": "Does it."}]}],
        {"tools": [{"toolSpec": {"name": "f", "description": "Does it."}}]},
    ],
)
def test_tools_by_name(tools: Any) -> None:
    assert read({"toolConfig" if isinstance(tools, dict) else "tools": tools}).tools == {"f": "Does it."}


def test_calls_and_results_are_in_brackets() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": '{"a":1}'}}]}
    assert read({"messages": [call]}).said == [Said("assistant", '[calls f] {"a":1}')]
    assert content([{"type": "tool_use", "name": "f", "input": {"a": 1}}]) == '[calls f] {"a": 1}'
    assert content([{"type": "tool_result", "content": [{"type": "text", "text": "4"}]}]) == "[result] 4"
    assert content({"functionResponse": {"response": {"x": 1}}}) == '[result] {"x": 1}'


def test_what_is_no_text_is_named_with_its_size() -> None:
    assert content([{"type": "image_url", "image_url": {"url": "data:" + "x" * 2000}}]).startswith("[image_url, 2,0")


def test_long_parameters_are_cut_and_say_so() -> None:
    parameters = read({"model": "m", "response_format": "x" * 1000, "temperature": 0.5, "stop": None}).parameters
    assert list(parameters) == ["model", "response_format", "temperature"]
    assert parameters["response_format"].endswith("… (1,000 characters)")
