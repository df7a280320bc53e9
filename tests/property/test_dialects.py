"""What holds for every dialect, every framing and every socket, whatever comes."""

from __future__ import annotations

import copy
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.golden.cases import Case, cases, observed

from usagetap.dialects import DIALECTS, UNKNOWN
from usagetap.dialects.base import Dialect
from usagetap.dialects.gemini_live import GeminiLive
from usagetap.dialects.openai_realtime import OpenAIRealtime
from usagetap.framing import Sse
from usagetap.model import USAGE_FIELDS, Observation, Request
from usagetap.turns import Answered, Ended, Event, Opened, Turn, turns_for

CASES = cases()
HTTP = [case for case in CASES if not case.websocket]
EVERY: list[Dialect] = [*DIALECTS, UNKNOWN, OpenAIRealtime(), GeminiLive()]


def dialect_id(dialect: Dialect) -> str:
    return f"{dialect.name}-{type(dialect).__name__}"


def _payloads(case: Case) -> list[Any]:
    if case.websocket:
        return [json.loads(message) for _, message in case.messages()]
    seen: list[Any] = []

    class Spy:
        """Stands before the dialect, and keeps what it is told."""

        def __getattr__(self, name: str) -> Any:
            return getattr(case.dialect, name)

        def observe(self, into: Observation, payload: Any) -> None:
            seen.append(copy.deepcopy(payload))
            case.dialect.observe(into, payload)

    reader = case.reader()
    reader.dialect = Spy()  # type: ignore[assignment]
    reader.feed(case.body)
    reader.finish(complete=True)
    return seen


PAYLOADS = [payload for case in CASES for payload in _payloads(case)]

# the words of the wire, so that arbitrary JSON meets the branches that look for them
WORDS = sorted(
    {name for payload in PAYLOADS for name in (payload if isinstance(payload, dict) else ())}
    | {"usage", "total_tokens", "prompt_tokens", "input_tokens", "cached_tokens", "cost", "index", "finish_reason"}
)
KINDS = sorted(
    {payload["type"] for payload in PAYLOADS if isinstance(payload, dict) and isinstance(payload.get("type"), str)}
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([*KINDS, "completed", "failed", "thread.run", "response", "error", "1e9999", "-0"])
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4), inner, max_size=6)
    ),
    max_leaves=24,
)


@st.composite
def mutilated(draw: st.DrawFn) -> Any:
    """A real payload with something else in a random place."""
    payload = copy.deepcopy(draw(st.sampled_from(PAYLOADS)))
    at = payload
    while isinstance(at, dict | list) and at:
        key = draw(st.sampled_from(sorted(at))) if isinstance(at, dict) else draw(st.integers(0, len(at) - 1))
        if not isinstance(at[key], dict | list) or draw(st.booleans()):
            at[key] = draw(anything)
            break
        at = at[key]
    return payload


def well_formed(seen: Observation) -> None:
    """Types as the model says: a row can be made of it."""
    for name in USAGE_FIELDS:
        count = getattr(seen.usage, name)
        assert count is None or (type(count) is int and count >= 0), name
    for value in (seen.response_id, seen.response_model, seen.service_tier, seen.error_type, seen.currency):
        assert value is None or isinstance(value, str)
    assert seen.error_message is None or (isinstance(seen.error_message, str) and len(seen.error_message) <= 500)
    assert all(isinstance(index, int) for index in seen.finish_reasons)
    assert all(reason is None or type(reason) in (str, int) for reason in seen.finish_reasons.values())
    assert seen.cost is None or (seen.cost.is_finite() and seen.cost >= 0)
    assert seen.error_message is None or seen.error_type is not None


