"""The issue's sentence, clause by clause: generated chunks as OpenAI-compatible `chat.completion.chunk` SSE."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.upstream.chunks import Finish, GenerationError, Reasoning, Text, ToolCall, UsageChunk
from usagetap.upstream.openai_chat import (
    chat_completion,
    format_chat,
    format_chat_async,
    format_completion,
    text_completion,
)

USAGE = UsageChunk(11, 7, cache_read_input_tokens=4, reasoning_output_tokens=2)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
choices = st.integers(0, 2)
arguments = st.dictionaries(st.text(), json_values, max_size=4)
chunk = st.one_of(
    st.builds(Text, st.text(), choices),
    st.builds(Reasoning, st.text(), choices),
    st.builds(ToolCall, st.text(), st.text(), arguments, choices),
)
streams = st.lists(chunk, max_size=12)


def payloads(frames):
    """The frames' JSON; each frame must be one whole `data:` event."""
    parsed = []
    for frame in frames:
        assert frame.startswith(b"data: ")
        assert frame.endswith(b"\n\n")
        assert b"\n" not in frame[:-2]
        text = frame[6:-2].decode()
        parsed.append(text if text == "[DONE]" else json.loads(text))
    return parsed


def deltas(parsed):
    return [frame["choices"][0] for frame in parsed if isinstance(frame, dict) and frame["choices"]]


@given(streams, st.booleans())
def test_ends_in_done_and_only_there(chunks, include_usage):
    parsed = payloads(format_chat([*chunks, USAGE], model="m", include_usage=include_usage))
    assert parsed[-1] == "[DONE]"
    assert parsed.count("[DONE]") == 1


@given(streams, st.booleans())
def test_one_id_one_creation_time_one_model_on_every_chunk(chunks, include_usage):
    parsed = payloads(format_chat([*chunks, USAGE], model="gpt-x", include_usage=include_usage))[:-1]
    assert len({(frame["id"], frame["created"], frame["model"]) for frame in parsed}) == 1
    assert parsed[0]["model"] == "gpt-x"
    assert {frame["object"] for frame in parsed} == {"chat.completion.chunk"}


def test_two_streams_have_two_ids():
    first, second = (payloads(format_chat([Text("x")], model="m"))[0]["id"] for _ in range(2))
    assert first != second
    assert first.startswith("chatcmpl-")


def test_id_and_creation_time_can_be_given():
    frame = payloads(format_chat([], model="m", response_id="chatcmpl-1", created=5))[0]
    assert (frame["id"], frame["created"]) == ("chatcmpl-1", 5)


@given(streams)
def test_texts_arrive_whole_and_in_order_per_choice(chunks):
    told = deltas(payloads(format_chat(chunks, model="m")))
    for choice in {chunk.choice for chunk in chunks}:
        said = "".join(d["delta"].get("content") or "" for d in told if d["index"] == choice)
        assert said == "".join(c.text for c in chunks if isinstance(c, Text) and c.choice == choice)
        thought = "".join(d["delta"].get("reasoning_content", "") for d in told if d["index"] == choice)
        assert thought == "".join(c.text for c in chunks if isinstance(c, Reasoning) and c.choice == choice)


@given(streams)
def test_each_choice_opens_with_its_role_once(chunks):
    told = deltas(payloads(format_chat(chunks, model="m")))
    for choice in {delta["index"] for delta in told}:
        own = [delta["delta"] for delta in told if delta["index"] == choice]
        assert own[0]["role"] == "assistant"
        assert sum("role" in delta for delta in own) == 1


