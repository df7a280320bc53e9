from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.estimate.deltas import delta_text, strands

DIALECTS = ("openai_chat", "openai_completions", "openai_responses", "anthropic", "gemini", "ollama", "cohere")
words = st.sampled_from(
    ["choices", "delta", "message", "content", "text", "tool_calls", "function", "type", "item", "parts", "candidates"]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=5), inner, max_size=4),
    max_leaves=25,
)


@given(st.sampled_from(DIALECTS), json_values)
def test_any_json_gives_text(dialect, payload):
    assert isinstance(delta_text(dialect, payload), str)


@pytest.mark.parametrize(
    ("dialect", "payload", "text"),
    [
        ("openai_chat", {"choices": [{"index": 0, "delta": {"content": "hello"}}]}, "hello"),
        ("openai_chat", {"choices": [{"delta": {"reasoning_content": "hm", "content": None}}]}, "hm"),
        ("openai_chat", {"choices": [{"delta": {"reasoning": "hm", "reasoning_content": "hm"}}]}, "hm"),
        ("openai_chat", {"choices": [{"delta": {"refusal": "no"}}]}, "no"),
        (
            "openai_chat",
            {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}}]},
            "f{}",
        ),
        ("openai_chat", {"choices": [{"message": {"content": "writer"}}]}, "writer"),
        ("openai_chat", {"choices": [], "usage": {"prompt_tokens": 1}}, ""),
        ("openai_completions", {"choices": [{"text": "abc", "index": 0}]}, "abc"),
        ("openai_responses", {"type": "response.output_text.delta", "delta": "x", "output_index": 1}, "x"),
        ("openai_responses", {"type": "response.function_call_arguments.delta", "delta": '{"a"'}, '{"a"'),
        ("openai_responses", {"type": "response.reasoning_summary_text.delta", "delta": "thought"}, ""),
        ("openai_responses", {"type": "response.output_text.done", "text": "whole again"}, ""),
        (
            "openai_responses",
            {"type": "response.output_item.added", "item": {"type": "function_call", "name": "f"}},
            "f",
        ),
        (
            "openai_responses",
            {
                "type": "response.output_item.done",
                "item": {"type": "mcp_approval_request", "name": "f", "arguments": "{}"},
            },
            "f{}",
        ),
        (
            "openai_responses",
            {"type": "response.output_item.done", "item": {"type": "local_shell_call", "action": {"command": ["ls"]}}},
            'local_shell_call{"command":["ls"]}',
        ),
        (
            "openai_responses",
            {
                "type": "response.output_item.done",
                "item": {"type": "tool_search_call", "execution": "server", "arguments": {}},
            },
            "",
        ),
        (
            "openai_responses",
            {"type": "response.output_item.done", "item": {"type": "function_call", "name": "f", "arguments": "{}"}},
            "",
        ),
        ("openai_responses", {"type": "response.output_item.done", "item": {"type": []}}, ""),
        ("anthropic", {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hi"}}, "hi"),
        ("anthropic", {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hm"}}, "hm"),
        ("anthropic", {"type": "content_block_delta", "delta": {"partial_json": '{"q":'}}, '{"q":'),
        ("anthropic", {"type": "content_block_start", "content_block": {"type": "tool_use", "name": "f"}}, "f"),
        ("gemini", {"candidates": [{"content": {"parts": [{"text": "a"}, {"text": "b", "thought": True}]}}]}, "a"),
        ("gemini", {"response": {"candidates": [{"content": {"parts": [{"text": "wrapped"}]}}]}}, "wrapped"),
        ("gemini_live", {"serverContent": {"modelTurn": {"parts": [{"text": "live"}]}}}, "live"),
        ("ollama", {"message": {"role": "assistant", "content": "o"}}, "o"),
        ("ollama", {"response": "generated"}, "generated"),
    ],
)
def test_the_text_of_a_payload(dialect, payload, text):
    assert delta_text(dialect, payload) == text


def test_choices_and_calls_are_strands_of_their_own():
    payload = {
        "choices": [
            {"index": 0, "delta": {"content": "a", "reasoning": "b"}},
            {"index": 1, "delta": {"content": "c"}},
            {"index": 1, "delta": {"tool_calls": [{"index": 3, "function": {"name": "n", "arguments": "g"}}]}},
        ]
    }
    found = list(strands("openai_chat", payload))
    assert [text for _, text in found] == ["a", "b", "c", "n", "g"]
    assert len({strand for strand, _ in found}) == 5
