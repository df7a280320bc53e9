"""Cohere: what it recognises, and what it counts."""

from __future__ import annotations

from typing import Any

import pytest

from usagetap.dialects import detect
from usagetap.dialects.cohere import Cohere, CohereEmbed, CohereRerank, cohere_usage
from usagetap.model import Observation, Request


def request(path: str, body: Any = None, host: str = "gateway.example") -> Request:
    return Request("POST", host, 443, path, body=body)


@pytest.mark.parametrize(
    ("path", "body", "kind", "operation"),
    [
        ("/v2/chat", {"messages": []}, Cohere, "chat"),
        ("/cohere/v1/chat", {"message": "hi"}, Cohere, "chat"),
        ("/v1/generate", {"prompt": "hi"}, Cohere, "text_completion"),
        ("/v2/embed", {"texts": []}, CohereEmbed, "embeddings"),
        ("/v2/rerank", {"query": "", "documents": []}, CohereRerank, "rerank"),
    ],
)
def test_each_endpoint_is_recognised(path: str, body: Any, kind: type, operation: str) -> None:
    dialect = detect(request(path, body))
    assert type(dialect) is kind
    assert dialect.name == "cohere"
    assert dialect.operation(request(path, body)) == operation


def test_writer_s_chat_is_openai_s() -> None:
    dialect = detect(request("/v1/chat", {"messages": [], "model": "palmyra-x5"}))
    assert dialect is not None
    assert dialect.name == "openai_chat"


@pytest.mark.parametrize(("host", "name"), [("api.cohere.com", "cohere"), ("api.voyageai.com", "rerank")])
def test_rerank_v1_is_cohere_s_at_cohere_only(host: str, name: str) -> None:
    dialect = detect(request("/v1/rerank", {"query": "", "documents": []}, host))
    assert dialect is not None
    assert dialect.name == name


def test_what_was_processed_goes_before_what_is_billed() -> None:
    billed = {"input_tokens": 65, "output_tokens": 63}
    told = cohere_usage({"billed_units": billed, "tokens": {"input_tokens": 508.0, "output_tokens": 86.0}})
    assert (told.input_tokens, told.output_tokens) == (508, 86)
    told = cohere_usage({"billed_units": billed})
    assert (told.input_tokens, told.output_tokens) == (65, 63)


def test_a_search_has_no_tokens() -> None:
    seen = Observation()
    CohereRerank().observe(seen, {"id": "r", "results": [], "meta": {"billed_units": {"search_units": 1}}})
    assert seen.usage_raw == {"billed_units": {"search_units": 1}}
    assert not seen.usage.known


def test_the_end_of_a_v1_stream_repeats_the_answer() -> None:
    seen = Observation()
    Cohere().observe(seen, {"event_type": "stream-start", "generation_id": "g1"})
    assert not seen.terminal
    answer = {"generation_id": "g1", "meta": {"tokens": {"input_tokens": 69, "output_tokens": 4}}}
    Cohere().observe(seen, {"event_type": "stream-end", "finish_reason": "COMPLETE", "response": answer})
    assert (seen.response_id, seen.finish_reasons) == ("g1", {0: "COMPLETE"})
    assert (seen.usage.input_tokens, seen.usage.output_tokens) == (69, 4)
    assert seen.terminal


def test_a_stream_that_ends_in_an_error_says_so() -> None:
    seen = Observation()
    Cohere().observe(seen, {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "it broke"}})
    assert (seen.error_type, seen.error_message) == ("ERROR", "it broke")
