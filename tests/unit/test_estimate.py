from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from statistics import median

import pytest

from usagetap.estimate import Estimator, vocabulary


@pytest.fixture
def estimator():
    pytest.importorskip("bpe_openai", reason="the `estimate` extra is not installed")
    return Estimator()


def test_without_the_extra_everything_is_unknown(monkeypatch):
    monkeypatch.setattr(vocabulary, "installed", lambda: False)
    estimator = Estimator()
    assert not estimator.available()
    assert estimator.count_text("gpt-4o", "hello") is None
    assert estimator.count_request("gpt-4o", {"messages": [{"role": "user", "content": "hi"}]}) is None
    assert estimator.tally("gpt-4o", "openai_chat") is None


def test_openais_counts_are_exact_and_others_are_scaled(estimator):
    text = "The quick brown fox jumps over the lazy dog. " * 20
    assert estimator.exact("gpt-4o")
    assert not estimator.exact("claude-sonnet-4-5")
    assert estimator.count_text("claude-sonnet-4-5", text) > estimator.count_text("gpt-4o", text) * 1.1


def test_a_tally_reads_payloads_of_its_dialect(estimator):
    tally = estimator.tally("gpt-4o", "openai_chat", {"messages": []})
    for text in ("Hel", "lo", " world"):
        tally.observe({"choices": [{"index": 0, "delta": {"content": text}}]})
    tally.observe({"choices": [], "usage": {"completion_tokens": 2}})
    tally.observe("no object")
    assert tally.total == 2


def test_a_request_that_names_its_tool_is_answered_without_the_name(estimator):
    forced = {"tool_choice": {"type": "function", "function": {"name": "f"}}}
    payload = {"choices": [{"delta": {"tool_calls": [{"function": {"name": "some_name", "arguments": "{}"}}]}}]}
    totals = []
    for body in (forced, {"tool_choice": "auto"}):
        tally = estimator.tally("gpt-4o", "openai_chat", body)
        tally.observe(payload)
        totals.append(tally.total)
    assert totals[0] == 1
    assert totals[1] > 8


def streams():
    with gzip.open(Path(os.environ["USAGETAP_CORPUS"]) / "http.jsonl.gz") as lines:
        for line in lines:
            exchange = json.loads(line)
            expect = exchange["expect"]
            if (
                exchange["api"] == "openai.chat"
                and exchange["stream"]
                and exchange["provider"] in ("openai", "azure")
                and exchange["fidelity"] == "wire"
                and expect
                and expect["output_tokens"]
                and vocabulary.family_of(expect["model"]).exact
            ):
                yield exchange


@pytest.mark.corpus
@pytest.mark.skipif("USAGETAP_CORPUS" not in os.environ, reason="USAGETAP_CORPUS does not name ../shared/corpus")
def test_openais_streams_are_counted_as_openai_does(estimator):
    errors = []
    for exchange in streams():
        expect = exchange["expect"]
        tally = estimator.tally(expect["model"], "openai_chat", exchange["request"])
        for line in exchange["body"].splitlines():
            if line.startswith("data: {"):
                tally.observe(json.loads(line[6:]))
        visible = expect["output_tokens"] - (expect["reasoning_tokens"] or 0)
        if tally.total and visible > 0:
            errors.append(abs(tally.total - visible) / visible)
    assert len(errors) > 100
    assert median(errors) == 0
    assert sum(error <= 0.03 for error in errors) / len(errors) > 0.9
