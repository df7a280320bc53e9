"""Recorded answers in OpenAI's dialects and their neighbours', and sockets, read by our core and by the oracle.

Each body is read whole, event by event and cut at random. Where we and the oracle disagree, it is by a rule below,
which names who says that we are right.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pytest
from tests import corpus

from usagetap.dialects import detect
from usagetap.model import Observation, Request
from usagetap.reader import Reader
from usagetap.turns import Ended, Turn, turns_for

pytestmark = [corpus.needs_corpus, pytest.mark.timeout(300)]

Exchange = dict[str, Any]
NOT_OURS = ("anthropic.", "gemini.", "bedrock.", "cohere.", "ollama.")
NO_ANSWER = {"openai.responses.input_tokens", "other"}
"""A count of what was not sent; files, models, moderations: nothing that tokens are billed for."""


class Rule(NamedTuple):
    """A disagreement with the oracle: in which field, of which exchanges, and by whose word."""

    field: str
    ids: frozenset[str]
    source: str


def rule(fields: str, ids: str, source: str) -> list[Rule]:
    return [Rule(field, frozenset(ids.split()), source) for field in fields.split()]


DISAGREEMENTS = [
    # `/compact` answers with a usage object, and its tokens are billed; the oracle took it for a count
    *rule(
        "input_tokens output_tokens total_tokens cached_input_tokens reasoning_tokens response_id has_usage",
        "8025b68509a4077e93fc 5fd9dad66591b9f39cae 42e1ba3e681a65eb5c08",
        "https://platform.openai.com/docs/api-reference/responses/compact",
    ),
    # total = prompt + completion + thinking, which is billed as output and named nowhere
    *rule("output_tokens reasoning_tokens", "ed942cabde843cca0be1", "https://ai.google.dev/gemini-api/docs/thinking"),
    # total = prompt + audio + completion: the audio went in, too
    *rule("input_tokens", "2dd5648bf875fbf98aef 1824f641b1a7298b57d1", "https://docs.mistral.ai/capabilities/audio/"),
    # the id is the segment's; a transcription has none
    *rule(
        "response_id",
        "7fd5186b0736fc0c3b12",
        "https://platform.openai.com/docs/api-reference/audio/transcript-text-segment-event",
    ),
    # two choices: the oracle tells the last one's reason, our list has both
    *rule("finish_reason", "6ea5c9bc2b586c91a02a", "https://platform.openai.com/docs/api-reference/completions/object"),
    # cache_n + prompt_n = prompt_tokens: what the server's cache held of the prompt
    *rule(
        "cached_input_tokens",
        "e09f034e996431b57fc8 a04c65ccdbfb3dc9cdc2 dff9e94a40317baae853 7bc3c880c80abb24d980 10be1e85ae17d83f32a5",
        "https://github.com/ggml-org/llama.cpp/tree/master/tools/server",
    ),
]


def request_of(exchange: Exchange) -> Request:
    parts = urlsplit(exchange["url"])
    body = exchange["request"]
    if isinstance(body, dict) and "_multipart" in body:
        body = body["_multipart"]
    elif isinstance(body, dict) and "_text" in body:
        body = None
    host = (parts.hostname or "").lower()
    return Request(exchange["method"], host, parts.port or 443, parts.path, dict(parse_qsl(parts.query)), body=body)


def cuts(body: bytes) -> Iterator[list[bytes]]:
    yield [body]
    yield re.findall(rb".+?(?:\r?\n\r?\n|\Z)", body, re.DOTALL)
    draw = random.Random(len(body))
    edges = [0]
    while edges[-1] < len(body):
        edges.append(edges[-1] + draw.choice((1, 2, 5, 50, 300, 1400, 9000)))
    yield [body[start:end] for start, end in itertools.pairwise(edges)]


def told_by(seen: Observation) -> dict[str, Any]:
    usage = seen.usage
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "cached_input_tokens": usage.cache_read_input_tokens,
        "cache_write_tokens": usage.cache_write_input_tokens,
        "reasoning_tokens": usage.reasoning_output_tokens,
        "model": seen.response_model,
        "response_id": seen.response_id,
        "finish_reason": seen.finish_reasons.get(0),
        "error": seen.error_type is not None,
        "has_usage": seen.usage_raw is not None,
    }


@pytest.fixture(scope="module")
def exchanges() -> list[Exchange]:
    return [each for each in corpus.exchanges() if not each["api"].startswith(NOT_OURS)]


def test_every_answer_is_recognised_and_nothing_else_is(exchanges: list[Exchange]) -> None:
    wrong = [each["id"] for each in exchanges if (detect(request_of(each)) is None) != (each["api"] in NO_ANSWER)]
    assert wrong == []


def test_we_read_what_the_oracle_reads_however_it_is_cut(exchanges: list[Exchange]) -> None:
    wrong: dict[tuple[str, str], Any] = {}
    cut_matters: list[str] = []
    for exchange in exchanges:
        dialect = detect(request_of(exchange))
        if dialect is None:
            continue
        body = exchange["body"].encode() if "body" in exchange else base64.b64decode(exchange["body_b64"])
        readers = []
        for pieces in cuts(body):
            reader = Reader(
                dialect,
                content_type=exchange["content_type"] or "",
                http_status=exchange["status"],
                headers=exchange["usage_headers"],
                stream=exchange["stream"],
            )
            tap = reader.tap(_raise)
            for piece in pieces:
                assert tap(piece) is piece
            reader.finish(complete=True)
            readers.append(reader)
        if any((each.seen, each.frames) != (readers[0].seen, readers[0].frames) for each in readers):
            cut_matters.append(exchange["id"])
        for field, ours in told_by(readers[0].seen).items():
            if ours != exchange["expect"][field]:
                wrong[exchange["id"], field] = (ours, exchange["expect"][field])
    excused = {(name, each.field): each.source for each in DISAGREEMENTS for name in each.ids}
    assert {place: pair for place, pair in wrong.items() if place not in excused} == {}
    assert {place: source for place, source in excused.items() if place not in wrong} == {}  # rules that nothing needs
    assert cut_matters == []


def _raise(error: Exception) -> None:
    raise error


# -- sockets

THOUGHTS_APART = "https://ai.google.dev/api/live#UsageMetadata: thoughts_token_count is beside response_token_count"


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
        if session["api"] == "gemini.live":  # the oracle leaves the thoughts out of the output: THOUGHTS_APART
            summed["output_tokens"] -= turn.seen.usage.reasoning_output_tokens or 0
    assert all(summed[field] == expect["sum"][field] for field in summed)


@pytest.mark.parametrize(
    "session", sockets("websocket_derived.jsonl.gz") if corpus.FOLDER else [], ids=lambda each: each["id"]
)
def test_responses_over_websocket_give_what_their_streams_gave(session: dict[str, Any]) -> None:
    (turn,) = turns_of(session)
    told = told_by(turn.seen) | {"usage_raw": turn.seen.usage_raw}
    assert {field: told[field] for field in session["expect"]} == session["expect"]
    assert turn.seen.terminal
