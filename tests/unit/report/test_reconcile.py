from __future__ import annotations

import json

from inline_snapshot import snapshot

HEAD = "start_time_iso,num_model_requests,model,input_tokens,output_tokens,cost_usd\n"


def test_what_was_billed_beside_what_we_saw(run, tmp_path):
    path = tmp_path / "usage.csv"
    path.write_text(
        HEAD
        + "2026-11-18T00:00:00+00:00,2,gpt-5-mini-2025-08-07,2001234,65056,0.6312\n"
        + "2026-11-19T00:00:00+00:00,1,gpt-5-mini-2025-08-07,410,95,0.00030\n"
        + "2026-11-19T00:00:00+00:00,3,gpt-4o-2024-08-06,1000,10,0.0026\n"
    )
    assert run("reconcile", str(path), width=110) == snapshot("""\
openai's bill beside what passed the proxy · 2026-11-18 – 2026-11-19 · UTC

day (UTC)   model       requests  ours      input    ours  output  ours     cost      ours
──────────────────────────────────────────────────────────────────────────────────────────
2026-11-18  gpt-5-mini         2     =  2,001,234       =  65,056     =  $0.6312         =
2026-11-19  gpt-4o             3  none      1,000    none      10  none  $0.0026      none
2026-11-19  gpt-5-mini         1     =        410    none      95  none  $0.0003         =
──────────────────────────────────────────────────────────────────────────────────────────
total                          6    −3  2,002,644  −1,410  65,161  −105  $0.6341  −$0.0026

2 of 3 lines differ; `ours` says by how much.
We saw 99.6% of the $0.6341 that was billed.
""")


def test_a_bill_that_agrees_says_so(run, tmp_path):
    path = tmp_path / "usage.csv"
    path.write_text(HEAD + "2026-11-18T00:00:00+00:00,2,gpt-5-mini-2025-08-07,2001234,65056,0.6312\n")
    shown = run("reconcile", str(path))
    assert "Both say the same." in shown
    assert "We saw 100.0% of the $0.6312 that was billed." in shown


def test_what_was_not_billed_is_a_difference_too(run, tmp_path):
    path = tmp_path / "usage.csv"
    path.write_text(HEAD + "2026-11-18T00:00:00+00:00,0,gpt-4o,0,0,0\n")
    shown = run("reconcile", str(path), width=110)
    assert "2026-11-18  gpt-5-mini         –    +2      –  +2,001,234       –  +65,056        –  +$0.6312" in shown
    assert "1 of 2 lines differ" in shown


def test_a_bill_without_models_is_compared_by_day(run, tmp_path):
    path = tmp_path / "costs.json"
    results = [{"amount": {"value": 0.7, "currency": "usd"}, "line_item": None}]
    path.write_text(json.dumps({"has_more": True, "data": [{"start_time": 1794960000, "results": results}]}))
    found = json.loads(run("reconcile", str(path), "--json"))
    assert [(row["day"], row["model"]) for row in found["rows"]] == [("2026-11-18", None)]
    assert found["rows"][0]["ours"]["cost"] == "0.6312"
    assert "one page of several" in run("reconcile", str(path))


def test_other_providers_rows_are_not_in_it(run, tmp_path):
    path = tmp_path / "cost.csv"
    path.write_text(
        "usage_date_utc,model,context_window,token_type,cost_usd\n2026-11-19,Claude Sonnet 5,≤ 200k,output,0.035\n"
    )
    found = json.loads(run("reconcile", str(path), "--json"))
    assert [(row["model"], row["theirs"]["cost"], row["ours"]["cost"]) for row in found["rows"]] == [
        ("claude-sonnet-5", "0.035", "0.035")
    ]


def test_a_file_that_is_none_gets_one_line(run, tmp_path):
    path = tmp_path / "letter.txt"
    path.write_text("dear sir")
    assert "is no usage export that is known here" in run("reconcile", str(path), code=1)


def test_what_names_no_model_is_not_all_where_others_do(run, tmp_path):
    path = tmp_path / "cost.json"
    results = [
        {"currency": "USD", "amount": "3.5", "model": "claude-sonnet-5", "cost_type": "tokens"},
        {"currency": "USD", "amount": "2", "model": None, "cost_type": "web_search"},
    ]
    path.write_text(json.dumps({"data": [{"starting_at": "2026-11-19T00:00:00Z", "results": results}]}))
    shown = run("reconcile", str(path), width=110)
    assert "no model named" in shown
    assert "  all  " not in shown
    assert "leaves out Priority Tier" in shown
