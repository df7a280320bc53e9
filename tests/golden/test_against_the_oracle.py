"""Where we read otherwise than the corpus's oracle: each rule of `tests/oracle.py`, with its proof.

The provider's documentation is named in the rule; the proof is what the recorded answers themselves say, mostly their
own arithmetic.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests import corpus, oracle
from tests.golden.test_corpus import read
from tests.oracle import DISAGREEMENTS, Exchange, bedrock_model, body_of

from usagetap.dialects import detect
from usagetap.model import Observation
from usagetap.reader import Reader

pytestmark = [corpus.needs_corpus, pytest.mark.timeout(120)]


def _reader(exchange: Exchange) -> Reader:
    dialect = detect(oracle.request_of(exchange))
    assert dialect is not None
    return read(exchange, dialect, [body_of(exchange)])


def _under(name: str) -> Iterator[tuple[Exchange, Observation]]:
    """The answers that a rule speaks of and that we read otherwise than the oracle."""
    rule = DISAGREEMENTS[name]
    for exchange in corpus.exchanges():
        if rule.holds(exchange) and exchange["status"] == 200:
            seen = _reader(exchange).seen
            if rule.fields & oracle.differences(seen, exchange).keys():
                yield exchange, seen


def _answer(exchange: Exchange) -> Any:
    return json.loads(body_of(exchange))


def _header(exchange: Exchange, name: str) -> int | None:
    told = exchange["usage_headers"].get(f"x-amzn-bedrock-{name}-token-count")
    return None if told is None else int(told)


def compaction(exchange: Exchange, seen: Observation) -> None:
    answer = _answer(exchange)
    assert answer["object"] == "response.compaction"
    assert (seen.response_id, seen.usage_raw) == (answer["id"], answer["usage"])
    assert seen.usage.input_tokens == answer["usage"]["input_tokens"]
    assert seen.usage.output_tokens == answer["usage"]["output_tokens"]


def gemini_compat_thinking(exchange: Exchange, seen: Observation) -> None:
    told = seen.usage_raw
    assert seen.usage.input_tokens == told["prompt_tokens"]
    assert seen.usage.output_tokens == told["total_tokens"] - told["prompt_tokens"]
    assert seen.usage.reasoning_output_tokens == seen.usage.output_tokens - told["completion_tokens"]


def mistral_audio(exchange: Exchange, seen: Observation) -> None:
    told = seen.usage_raw
    heard = told["prompt_tokens_details"]["audio_tokens"]
    assert told["total_tokens"] == told["prompt_tokens"] + heard + told["completion_tokens"]
    assert seen.usage.input_tokens == told["prompt_tokens"] + heard


def transcript_segment(exchange: Exchange, seen: Observation) -> None:
    (event,) = [line for line in exchange["body"].splitlines() if '"transcript.text.segment"' in line]
    assert json.loads(event.removeprefix("data: "))["id"] == exchange["expect"]["response_id"]
    assert seen.response_id is None


def llamacpp_timings(exchange: Exchange, seen: Observation) -> None:
    body = body_of(exchange).decode()
    timings = json.JSONDecoder().raw_decode(body, body.rindex('"timings":') + len('"timings":'))[0]
    assert timings["cache_n"] + timings["prompt_n"] == seen.usage_raw["prompt_tokens"] == seen.usage.input_tokens
    assert seen.usage.cache_read_input_tokens == timings["cache_n"]


def interaction_in_progress(exchange: Exchange, seen: Observation) -> None:
    answer = _answer(exchange)
    assert (answer["object"], answer["status"]) == ("interaction", "in_progress")
    assert seen.response_id == answer["id"]
    assert seen.background


def bedrock_headers(exchange: Exchange, seen: Observation) -> None:
    assert seen.usage.input_tokens == _header(exchange, "input")
    assert seen.usage.output_tokens == _header(exchange, "output")


def bedrock_metrics(exchange: Exchange, seen: Observation) -> None:
    assert seen.usage.output_tokens == exchange["expect"]["invocation_metrics"]["outputTokenCount"]
    assert exchange["expect"]["invocation_metrics"]["inputTokenCount"] == exchange["expect"]["input_tokens"]


def bedrock_cohere_and_j2(exchange: Exchange, seen: Observation) -> None:
    (reason,) = seen.finish_reasons.values()
    if exchange["api"] == "bedrock.invoke":
        assert f'"{reason}"' in exchange["body"]
        assert seen.response_id == _answer(exchange).get("generation_id", seen.response_id)
    assert str(reason).upper() in ("COMPLETE", "MAX_TOKENS", "STOP_SEQUENCE", "ENDOFTEXT", "LENGTH")


def bedrock_openai_shape(exchange: Exchange, seen: Observation) -> None:
    answer = _answer(exchange)
    assert seen.response_model == answer["model"]
    assert seen.finish_reasons == {0: answer["choices"][0]["finish_reason"]}


PROOFS: dict[str, Callable[[Exchange, Observation], None]] = {
    each.__name__: each
    for each in (
        compaction,
        gemini_compat_thinking,
        mistral_audio,
        transcript_segment,
        llamacpp_timings,
        interaction_in_progress,
        bedrock_headers,
        bedrock_metrics,
        bedrock_cohere_and_j2,
        bedrock_openai_shape,
    )
}


@pytest.mark.parametrize("name", DISAGREEMENTS)
def test_the_documentation_speaks_for_us(name: str) -> None:
    assert DISAGREEMENTS[name].source.startswith("https://")
    found = list(_under(name))
    assert found
    for exchange, seen in found:
        PROOFS[name](exchange, seen)


def test_bedrock_s_headers_count_what_the_bodies_count_where_both_do() -> None:
    """So they may be believed where they alone speak."""
    compared = 0
    for exchange in corpus.exchanges():
        told = _header(exchange, "input"), _header(exchange, "output")
        if exchange["api"] != "bedrock.invoke" or not exchange["expect"]["has_usage"] or told[0] is None:
            continue
        raw, expect = exchange["expect"]["usage_raw"], exchange["expect"]
        cached = (expect["cached_input_tokens"] or 0) + (expect["cache_write_tokens"] or 0)
        assert told[0] == expect["input_tokens"] - cached, bedrock_model(exchange)
        assert told[1] is None or expect["output_tokens"] in (told[1], None), raw
        compared += 1
    assert compared > 20