@pytest.mark.parametrize("dialect", EVERY, ids=dialect_id)
@given(payloads=st.lists(anything | mutilated(), max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_json_leaves_observe_standing(dialect: Dialect, payloads: list[Any]) -> None:
    seen = Observation()
    for payload in payloads:
        dialect.observe(seen, payload)
    dialect.done(seen)
    well_formed(seen)


@pytest.mark.parametrize("dialect", EVERY, ids=dialect_id)
@given(headers=st.dictionaries(st.text(max_size=40), st.text(max_size=12), max_size=4), count=scalars)
@settings(max_examples=30, deadline=None)
def test_any_headers_leave_observe_standing(dialect: Dialect, headers: dict[str, str], count: Any) -> None:
    known = ("x-litellm-response-cost", "x-prompt-tokens", "x-amzn-bedrock-input-token-count", "num_tokens")
    seen = Observation()
    dialect.observe_headers(seen, headers | {name: str(count) for name in known})
    well_formed(seen)


@pytest.mark.parametrize("dialect", EVERY, ids=dialect_id)
@given(frame=st.binary(max_size=200))
@settings(max_examples=30, deadline=None)
def test_any_bytes_can_be_weighed(dialect: Dialect, frame: bytes) -> None:
    dialect.weigh(frame)


@pytest.mark.parametrize("dialect", EVERY, ids=dialect_id)
@given(body=anything, path=st.text(max_size=30) | st.sampled_from([case.request.path for case in CASES]))
@settings(max_examples=40, deadline=None)
def test_any_request_can_be_asked_about(dialect: Dialect, body: Any, path: str) -> None:
    request = Request("POST", "localhost", 443, path, body=body)
    dialect.matches(request)
    assert dialect.operation(request)
    model = dialect.model(request)
    assert model is None or isinstance(model, str)
    assert isinstance(dialect.streams(request), bool)


@given(case=st.sampled_from(HTTP), cuts=st.lists(st.floats(0, 1), max_size=12))
@settings(max_examples=400, deadline=None)
def test_any_split_of_any_capture_gives_the_same_observation(case: Case, cuts: list[float]) -> None:
    places = [0, *sorted(int(cut * len(case.body)) for cut in cuts), len(case.body)]
    assert case.run([case.body[start:end] for start, end in pairwise(places)]) == case.expected


@pytest.mark.parametrize("case", HTTP, ids=lambda case: case.name)
def test_observing_twice_changes_nothing(case: Case) -> None:
    once, twice = Observation(), Observation()
    for payload in _payloads(case):
        case.dialect.observe(once, payload)
        case.dialect.observe(twice, payload)
        case.dialect.observe(twice, copy.deepcopy(payload))
        assert observed(twice) == observed(once)


@pytest.mark.parametrize("case", HTTP, ids=lambda case: case.name)
def test_observing_leaves_the_payload_as_it_was(case: Case) -> None:
    seen = Observation()
    for payload in _payloads(case):
        kept = copy.deepcopy(payload)
        case.dialect.observe(seen, payload)
        assert payload == kept


@pytest.mark.parametrize("case", HTTP, ids=lambda case: case.name)
def test_nothing_told_is_lost_to_the_search(case: Case) -> None:
    """What the reader finds by weighing frames is what parsing each of them gives."""
    reader = case.reader()
    if case.meta.get("content_type", "").partition(";")[0] != "text/event-stream" or case.meta["status"] >= 400:
        return
    sse = Sse(1 << 24)
    naive = reader.seen
    for frame in [*sse.feed(case.body), *sse.finish()]:
        payload = sse.payload(frame)
        if payload is None:
            continue
        if payload == b"[DONE]":
            case.dialect.done(naive)
            continue
        try:
            told = json.loads(payload)
        except ValueError:
            continue
        case.dialect.observe(naive, told)
    found = case.expected
    assert {name: found[name] for name in observed(naive) if name in found} == observed(naive)


SOCKETS = [
    Request("GET", "api.openai.com", 443, "/v1/responses"),
    Request("GET", "api.openai.com", 443, "/v1/realtime", query={"model": "gpt-realtime"}),
    Request("GET", "example.com", 443, "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"),
]
SAID = [message for case in CASES if case.websocket for message in case.messages()]
messages = st.lists(
    st.sampled_from(SAID)
    | st.tuples(st.booleans(), mutilated().map(lambda payload: json.dumps(payload).encode()))
    | st.tuples(st.booleans(), st.binary(max_size=40)),
    max_size=20,
)


@pytest.mark.parametrize("request_", SOCKETS, ids=lambda request: request.path[:14])
@given(said=messages, limit=st.sampled_from([64, 1 << 24]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_turn_is_opened_once_and_ended_once(
    request_: Request, said: list[tuple[bool, bytes]], limit: int
) -> None:
    turns = turns_for(request_, frame_limit=limit)
    assert turns is not None
    events: list[Event] = []
    for sent, message in said:
        events += (turns.sent if sent else turns.received)(message)
        assert len(turns.open) <= len(said)
    events += turns.finish()
    assert turns.finish() == []
    assert turns.open == ()

    lives: dict[Turn, list[type]] = {}
    for event in events:
        lives.setdefault(event.turn, []).append(type(event))
        well_formed(event.turn.seen)
    assert all(life in ([Opened, Ended], [Opened, Answered, Ended]) for life in lives.values())
    assert [turn.number for turn in lives] == list(range(1, len(lives) + 1))
