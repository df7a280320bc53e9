from __future__ import annotations

import json

from usagetap.upstream.behaviour import Behaviour
from usagetap.upstream.sessions import RealtimeSession, RecordedSession, ResponsesSession


def asked(**message):
    return json.dumps(message)


def types(turn):
    return [message["type"] for message in turn.messages]


class TestResponses:
    def test_each_create_is_a_response_of_its_own(self):
        session = ResponsesSession(Behaviour(chunks=1))
        assert list(session.greet().messages) == []
        first, second = (list(session.receive(asked(type="response.create", model="m")).messages) for _ in range(2))
        assert first[-1]["type"] == second[-1]["type"] == "response.completed"
        assert first[-1]["response"]["id"] != second[-1]["response"]["id"]

    def test_the_stream_id_is_the_lane_and_is_echoed(self):
        turn = ResponsesSession(Behaviour()).receive(asked(type="response.create", model="m", stream_id="s"))
        assert turn.lane == "s"
        assert {message["stream_id"] for message in turn.messages} == {"s"}

    def test_words_in_the_model_go_for_that_turn(self):
        turn = ResponsesSession(Behaviour()).receive(asked(type="response.create", model="m@error=0;delay=1"))
        assert turn.behaviour.delay == 1
        assert types(turn)[-1] == "response.failed"

    def test_what_is_no_create_is_an_error(self):
        session = ResponsesSession(Behaviour())
        for message in (asked(type="hello"), "[]", "{", asked(type="response.create", model="m@cut=softly")):
            assert types(session.receive(message)) == ["error"]


class TestRealtime:
    def test_a_conversation(self):
        session = RealtimeSession("gpt-realtime", Behaviour(chunks=1))
        assert types(session.greet()) == ["session.created"]
        assert types(session.receive(asked(type="session.update", session={}))) == ["session.updated"]
        item = {"type": "message", "role": "user", "content": []}
        assert types(session.receive(asked(type="conversation.item.create", item=item))) == ["conversation.item.added"]
        assert session.receive(asked(type="input_audio_buffer.append", audio="")) is None
        assert types(session.receive(asked(type="response.create")))[-1] == "response.done"

    def test_a_cancelled_response_and_the_next_one(self):
        session = RealtimeSession("m", Behaviour(chunks=9))
        events = iter(session.receive(asked(type="response.create")).messages)
        next(message for message in events if message["type"] == "response.output_text.delta")
        assert session.receive(asked(type="response.cancel")) is None
        done = list(events)[-1]["response"]
        assert (done["status"], done["usage"]["output_tokens"]) == ("cancelled", 1)
        again = list(session.receive(asked(type="response.create")).messages)[-1]["response"]
        assert (again["status"], again["usage"]["output_tokens"]) == ("completed", 9)

    def test_what_nobody_understands_is_an_error(self):
        session = RealtimeSession("m", Behaviour())
        assert types(session.receive(asked(type="hello"))) == types(session.receive("{")) == ["error"]


def test_a_recorded_session_waits_for_the_client_where_the_recording_did():
    session = RecordedSession([(True, "a"), (False, "?"), (False, "?"), (True, "b"), (True, "c")])
    assert session.greet().messages == ["a"]
    assert session.receive("anything").messages == []
    assert session.receive("else").messages == ["b", "c"]
    assert session.receive("more").messages == []
