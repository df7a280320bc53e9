"""Recorded WebSocket sessions read by our turns and by the corpus's oracle."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from tests import corpus, oracle

from usagetap.model import Request
from usagetap.turns import Ended, Turn, turns_for

pytestmark = [corpus.needs_corpus, pytest.mark.timeout(120)]


def sockets(name: str) -> list[dict[str, Any]]:
    with gzip.open(corpus.path(name), "rb") as lines:
        return [json.loads(line) for line in lines]


def turns_of(session: dict[str, Any]) -> list[Turn]:
    parts = urlsplit(session["url"])
    turns = turns_for(Request("GET", parts.hostname or "", 443, parts.path, dict(parse_qsl(parts.query))))
    assert turns is not None
    events = []
    for message in session["messages"]:
        if message["kind"] == "message":
            take = turns.sent if message["dir"] == "sent" else turns.received
            events += take(message["data"].encode())
    assert turns.open == ()
    return [event.turn for event in events if isinstance(event, Ended)]


@pytest.mark.parametrize("session", sockets("websocket.jsonl.gz") if corpus.FOLDER else [], ids=lambda each: each["id"])
def test_recorded_sockets_give_the_oracles_turns(session: dict[str, Any]) -> None:
    expect = session["expect"]
    turns = turns_of(session)
    answers = [turn for turn in turns if turn.operation != "transcription"]
    transcriptions = [turn for turn in turns if turn.operation == "transcription"]
    assert {turn.seen.response_model for turn in answers} == {expect["model"]}
    if session["api"] == "gemini.live":
        assert [turn.seen.usage_raw for turn in answers] == expect["usageMetadata"]
    told = [(turn.seen.response_id, turn.seen.finish_reasons.get(0), turn.seen.usage_raw) for turn in answers]
    usages = [(each["response_id"], each["status"], each["usage"]) for each in expect["response_usages"]]
    assert session["api"] == "gemini.live" or told == usages
    told_transcriptions = [(turn.seen.response_id, turn.seen.usage_raw) for turn in transcriptions]
    assert told_transcriptions == [(each["item_id"], each["usage"]) for each in expect["transcription_usages"]]

    summed: Counter[str] = Counter()
    for turn in answers:
        for field in ("input_tokens", "output_tokens", "total_tokens"):
            summed[field] += getattr(turn.seen.usage, field) or 0
        if session["api"] == "gemini.live":  # the oracle leaves out the thoughts (https://ai.google.dev/api/live)
            summed["output_tokens"] -= turn.seen.usage.reasoning_output_tokens or 0
    assert all(summed[field] == expect["sum"][field] for field in summed)


@pytest.mark.parametrize(
    "session", sockets("websocket_derived.jsonl.gz") if corpus.FOLDER else [], ids=lambda each: each["id"]
)
def test_responses_over_websocket_give_what_their_streams_gave(session: dict[str, Any]) -> None:
    (turn,) = turns_of(session)
    told = oracle.told(turn.seen) | {"usage_raw": turn.seen.usage_raw}
    assert {field: told[field] for field in session["expect"]} == session["expect"]
    assert turn.seen.terminal
