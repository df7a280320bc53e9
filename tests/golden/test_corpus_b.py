"""Recorded answers of Anthropic, Gemini, Bedrock, Cohere and Ollama, read by our core and by the corpus's oracle.

Each body is read whole, an event at a time and cut at random; small ones byte by byte. Where we and the oracle
disagree, it is by one of the rules below, each with what speaks for us.
"""

from __future__ import annotations

import base64
import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from tests import corpus

from usagetap.dialects import detect
from usagetap.dialects.base import Dialect
from usagetap.model import Observation, Request
from usagetap.reader import Reader

pytestmark = [corpus.needs_corpus, pytest.mark.timeout(300)]

APIS = ("anthropic.", "gemini.", "bedrock.", "cohere.", "ollama.")
COUNTS = ("anthropic.count_tokens", "gemini.countTokens")
BYTE_BY_BYTE = 1500

Exchange = dict[str, Any]


@dataclass(frozen=True)
class Disagreement:
    """Fields that we read otherwise than the oracle, in which exchanges, and who says that we are right."""

    source: str
    fields: frozenset[str]
    holds: Callable[[Exchange], bool]


USAGE = frozenset({"input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "has_usage"})
DISAGREEMENTS = {
    "bedrock_counts_in_headers_where_the_body_does_not": Disagreement(
        "https://github.com/cohere-ai/cohere-python/pull/537 (Cohere's SDK reads x-amzn-bedrock-input-token-count)",
        USAGE,
        lambda it: it["api"] == "bedrock.invoke" and "x-amzn-bedrock-input-token-count" in it["usage_headers"],
    ),
    "bedrock_counts_in_the_metrics_where_a_guardrail_cut_the_vendor_s_last_event": Disagreement(
        "https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-text.html ("
        "totalOutputTextTokenCount may be null; amazon-bedrock-invocationMetrics is on the last chunk)",
        frozenset({"output_tokens"}),
        lambda it: it["api"] == "bedrock.invoke-stream" and "bedrock:titan" in it["tags"],
    ),
    "cohere_and_j2_say_how_they_finished_on_bedrock_too": Disagreement(
        "https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-cohere-command.html (finish_reason, "
        "generation_id), …/model-parameters-jurassic2.html (finishReason.reason)",
        frozenset({"finish_reason", "response_id"}),
        lambda it: it["api"].startswith("bedrock.invoke") and _model(it).startswith(("cohere.command", "ai21.j2")),
    ),
    "openai_s_shape_names_model_and_finish_on_bedrock_too": Disagreement(
        "https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-openai.html",
        frozenset({"finish_reason", "model"}),
        lambda it: it["api"] == "bedrock.invoke" and '"choices"' in it.get("body", ""),
    ),
    "an_interaction_has_its_id_from_the_start": Disagreement(
        "https://ai.google.dev/api/interactions-api (Interaction.id: output only, set on every interaction)",
        frozenset({"response_id"}),
        lambda it: it["api"] == "gemini.interactions" and '"status":"in_progress"' in it.get("body", "")[:400],
    ),
}


def _model(exchange: Exchange) -> str:
    return str(exchange["url"]).partition("/model/")[2]


def _request(exchange: Exchange) -> Request:
    parts = urlsplit(exchange["url"])
    host, query = (parts.hostname or "").lower(), dict(parse_qsl(parts.query))
    return Request(exchange["method"], host, parts.port or 443, parts.path, query, body=exchange["request"])


def _body(exchange: Exchange) -> bytes:
    return exchange["body"].encode() if "body" in exchange else base64.b64decode(exchange["body_b64"])


def _read(exchange: Exchange, dialect: Dialect, pieces: Iterator[bytes]) -> tuple[Observation, int, str | None]:
    reader = Reader(
        dialect,
        content_type=exchange["content_type"] or "",
        http_status=exchange["status"],
        headers=exchange["usage_headers"],
        stream=dialect.streams(_request(exchange)),
    )

    def fail(error: Exception) -> None:
        raise error

    tap = reader.tap(fail)
    for piece in pieces:
        assert tap(piece) is piece
    reader.finish(complete=True)
    return reader.seen, reader.frames, reader.broken


def _cuts(body: bytes, seed: str) -> Iterator[Iterator[bytes]]:
    """The ways in which one body is fed."""
    yield iter((body,))
    events = body.replace(b"\r\n\r\n", b"\r\n\r\n\0").replace(b"\n\n", b"\n\n\0").split(b"\0")
    yield (event for event in events if event) if b"\0" not in body else iter((body,))
    draw = random.Random(seed)
    edges = [0, *itertools.accumulate(draw.choice((1, 2, 5, 50, 300, 1400)) for _ in range(len(body) // 100 + 1))]
    edges = [*(edge for edge in edges if edge < len(body)), len(body)]
    yield (body[start:end] for start, end in itertools.pairwise(edges))
    if len(body) <= BYTE_BY_BYTE:
        yield (body[at : at + 1] for at in range(len(body)))


def _ours(seen: Observation) -> dict[str, Any]:
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
        "cache_write_5m": usage.cache_write_5m_input_tokens,
        "cache_write_1h": usage.cache_write_1h_input_tokens,
        "tool_use_prompt_tokens": usage.tool_use_input_tokens,
        "service_tier": seen.service_tier,
    }


def _oracle(exchange: Exchange) -> dict[str, Any]:
    expect = exchange["expect"]
    return {**expect, **expect["extras"]}


@pytest.fixture(scope="module")
def exchanges() -> list[Exchange]:
    return [exchange for exchange in corpus.exchanges() if exchange["api"].startswith(APIS)]


def test_every_exchange_is_recognised_and_no_count_is_taken_for_an_answer(exchanges: list[Exchange]) -> None:
    wrong = [it["id"] for it in exchanges if (detect(_request(it)) is None) != (it["api"] in COUNTS)]
    assert wrong == []


def test_we_read_what_the_oracle_reads_however_it_is_cut(exchanges: list[Exchange]) -> None:
    wrong: dict[str, dict[str, tuple[Any, Any]]] = {}
    unfinished: list[str] = []
    met: dict[str, int] = defaultdict(int)
    for exchange in exchanges:
        dialect = detect(_request(exchange))
        if dialect is None:
            continue
        readings = [_read(exchange, dialect, pieces) for pieces in _cuts(_body(exchange), exchange["id"])]
        assert all(reading == readings[0] for reading in readings), exchange["id"]
        seen = readings[0][0]
        ours, oracle = _ours(seen), _oracle(exchange)
        differ = {name: (ours[name], oracle[name]) for name in ours if name in oracle and ours[name] != oracle[name]}
        for name, rule in DISAGREEMENTS.items():
            if rule.fields & differ.keys() and rule.holds(exchange):
                met[name] += 1
                differ = {field: pair for field, pair in differ.items() if field not in rule.fields}
        if differ:
            wrong[exchange["id"]] = differ
        if exchange["status"] == 200 and not (seen.terminal or seen.finished or seen.background):
            unfinished.append(exchange["id"])
    assert wrong == {}
    assert unfinished == []
    assert met.keys() == DISAGREEMENTS.keys(), "a rule that nothing needs any more"
