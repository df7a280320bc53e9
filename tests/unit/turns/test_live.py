from __future__ import annotations

import json
from typing import Any

from usagetap.model import Request
from usagetap.turns import Answered, Ended, Event, Opened, Turns, turns_for

PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
AUDIO = {"serverContent": {"modelTurn": {"parts": [{"inlineData": {"data": "AAAA"}}]}}}
OVER = {"serverContent": {"turnComplete": True}}
USAGE = {
    "usageMetadata": {"promptTokenCount": 7, "responseTokenCount": 3, "thoughtsTokenCount": 2, "totalTokenCount": 10}
}


def live() -> Turns:
    turns = turns_for(Request("GET", "generativelanguage.googleapis.com", 443, PATH))
    assert turns is not None
    turns.sent(b'{"setup":{"model":"models/gemini-live"}}')
    turns.received(b'{"setupComplete":{}}')
    return turns


def said(turns: Turns, **message: Any) -> list[Event]:
    return turns.sent(json.dumps(message).encode())


def heard(turns: Turns, *messages: dict[str, Any]) -> list[Event]:
    return [event for message in messages for event in turns.received(json.dumps(message).encode())]


def kinds(events: list[Event]) -> list[type]:
    return [type(event) for event in events]


def test_a_turn_ends_with_its_usage() -> None:
    turns = live()
    assert kinds(said(turns, client_content={"turns": [], "turnComplete": True})) == [Opened]
    events = heard(turns, AUDIO, AUDIO, OVER | USAGE)
    assert kinds(events) == [Answered, Ended]
    seen = events[-1].turn.seen
    assert (seen.usage.input_tokens, seen.usage.output_tokens, seen.usage.total_tokens) == (7, 5, 10)
    assert (seen.usage.reasoning_output_tokens, seen.response_model) == (2, "models/gemini-live")
    assert events[-1].turn.frames == 3


def test_history_opens_no_turn() -> None:
    turns = live()
    assert said(turns, clientContent={"turns": [], "turnComplete": False}) == []


def test_speech_opens_a_turn_when_the_model_answers() -> None:
    turns = live()
    assert said(turns, realtimeInput={"audio": {"data": "AAAA"}}) == []
    assert kinds(heard(turns, AUDIO)) == [Opened, Answered]


def test_usage_may_follow_the_end() -> None:
    turns = live()
    assert kinds(heard(turns, AUDIO, OVER)) == [Opened, Answered]
    (ended,) = heard(turns, USAGE)
    assert ended.turn.seen.usage.input_tokens == 7


def test_a_turn_without_usage_ends_when_the_next_begins() -> None:
    turns = live()
    heard(turns, AUDIO, OVER)
    assert kinds(said(turns, clientContent={"turnComplete": True})) == [Ended, Opened]
    assert [turn.number for turn in turns.open] == [2]


def test_a_turn_without_usage_is_whole_when_the_socket_closes() -> None:
    turns = live()
    heard(turns, AUDIO, OVER)
    (ended,) = turns.finish()
    assert ended.turn.seen.terminal


def test_a_tool_answer_belongs_to_the_turn_that_runs() -> None:
    turns = live()
    said(turns, clientContent={"turnComplete": True})
    heard(turns, {"toolCall": {"functionCalls": []}})
    assert said(turns, toolResponse={"functionResponses": []}) == []
    assert kinds(heard(turns, AUDIO, OVER | USAGE)) == [Ended]


def test_a_cut_turn_is_no_terminal_one() -> None:
    turns = live()
    said(turns, clientContent={"turnComplete": True})
    heard(turns, AUDIO)
    (ended,) = turns.finish()
    assert not ended.turn.seen.terminal


def test_a_client_with_an_ephemeral_token_has_a_path_of_its_own() -> None:
    assert turns_for(Request("GET", "gateway.example", 443, PATH + "Constrained")) is not None
