"""Answers put together again: each provider's shape, whole and in pieces; any JSON; the recorded corpus."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.corpus import exchanges, needs_corpus

from usagetap.assembly import Answer, assemble, payloads

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
KEYS = (
    *("choices", "delta", "message", "content", "text", "type", "index", "finish_reason", "tool_calls", "function"),
    *("arguments", "candidates", "parts", "response", "output", "event_type", "step", "steps", "contentBlockDelta"),
    *("token", "outputs", "results", "data", "embedding", "embeddings", "error", "content_block", "item", "toolCall"),
)
WORDS = (
    *("response.output_text.delta", "response.completed", "message", "content_block_start", "content_block_delta"),
    *("tool_use", "thinking", "step.start", "step.delta", "tool-call-delta", "function_call", "transcript.text.done"),
)
#: JSON that looks like a provider's: its keys and words in the wrong places
NEARLY = st.recursive(
    st.none() | st.sampled_from(WORDS) | st.integers(-2, 5) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=25,
)


@given(st.lists(JSON | NEARLY, max_size=6))
def test_any_json_leaves_it_standing(told: list[Any]) -> None:
    assert isinstance(assemble(told), Answer)


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_any_body_has_frames_or_none(body: bytes) -> None:
    assemble(payload for _, payload in payloads(body))


def text_of(answer: Answer) -> str:
    return "".join(answer.choice().text)


CALL = {"name": "get_weather", "arguments": '{"city": "Zürich"}'}
SHAPES: dict[str, list[Any]] = {
    "chat": [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}}]},
        {"choices": [{"index": 0, "delta": {"content": "lo", "reasoning_content": "think"}}]},
        {
            "choices": [
                {"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "get_weather"}}]}}
            ]
        },
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": '{"city": '}}]}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": '"Zürich"}'}}]}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
        {"choices": [], "usage": {"total_tokens": 1}},
    ],
    "chat, whole": [
        {
            "choices": [
                {
                    "message": {
                        "content": "Hello",
                        "reasoning": "think",
                        "tool_calls": [{"id": "c1", "type": "function", "function": CALL}],
                    },
                    "finish_reason": "tool_calls",
                }
            ]
        }
    ],
    "responses": [
        {"type": "response.created", "response": {"status": "in_progress", "output": []}},
        {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "think"},
        {"type": "response.output_text.delta", "output_index": 1, "delta": "Hello"},
        {
            "type": "response.output_item.added",
            "output_index": 2,
            "item": {"type": "function_call", "name": "get_weather", "call_id": "c1"},
        },
        {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": CALL["arguments"]},
        {"type": "response.incomplete", "response": {"incomplete_details": {"reason": "tool_calls"}}},
    ],
    "responses, whole": [
        {
            "object": "response",
            "status": "tool_calls",
            "output": [
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "think"}]},
                {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]},
                {"type": "function_call", "call_id": "c1", **CALL},
            ],
        }
    ],
    "anthropic": [
        {"type": "message_start", "message": {"usage": {}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "think"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hello"}},
        {
            "type": "content_block_start",
            "index": 2,
            "content_block": {"type": "tool_use", "id": "c1", "name": "get_weather", "input": {}},
        },
        {
            "type": "content_block_delta",
            "index": 2,
            "delta": {"type": "input_json_delta", "partial_json": CALL["arguments"]},
        },
        {"type": "message_delta", "delta": {"stop_reason": "tool_calls"}},
        {"type": "message_stop"},
    ],
    "anthropic, whole": [
        {
            "type": "message",
            "content": [
                {"type": "thinking", "thinking": "think"},
                {"type": "text", "text": "Hello"},
                {"type": "tool_use", "id": "c1", "name": "get_weather", "input": {"city": "Zürich"}},
            ],
            "stop_reason": "tool_calls",
        }
    ],
    "gemini": [
        {"candidates": [{"content": {"parts": [{"text": "think", "thought": True}, {"text": "Hel"}]}}]},
        {"response": {"candidates": [{"content": {"parts": [{"text": "lo"}]}}]}},
        {
            "candidates": [
                {
                    "content": {
                        "parts": [{"functionCall": {"id": "c1", "name": "get_weather", "args": {"city": "Zürich"}}}]
                    },
                    "finishReason": "tool_calls",
                }
            ]
        },
    ],
    "interactions": [
        {"event_type": "step.delta", "delta": {"type": "thought_summary", "text": "think"}},
        {"event_type": "step.delta", "delta": {"type": "text", "text": "Hello"}},
        {"event_type": "step.start", "index": 2, "step": {"type": "function_call", "id": "c1", "name": "get_weather"}},
        {"event_type": "step.delta", "index": 2, "delta": {"type": "arguments", "arguments": CALL["arguments"]}},
        {"event_type": "interaction.completed", "interaction": {"status": "tool_calls"}},
    ],
    "converse": [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "think"}}}},
        {"contentBlockDelta": {"contentBlockIndex": 1, "delta": {"text": "Hello"}}},
        {
            "contentBlockStart": {
                "contentBlockIndex": 2,
                "start": {"toolUse": {"name": "get_weather", "toolUseId": "c1"}},
            }
        },
        {"contentBlockDelta": {"contentBlockIndex": 2, "delta": {"toolUse": {"input": CALL["arguments"]}}}},
        {"messageStop": {"stopReason": "tool_calls"}},
    ],
    "converse, whole": [
        {
            "output": {
                "message": {
                    "content": [
                        {"reasoningContent": {"reasoningText": {"text": "think"}}},
                        {"text": "Hello"},
                        {"toolUse": {"name": "get_weather", "toolUseId": "c1", "input": {"city": "Zürich"}}},
                    ]
                }
            },
            "stopReason": "tool_calls",
        }
    ],
    "ollama": [
        {"message": {"role": "assistant", "content": "Hel", "thinking": "think"}, "done": False},
        {
            "message": {
                "content": "lo",
                "tool_calls": [{"id": "c1", "function": {"name": "get_weather", "arguments": {"city": "Zürich"}}}],
            }
        },
        {"message": {"content": ""}, "done": True, "done_reason": "tool_calls"},
    ],
    "cohere": [
        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"thinking": "think"}}}},
        {"type": "content-delta", "index": 1, "delta": {"message": {"content": {"text": "Hello"}}}},
        {
            "type": "tool-call-start",
            "delta": {"message": {"tool_calls": {"id": "c1", "function": {"name": "get_weather", "arguments": ""}}}},
        },
        {
            "type": "tool-call-delta",
            "delta": {"message": {"tool_calls": {"function": {"arguments": CALL["arguments"]}}}},
        },
        {"type": "message-end", "delta": {"finish_reason": "tool_calls"}},
    ],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_says_the_same(shape: str) -> None:
    answer = assemble(SHAPES[shape])
    choice = answer.choice()
    (call,) = choice.calls.values()
    assert text_of(answer) == "Hello"
    assert "".join(choice.reasoning) == "think"
    assert (call.name, call.call_id, json.loads(call.pretty)) == ("get_weather", "c1", {"city": "Zürich"})
    assert choice.finish_reason == "tool_calls"
    assert answer.error is None


@pytest.mark.parametrize(
    "told",
    [
        [{"choices": [{"text": "Hel"}]}, {"choices": [{"text": "lo", "finish_reason": "stop"}]}],
        [{"response": "Hel", "done": False}, {"response": "lo", "done": True, "done_reason": "stop"}],
        [{"type": "completion", "completion": "Hello", "stop_reason": "stop"}],
        [
            {"event_type": "text-generation", "text": "Hello"},
            {"event_type": "stream-end", "is_finished": True, "finish_reason": "stop"},
        ],
        [{"token": {"text": "Hello"}, "generated_text": "Hello", "details": {"finish_reason": "stop"}}],
        [{"results": [{"outputText": "Hello", "completionReason": "stop"}]}],
        [{"outputs": [{"text": "Hello", "stop_reason": "stop"}]}],
        [{"generation": "Hello", "stop_reason": "stop"}],
        [{"choices": [{"message": {"content": "Hello"}, "delta": {"content": ""}, "finish_reason": "stop"}]}],
        [
            {"type": "response.output_text.delta", "delta": "He"},
            {
                "type": "response.done",
                "response": {
                    "status": "stop",
                    "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}],
                },
            },
        ],
    ],
)
def test_texts_of_all_kinds(told: list[Any]) -> None:
    answer = assemble(told)
    assert text_of(answer) == "Hello"
    assert answer.choice().finish_reason == "stop"


def test_choices_side_by_side_do_not_mix() -> None:
    answer = assemble(
        [{"choices": [{"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}]}] * 2
    )
    assert {index: "".join(choice.text) for index, choice in answer.choices.items()} == {0: "aa", 1: "bb"}


def test_arguments_that_were_cut_stay_as_they_came() -> None:
    answer = assemble(SHAPES["chat"][:4])
    assert next(iter(answer.choice().calls.values())).pretty == '{"city": '


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ({"error": {"type": "overloaded_error", "message": "Overloaded"}}, "overloaded_error: Overloaded"),
        ({"message": "The provided model identifier is invalid."}, "error: The provided model identifier is invalid."),
        ({"detail": "Invalid API Key"}, "error: Invalid API Key"),
    ],
)
def test_errors_are_told(told: Any, error: str) -> None:
    assert assemble([told]).error == error


def test_what_is_no_text_is_named() -> None:
    assert assemble([{"data": [{"embedding": [0.1] * 3}, {"embedding": [0.2] * 3}]}]).notes == ["2 vectors of 3"]
    assert assemble([{"data": [{"b64_json": "x" * 12}]}]).notes == ["an image, 12 characters of base64"]
    assert assemble([{"results": [{"index": 2, "relevance_score": 0.7}]}]).notes == ["document 2: 0.7"]


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (b'data: {"a": 1}\n\ndata: [DONE]\n\n', [{"a": 1}, None]),
        (b'{"a": 1}\n{"b": 2}\n{"c"', [{"a": 1}, {"b": 2}, None]),
        (b'[{"a": 1},\n{"b": 2}]', [{"a": 1}, {"b": 2}]),
        (b'[{"a": 1},\n{"b": 2', [{"a": 1}]),
        (b'\n  {\n "a": 1\n}\n', [{"a": 1}]),
    ],
)
def test_bodies_are_read_whole_and_cut(body: bytes, texts: list[Any]) -> None:
    assert [payload for _, payload in payloads(body)] == texts


@needs_corpus
@pytest.mark.corpus
@pytest.mark.parametrize("api", ["openai.chat", "openai.responses", "anthropic.messages", "gemini.generateContent"])
def test_recorded_answers_say_something(api: str) -> None:
    """Nearly all that ended well have something to show; the rest really are empty."""
    told = silent = 0
    for exchange in exchanges():
        if exchange["api"] == api and exchange["status"] < 400 and "body" in exchange:
            answer = assemble(payload for _, payload in payloads(exchange["body"].encode()))
            said = any(each.text or each.calls or each.refusal or each.reasoning for each in answer.choices.values())
            told += bool(said or answer.error or answer.notes)
            silent += not (said or answer.error or answer.notes)
    assert told > 300
    assert silent < told * 0.03