@given(streams)
def test_each_tool_call_is_one_frame_with_its_arguments_as_one_json_string(chunks):
    told = deltas(payloads(format_chat(chunks, model="m")))
    for choice in {chunk.choice for chunk in chunks}:
        asked = [c for c in chunks if isinstance(c, ToolCall) and c.choice == choice]
        frames = [d["delta"]["tool_calls"] for d in told if d["index"] == choice and "tool_calls" in d["delta"]]
        assert [len(calls) for calls in frames] == [1] * len(asked)
        for index, ([call], wanted) in enumerate(zip(frames, asked, strict=True)):
            assert (call["index"], call["id"], call["type"]) == (index, wanted.id, "function")
            assert call["function"]["name"] == wanted.name
            assert isinstance(call["function"]["arguments"], str)
            assert json.loads(call["function"]["arguments"]) == wanted.arguments


def test_arguments_must_be_an_object():
    with pytest.raises(TypeError, match="must be an object, not str"):
        ToolCall("1", "f", '{"already": "text"}')


@given(streams)
def test_finish_falls_back_to_tool_calls_or_stop_per_choice(chunks):
    told = deltas(payloads(format_chat(chunks, model="m")))
    for choice in {delta["index"] for delta in told}:
        calls = any(isinstance(c, ToolCall) and c.choice == choice for c in chunks)
        own = [d["finish_reason"] for d in told if d["index"] == choice]
        assert own[-1] == ("tool_calls" if calls else "stop")
        assert set(own[:-1]) <= {None}


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ([Text("a"), Finish("length")], "length"),
        ([Text("a"), Finish()], "stop"),
        ([ToolCall("1", "f", {}), Finish()], "tool_calls"),
        ([ToolCall("1", "f", {}), Finish("stop")], "stop"),
        ([], "stop"),
    ],
)
def test_a_named_finish_reason_wins(chunks, reason):
    told = deltas(payloads(format_chat(chunks, model="m")))
    assert [d["finish_reason"] for d in told if d["finish_reason"]] == [reason]
    assert chat_completion(chunks, model="m")["choices"][0]["finish_reason"] == reason


@given(streams, st.integers(0, 12))
def test_usage_asked_for_is_null_on_each_chunk_and_told_on_one_more_with_empty_choices(chunks, at):
    chunks.insert(min(at, len(chunks)), USAGE)
    *parsed, last, done = payloads(format_chat(chunks, model="m", include_usage=True))
    assert done == "[DONE]"
    assert all(frame["usage"] is None and len(frame["choices"]) == 1 for frame in parsed)
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 11,
        "completion_tokens": 7,
        "total_tokens": 18,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }


@given(streams)
def test_usage_not_asked_for_does_not_occur(chunks):
    parsed = payloads(format_chat([*chunks, USAGE], model="m"))[:-1]
    assert not any("usage" in frame for frame in parsed)
    assert all(frame["choices"] for frame in parsed)


def test_usage_that_nobody_knows_is_not_made_up():
    parsed = payloads(format_chat([Text("a")], model="m", include_usage=True))[:-1]
    assert all(frame["choices"] and frame["usage"] is None for frame in parsed)


