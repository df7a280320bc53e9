from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.upstream.chunks import Finish, GenerationError, Reasoning, Text, ToolCall, UsageChunk
from usagetap.upstream.openai_responses import TERMINAL, response_events, response_frames

USAGE = UsageChunk(11, 7, cache_read_input_tokens=4, reasoning_output_tokens=2)
TOLD = {
    "input_tokens": 11,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 18,
}
CHUNKS = [Reasoning("h"), Reasoning("m"), Text("a"), Text("b"), ToolCall("t1", "f", {"x": [1]}), Finish(), USAGE]


def named(events, name):
    return [event for event in events if event["type"] == name]


@given(st.lists(st.sampled_from(CHUNKS), max_size=10))
def test_usage_stands_in_the_terminal_event_alone(chunks):
    events = list(response_events([*chunks, USAGE], model="m"))
    assert [event["type"] for event in events if event["type"] in TERMINAL] == ["response.completed"]
    assert events[-1]["response"]["usage"] == TOLD
    assert all(event["response"]["usage"] is None for event in events[:-1] if "response" in event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert len({event["response"]["id"] for event in events if "response" in event}) == 1


@given(st.lists(st.sampled_from(CHUNKS), max_size=10))
def test_each_item_is_added_and_done_in_order_and_all_of_them_are_the_output(chunks):
    events = list(response_events(chunks, model="m"))
    added = [event["item"]["id"] for event in named(events, "response.output_item.added")]
    done = [event["item"]["id"] for event in named(events, "response.output_item.done")]
    assert added == done == [item["id"] for item in events[-1]["response"]["output"]]
    assert len(set(added)) == len(added)
    said = "".join(event["delta"] for event in named(events, "response.output_text.delta"))
    assert said == "".join(chunk.text for chunk in chunks if isinstance(chunk, Text))


def test_the_output_in_full():
    events = list(response_events(CHUNKS, model="m"))
    thought, message, call = events[-1]["response"]["output"]
    assert thought["summary"][0]["text"] == "hm"
    assert message["content"][0]["text"] == "ab"
    assert (call["call_id"], call["name"], call["arguments"]) == ("t1", "f", '{"x":[1]}')
    assert named(events, "response.output_text.done")[0]["text"] == "ab"
    assert named(events, "response.function_call_arguments.done")[0]["arguments"] == '{"x":[1]}'


def test_what_was_said_early_does_not_know_the_end():
    """Events are serialised later than made: none may share what changes afterwards."""
    events = list(response_events(CHUNKS, model="m"))
    assert events[0]["response"]["output"] == []
    assert [event["item"].get("content") for event in named(events, "response.output_item.added")] == [None, [], None]
    assert named(events, "response.content_part.added")[0]["part"]["text"] == ""


@pytest.mark.parametrize("reason", ["max_output_tokens", "content_filter"])
def test_incomplete_carries_usage_and_its_reason(reason):
    last = list(response_events([Text("a"), Finish(reason), USAGE], model="m"))[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": reason}
    assert last["response"]["usage"] == TOLD


def broken():
    yield Text("a")
    raise GenerationError("sorry", code="rate_limit_exceeded")


def test_an_exception_is_an_error_event_then_response_failed():
    *_, error, failed = response_events(broken(), model="m")
    assert (error["type"], error["code"], error["message"]) == ("error", "rate_limit_exceeded", "sorry")
    assert failed["type"] == "response.failed"
    assert (failed["response"]["status"], failed["response"]["usage"]) == ("failed", None)
    assert failed["response"]["error"] == {"code": "rate_limit_exceeded", "message": "sorry"}


def test_stream_id_is_echoed_on_every_event_and_absent_without():
    assert {event["stream_id"] for event in response_events(CHUNKS, model="m", stream_id="s")} == {"s"}
    assert not any("stream_id" in event for event in response_events(CHUNKS, model="m"))


def test_frames_name_their_event_and_there_is_no_done():
    frames = list(response_frames(response_events(CHUNKS, model="m")))
    for frame in frames:
        name, data, *_ = frame.decode().split("\n")
        assert name == "event: " + json.loads(data.removeprefix("data: "))["type"]
    assert b"[DONE]" not in b"".join(frames)
    cut = list(response_frames(response_events(CHUNKS, model="m"), send_terminal=False))
    assert len(cut) == len(frames) - 1
