from __future__ import annotations

import os
from pathlib import Path

import pytest
from bench import estimates

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


corpus_there = pytest.mark.skipif(
    not os.environ.get("USAGETAP_CORPUS"), reason="USAGETAP_CORPUS does not name a corpus"
)


@pytest.fixture(scope="module")
def measured():
    pytest.importorskip("bpe_openai", reason="the `estimate` extra is not installed")
    return estimates.measure(str(Path(os.environ["USAGETAP_CORPUS"]) / "http.jsonl.gz"), half=1)


@pytest.mark.corpus
@corpus_there
@pytest.mark.parametrize("family", ["gpt-4o, chat", "gpt-4o, responses", "gpt-5.x, responses"])
def test_openais_streams_are_counted_as_openai_does_ended_or_cut(measured, family):
    """On the half of the corpus that no constant was read off."""
    ended, cut = estimates.Line.of(measured.whole[family]), estimates.Line.of(measured.cut[family])
    assert ended.pairs > 15
    assert cut.pairs > 50
    assert ended.near > 0.95
    assert cut.near > 0.95


@pytest.mark.corpus
@corpus_there
def test_the_readme_says_what_is_measured(measured):
    written = Path(__file__).parents[2] / "docs" / "estimates.md"
    assert written.read_text() == "\n".join(estimates.table(measured)) + "\n", "python -m bench.estimates … --table"