def test_details_that_nobody_said_are_left_out():
    frame = payloads(format_chat([UsageChunk(1, 2)], model="m", include_usage=True))[-2]
    assert frame["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def test_the_last_usage_wins():
    frame = payloads(format_chat([USAGE, UsageChunk(1, 2)], model="m", include_usage=True))[-2]
    assert frame["usage"]["prompt_tokens"] == 1


def breaking(chunks, error):
    yield from chunks
    raise error


@given(streams, st.booleans())
def test_an_exception_midstream_is_an_error_frame_and_no_done(chunks, include_usage):
    whole = list(format_chat(chunks, model="m", include_usage=include_usage, response_id="i", created=0))
    error = GenerationError("overloaded", type="overloaded_error", code="busy")
    stream = breaking(chunks, error)
    broken = list(format_chat(stream, model="m", include_usage=include_usage, response_id="i", created=0))
    assert broken[:-1] == whole[: len(broken) - 1]
    assert payloads(broken)[-1] == {
        "error": {"message": "overloaded", "type": "overloaded_error", "param": None, "code": "busy"}
    }
    assert not any(frame.startswith(b"data: [DONE]") or b'"finish_reason":"' in frame for frame in broken)


@pytest.mark.parametrize(("error", "message"), [(ValueError("bad luck"), "bad luck"), (KeyError(), "KeyError")])
def test_any_exception_has_words_and_a_type(error, message):
    last = payloads(format_chat(breaking([Text("a")], error), model="m"))[-1]
    assert last["error"]["message"] == message
    assert last["error"]["type"] == "server_error"


def test_what_cannot_be_json_is_an_error_frame_too():
    parsed = payloads(format_chat([Text("a"), ToolCall("1", "f", {"x": object()})], model="m"))
    assert "not JSON serializable" in parsed[-1]["error"]["message"]


def test_frames_come_as_soon_as_their_chunk_is_there():
    asked = []

    def slowly():
        for word in "abc":
            asked.append(word)
            yield Text(word)

    stream = format_chat(slowly(), model="m")
    next(stream)
    next(stream)
    assert asked == ["a"]


def test_leaving_early_is_no_error():
    stream = format_chat([Text("a"), Text("b")], model="m")
    next(stream)
    stream.close()
    assert list(stream) == []


@given(streams, st.booleans())
def test_async_and_sync_say_the_same(chunks, fails):
    same = {"model": "m", "include_usage": True, "response_id": "i", "created": 0}

    async def generated():
        for each in chunks:
            yield each
        if fails:
            raise ValueError("late")

    async def collect(source):
        return [frame async for frame in format_chat_async(source, **same)]

    sync = list(format_chat(breaking(chunks, ValueError("late")) if fails else chunks, **same))
    assert asyncio.run(collect(generated())) == sync
    if not fails:
        assert asyncio.run(collect(chunks)) == sync


def test_done_can_be_left_out():
    parsed = payloads(format_chat([Text("a")], model="m", send_done=False))
    assert parsed[-1]["choices"][0]["finish_reason"] == "stop"


def test_legacy_completions():
    *told, last, done = payloads(format_completion([Text("a"), Text("b"), USAGE], model="m", include_usage=True))
    assert done == "[DONE]"
    assert {frame["object"] for frame in [*told, last]} == {"text_completion"}
    assert "".join(frame["choices"][0]["text"] for frame in told) == "ab"
    assert [frame["choices"][0]["finish_reason"] for frame in told] == [None, None, "stop"]
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 18)
    assert told[0]["id"].startswith("cmpl-")


def test_a_legacy_completion_has_no_place_for_tools():
    parsed = payloads(format_completion([Text("a"), ToolCall("1", "f", {})], model="m"))
    assert "no place for ToolCall" in parsed[-1]["error"]["message"]
    with pytest.raises(TypeError, match="no place"):
        text_completion([ToolCall("1", "f", {})], model="m")


def test_whole_chat_completion():
    chunks = [Reasoning("hm"), Text("a"), Text("b"), ToolCall("1", "f", {"x": [1]}), Finish(), USAGE, Text("c", 1)]
    whole = chat_completion(chunks, model="m")
    first, second = whole["choices"]
    assert whole["object"] == "chat.completion"
    assert whole["usage"]["total_tokens"] == 18
    assert first["message"]["content"] == "ab"
    assert first["message"]["reasoning_content"] == "hm"
    assert first["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"x":[1]}'}
    assert (first["finish_reason"], second["finish_reason"]) == ("tool_calls", "stop")
    assert (second["index"], second["message"]["content"]) == (1, "c")


def test_whole_text_completion():
    whole = text_completion([Text("a"), Text("b"), USAGE], model="m")
    assert (whole["object"], whole["choices"][0]["text"]) == ("text_completion", "ab")
    assert whole["usage"]["prompt_tokens"] == 11


def test_a_whole_answer_without_usage_does_not_claim_any():
    assert "usage" not in chat_completion([Text("a")], model="m")


def test_a_whole_answer_lets_the_exception_through():
    with pytest.raises(GenerationError, match="sorry"):
        chat_completion(breaking([Text("a")], GenerationError("sorry")), model="m")
