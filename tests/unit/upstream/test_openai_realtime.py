from __future__ import annotations

from usagetap.upstream.chunks import Finish, GenerationError, Reasoning, Text, ToolCall, UsageChunk
from usagetap.upstream.formats import frames
from usagetap.upstream.openai_realtime import Cancelled, RealtimeFormat, error_event, session_event

USAGE = UsageChunk(11, 7, cache_read_input_tokens=4)


def broken(error):
    yield Text("a")
    yield Text("b")
    raise error


def test_a_response_from_created_to_done():
    chunks = [Reasoning("hidden"), Text("a"), Text("b"), ToolCall("t1", "f", {"x": 1}), Finish(), USAGE]
    events = list(frames(RealtimeFormat(), chunks))
    assert (events[0]["type"], events[-1]["type"]) == ("response.created", "response.done")
    assert events[0]["response"]["usage"] is None
    response = events[-1]["response"]
    assert response["status"] == "completed"
    assert response["output"][0]["content"][0]["text"] == "ab"
    assert response["output"][1]["arguments"] == '{"x":1}'
    usage = response["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (11, 7, 18)
    assert usage["input_token_details"]["cached_tokens"] == 4
    assert "hidden" not in str(events)
    assert len({event["event_id"] for event in events}) == len(events)


def test_an_incomplete_response_says_why():
    done = list(frames(RealtimeFormat(), [Text("a"), Finish("max_output_tokens"), USAGE]))[-1]
    assert done["response"]["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}


def test_a_failed_response_names_its_error():
    done = list(frames(RealtimeFormat(), broken(GenerationError("sorry", code="c"))))[-1]
    assert (done["type"], done["response"]["status"]) == ("response.done", "failed")
    assert done["response"]["status_details"]["error"]["code"] == "c"


def test_a_cancelled_response_has_the_usage_so_far():
    events = list(frames(RealtimeFormat(opening=USAGE), broken(Cancelled())))
    response = events[-1]["response"]
    assert (response["status"], response["status_details"]["reason"]) == ("cancelled", "client_cancelled")
    assert (response["usage"]["input_tokens"], response["usage"]["output_tokens"]) == (11, 2)
    assert response["output"][0]["content"][0]["text"] == "ab"


def test_session_and_error_events():
    assert session_event("session.created", "m")["session"]["model"] == "m"
    assert error_event("no")["error"]["message"] == "no"
