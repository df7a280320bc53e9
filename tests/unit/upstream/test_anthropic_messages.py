from __future__ import annotations

import json

import pytest

from usagetap.upstream.anthropic_messages import format_messages, whole_message
from usagetap.upstream.chunks import Finish, GenerationError, Reasoning, Text, ToolCall, UsageChunk

USAGE = UsageChunk(11, 7, cache_read_input_tokens=4, cache_write_input_tokens=3, reasoning_output_tokens=2)
CHUNKS = [Reasoning("h"), Reasoning("m"), Text("a"), Text("b"), ToolCall("t1", "f", {"x": [1]}), Finish(), USAGE]


def events(frames):
    """The payloads; each frame must name its payload's type as its event."""
    told = []
    for frame in frames:
        name, data, *rest = frame.decode().split("\n")
        assert rest == ["", ""]
        told.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {told[-1]['type']}"
    return told


def test_a_message_from_start_to_stop():
    told = events(format_messages(CHUNKS, model="claude", opening=USAGE))
    assert [each["type"] for each in told if each["type"] != "content_block_delta"] == [
        "message_start",
        "ping",
        *["content_block_start", "content_block_stop"] * 3,
        "message_delta",
        "message_stop",
    ]
    assert [each["delta"]["type"] for each in told if each["type"] == "content_block_delta"] == [
        *["thinking_delta"] * 2,
        "signature_delta",
        *["text_delta"] * 2,
        "input_json_delta",
    ]


def test_blocks_are_numbered_and_closed_in_order():
    told = events(format_messages(CHUNKS, model="claude"))
    blocks = [each["index"] for each in told if "index" in each]
    assert blocks == sorted(blocks)
    assert [each["content_block"]["type"] for each in told if each["type"] == "content_block_start"] == [
        "thinking",
        "text",
        "tool_use",
    ]


def test_start_tells_the_input_in_anthropics_arithmetic_and_a_placeholder_of_the_output():
    usage = events(format_messages(CHUNKS, model="claude", opening=USAGE))[0]["message"]["usage"]
    assert usage["input_tokens"] == 11 - 4 - 3
    assert (usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]) == (4, 3)
    assert usage["cache_creation"] == {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 0}
    assert usage["output_tokens"] == 1


def test_delta_brings_the_final_usage():
    delta = events(format_messages(CHUNKS, model="claude", opening=USAGE))[-2]
    assert delta["usage"]["output_tokens"] == 7
    assert delta["usage"]["input_tokens"] == 4
    assert delta["usage"]["output_tokens_details"] == {"thinking_tokens": 2}


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ([Text("a")], "end_turn"),
        ([ToolCall("1", "f", {})], "tool_use"),
        ([Text("a"), Finish("max_tokens")], "max_tokens"),
    ],
)
def test_stop_reason(chunks, reason):
    assert events(format_messages(chunks, model="c"))[-2]["delta"]["stop_reason"] == reason
    assert whole_message(chunks, model="c")["stop_reason"] == reason


def broken():
    yield Text("a")
    raise GenerationError("Overloaded", type="overloaded_error")


def test_an_error_ends_the_stream():
    told = events(format_messages(broken(), model="c"))
    assert told[-1]["error"] == {"type": "overloaded_error", "message": "Overloaded"}
    assert not any(each["type"] in ("message_delta", "message_stop") for each in told)


def test_the_stop_can_be_left_out():
    assert events(format_messages(CHUNKS, model="c", send_stop=False))[-1]["type"] == "message_delta"


def test_a_whole_message():
    whole = whole_message(CHUNKS, model="claude")
    assert [block["type"] for block in whole["content"]] == ["thinking", "text", "tool_use"]
    assert whole["content"][2]["input"] == {"x": [1]}
    assert (whole["type"], whole["role"], whole["model"]) == ("message", "assistant", "claude")
    assert whole["usage"]["input_tokens"] + whole["usage"]["cache_read_input_tokens"] == 8
