from __future__ import annotations

import json
from typing import Any

import pytest

from usagetap.model import Request
from usagetap.turns import Answered, Ended, Event, Opened, Turns, turns_for

USAGE = {"input_tokens": 13, "output_tokens": 9, "total_tokens": 22}


def responses(**options: Any) -> Turns:
    turns = turns_for(Request("GET", "api.openai.com", 443, "/v1/responses"), **options)
    assert turns is not None
    return turns


def realtime() -> Turns:
    turns = turns_for(Request("GET", "api.openai.com", 443, "/v1/realtime", query={"model": "gpt-realtime"}))
    assert turns is not None
    return turns


def sent(turns: Turns, **message: Any) -> list[Event]:
    return turns.sent(json.dumps(message).encode())


def received(turns: Turns, **message: Any) -> list[Event]:
    return turns.received(json.dumps(message).encode())


def ask(turns: Turns, **more: Any) -> list[Event]:
    return sent(turns, type="response.create", **more)


def created(turns: Turns, response_id: str, **more: Any) -> list[Event]:
    return received(turns, type="response.created", response={"id": response_id, "status": "in_progress"}, **more)


def completed(turns: Turns, response_id: str, **more: Any) -> list[Event]:
    response = {"id": response_id, "status": "completed", "usage": USAGE}
    return received(turns, type="response.completed", response=response, **more)


def ended(events: list[Event]) -> list[int]:
    return [event.turn.number for event in events if isinstance(event, Ended)]


def test_a_turn_opens_is_answered_and_ends() -> None:
    turns = responses()
    (opened,) = ask(turns, model="gpt-5-mini", input="hi")
    assert isinstance(opened, Opened)
    assert (opened.turn.number, opened.turn.request_model, opened.turn.operation) == (1, "gpt-5-mini", "chat")
    assert created(turns, "resp_1") == [Answered(opened.turn)]
    assert received(turns, type="response.output_text.delta", item_id="m", delta="hi") == []
    assert completed(turns, "resp_1") == [Ended(opened.turn)]
    assert opened.turn.frames == 3
    assert opened.turn.seen.usage.input_tokens == 13
    assert opened.turn.seen.terminal
    assert turns.finish() == []


def test_interleaved_streams_keep_their_own_turns() -> None:
    turns = responses()
    ask(turns, model="a", stream_id="s1")
    ask(turns, model="b", stream_id="s2")
    created(turns, "resp_b", stream_id="s2")
    created(turns, "resp_a", stream_id="s1")
    for _ in range(3):
        received(turns, type="response.output_text.delta", item_id="m", delta="hi", stream_id="s2")
    received(turns, type="response.output_text.delta", item_id="m", delta="hi", stream_id="s1")
    (first,) = completed(turns, "resp_b", stream_id="s2")
    (second,) = completed(turns, "resp_a", stream_id="s1")
    assert (first.turn.request_model, first.turn.frames, second.turn.request_model, second.turn.frames) == (
        "b",
        5,
        "a",
        3,
    )


def test_a_gateway_that_drops_stream_ids_is_served_in_order() -> None:
    turns = responses()
    ask(turns, model="a", stream_id="s1")
    ask(turns, model="b", stream_id="s2")
    created(turns, "resp_1")
    created(turns, "resp_2")
    (ended_one,) = completed(turns, "resp_1")
    assert ended_one.turn.request_model == "a"


def test_two_requests_on_one_stream_are_answered_in_order() -> None:
    turns = responses()
    ask(turns, model="a")
    ask(turns, model="b")
    created(turns, "resp_1")
    assert ended(completed(turns, "resp_1")) == [1]
    created(turns, "resp_2")
    assert ended(completed(turns, "resp_2")) == [2]


def test_a_refused_request_ends_at_its_error() -> None:
    turns = responses()
    ask(turns)
    events = received(
        turns, type="error", status=400, error={"code": "previous_response_not_found", "message": "Gone."}
    )
    assert ended(events) == [1]
    assert events[-1].turn.seen.error_type == "previous_response_not_found"


def test_a_refusal_is_not_laid_to_the_response_that_runs() -> None:
    turns = responses()
    ask(turns)
    created(turns, "resp_1")
    ask(turns)
    events = received(turns, type="error", status=429, error={"type": "rate_limit", "message": "Slower."})
    assert ended(events) == [2]
    (first,) = completed(turns, "resp_1")
    assert first.turn.seen.error_type is None


def test_an_error_of_the_running_response_waits_for_its_failure() -> None:
    turns = responses()
    ask(turns)
    created(turns, "resp_1")
    assert ended(received(turns, type="error", error={"type": "server_error", "message": "Oh."})) == []
    failed = {"id": "resp_1", "status": "failed", "error": {"code": "server_error", "message": "Oh."}, "usage": USAGE}
    (event,) = received(turns, type="response.failed", response=failed)
    assert event.turn.seen.error_type == "server_error"
    assert event.turn.seen.usage.output_tokens == 9


def test_an_error_without_its_failure_ends_when_the_stream_goes_on() -> None:
    turns = responses()
    ask(turns)
    created(turns, "resp_1")
    received(turns, type="error", error={"type": "server_error", "message": "Oh."})
    ask(turns)
    assert ended(created(turns, "resp_2")) == [1]
    assert [turn.number for turn in turns.open] == [2]


