from __future__ import annotations

import json

from inline_snapshot import snapshot


def test_one_response_whole(run):
    assert run("show", "0001aaaa-flow", "--timezone", "UTC", width=80) == snapshot("""\
1,234→56 · $0.0012 · gpt-5-mini-2025-08-07
────────────────────────────────────────────────────────────────────────
when        2026-11-18 09:30:01.000 UTC · 2.5 s, first chunk after 320 ms
ended       ok · HTTP 200 · finish stop
asked by    127.0.0.1 · tag billing
upstream    api.openai.com:443/v1/chat/completions
spoken      openai · openai_chat · chat · sse
model       gpt-5-mini · served as gpt-5-mini-2025-08-07
request     streamed · usage asked for by us; the client did not say · usage
            frame withheld from the client
tokens in   1,234 (1,000 from cache)
tokens out  56 (12 reasoning)
counted     exact
cost        $0.0012 · exactly 0.0012 · from the bundled price table ·
            genai-prices 0.2.3
body        40 chunks · 42 frames · 12,345 bytes
ids         row 1 · flow 0001aaaa-flow
response    resp-1

usage as the provider sent it
  {
    "prompt_tokens": 1234,
    "completion_tokens": 56
  }
""")


def test_an_error_and_its_words_cannot_steer_the_terminal(run):
    shown = run("show", "0007", "--timezone", "UTC")
    assert "rate_limit: slow down �[31mnow" in shown
    assert "\x1b" not in shown


def test_an_open_response_is_not_called_unpriced(run):
    assert "cost        not yet" in run("show", "8")


def test_estimates_and_notes_are_shown(run):
    assert "counted     estimated · by us (400 in, 90 out)" in run("show", "0005")
    assert "note        no price for qwen3:14b at localhost" in run("show", "0004")


def test_a_row_number_a_beginning_and_last_will_do(run):
    assert run("show", "1") == run("show", "0001aaaa-flow") == run("show", "0001")
    assert "flow 0009aaaa-flow" in run("show", "last")


def test_json_gives_every_column(run):
    (found,) = json.loads(run("show", "0001", "--json"))
    assert found["usage_raw"] == {"prompt_tokens": 1234, "completion_tokens": 56}
    assert (found["injected"], found["cost"], found["finish_reasons"]) == (True, "0.0012", ["stop"])


def test_an_id_that_is_not_one_gets_one_line(run):
    assert "no flow 'zzz': `usagetap tail`" in run("show", "zzz", code=1)
    assert "'000' begins 9 flows (0001aaaa-flow, 0002aaaa-flow, 0003aaaa-flow, …): give more" in run(
        "show", "000", code=1
    )