def test_a_response_nobody_asked_for_opens_its_own_turn() -> None:
    turns = responses()
    opened, answered, done = completed(turns, "resp_1")
    assert [type(event) for event in (opened, answered, done)] == [Opened, Answered, Ended]
    assert done.turn.seen.usage.input_tokens == 13


def test_what_repeats_an_ended_response_opens_nothing() -> None:
    turns = responses()
    ask(turns)
    created(turns, "resp_1")
    completed(turns, "resp_1")
    assert completed(turns, "resp_1") == []
    assert created(turns, "resp_1") == []


def test_ids_that_change_with_each_event_stay_one_turn() -> None:
    turns = responses()
    ask(turns)
    created(turns, "capture-1")
    assert ended(completed(turns, "capture-69")) == [1]


def test_a_cut_socket_gives_back_what_was_open() -> None:
    turns = responses()
    ask(turns)
    created(turns, "resp_1")
    ask(turns, stream_id="s2")
    assert ended(turns.finish()) == [1, 2]
    assert turns.finish() == []


def test_an_error_of_the_connection_is_everyones() -> None:
    turns = responses()
    ask(turns, stream_id="a")
    created(turns, "resp_1", stream_id="a")
    ask(turns, stream_id="b")
    received(turns, type="error", status=400, error={"code": "websocket_connection_limit_reached", "message": "60 min"})
    assert {event.turn.seen.error_type for event in turns.finish()} == {"websocket_connection_limit_reached"}


def test_a_message_over_the_limit_ends_its_turn_and_says_so() -> None:
    turns = responses(frame_limit=300)
    ask(turns)
    created(turns, "resp_1")
    (done,) = completed(turns, "resp_1", padding="x" * 300)
    assert done.turn.truncated
    assert done.turn.seen.terminal
    assert done.turn.seen.usage_raw is None


def test_memory_of_a_long_session_stays_flat() -> None:
    turns = responses()
    for number in range(2000):
        ask(turns)
        created(turns, f"resp_{number}")
        completed(turns, f"resp_{number}")
    for _ in range(500):
        ask(turns)
    assert len(turns.open) <= 64
    assert len(turns._ended) <= 64


def test_a_hundred_realtime_turns_are_a_hundred_rows() -> None:
    turns = realtime()
    received(turns, type="session.created", session={"model": "gpt-realtime-2"})
    rows = []
    for number in range(100):
        ask(turns, event_id=f"c{number}")
        created(turns, f"resp_{number}")
        received(turns, type="response.output_audio.delta", response_id=f"resp_{number}", delta="AAAA")
        done = received(
            turns, type="response.done", response={"id": f"resp_{number}", "status": "completed", "usage": USAGE}
        )
        rows += [event.turn for event in done if isinstance(event, Ended)]
    assert [turn.number for turn in rows] == list(range(1, 101))
    assert {turn.seen.response_model for turn in rows} == {"gpt-realtime-2"}
    assert {turn.frames for turn in rows} == {3}


def test_an_error_about_something_else_leaves_the_request_waiting() -> None:
    turns = realtime()
    ask(turns, event_id="c1")
    error = {"type": "invalid_request_error", "code": "invalid_value", "message": "No.", "param": "session.voice"}
    assert received(turns, type="error", error=error) == []
    assert received(turns, type="error", error=error | {"event_id": "another"}) == []
    assert ended(received(turns, type="error", error=error | {"event_id": "c1"})) == [1]


def test_a_response_cut_off_by_the_user_is_whole() -> None:
    turns = realtime()
    events = created(turns, "resp_1")
    assert [type(event) for event in events] == [Opened, Answered]
    response = {"id": "resp_1", "status": "cancelled", "status_details": {"reason": "turn_detected"}, "usage": USAGE}
    (done,) = received(turns, type="response.done", response=response)
    assert done.turn.seen.terminal
    assert done.turn.seen.error_type is None
    assert done.turn.seen.finish_reasons == {0: "cancelled"}


def test_a_transcription_is_a_row_of_its_own_model() -> None:
    turns = realtime()
    sent(turns, type="session.update", session={"input_audio_transcription": {"model": "whisper-1"}})
    created(turns, "resp_1")
    events = received(
        turns,
        type="conversation.item.input_audio_transcription.completed",
        item_id="item_1",
        usage={"type": "duration", "seconds": 3},
    )
    assert [type(event) for event in events] == [Opened, Answered, Ended]
    turn = events[-1].turn
    assert (turn.operation, turn.request_model, turn.seen.response_id) == ("transcription", "whisper-1", "item_1")
    assert turn.seen.usage_raw == {"type": "duration", "seconds": 3}
    assert not turn.seen.usage.known
    assert [each.number for each in turns.open] == [1]


@pytest.mark.parametrize(
    "message", [b"", b"\xff\x00", b"[]", b"null", b'{"type":"response.created"', b'"response.create"']
)
def test_what_is_no_event_tells_nothing(message: bytes) -> None:
    for turns in (responses(), realtime()):
        assert turns.sent(message) == turns.received(message) == []


@pytest.mark.parametrize(
    ("path", "known"), [("/v1/responses", True), ("/openai/v1/realtime/", True), ("/v1/chat", False)]
)
def test_a_socket_is_told_by_its_path(path: str, known: bool) -> None:
    assert (turns_for(Request("GET", "gateway.example", 443, path)) is not None) is known
