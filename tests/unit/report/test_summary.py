from __future__ import annotations

import csv
import io
import itertools
import json
import time
from datetime import UTC

import pytest
from inline_snapshot import snapshot

from usagetap.report import summary
from usagetap.report.commands import DIMENSIONS
from usagetap.store.aggregate import Totals

DAILY = ("report", "daily", "--by", "model", "--since", "2026-11-18", "--timezone", "UTC")


def test_a_table_on_a_wide_terminal(run):
    assert run(*DAILY, width=120) == snapshot("""\
Usage by model · daily · since 2026-11-18 · UTC

day         model            reqs         in  cached  written     out  abort  err  unpr     cost  cost sats      est.
─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
2026-11-18  gpt-5-mini          2  2,001,234   1,000        –  65,056      0    0     0  $0.6312          –         –
2026-11-19  claude-sonnet-5     1     88,000  80,000    4,000     900      0    0     0  $0.0350          –         –
            gpt-5-mini          1          –       –        –       –      1    0     0        –          –  ~$0.0003
            qwen3:14b           1        500       –        –     700      0    0     1        –          –         –
2026-11-20  gpt-5-mini          3          –       –        –       –      0    2     0        –          –         –
            local-sats          1         10       –        –       5      0    0     0        –      42.00         –
─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
total                           9  2,089,744  81,000    4,000  66,661      1    2     1  $0.6662      42.00  ~$0.0003

unpriced   1 response not in the cost: qwen3:14b (1)
missing    1 response ended without usage: tokens and cost unknown
estimated  ~400 in, ~90 out, ~$0.00028: counted by us where the provider's word never came, in no other column
open       1 response not yet ended
no room    for reasoning: a wider terminal, --json or --csv have them
""")


def test_a_table_on_a_usual_terminal(run):
    assert run(*DAILY, width=80) == snapshot("""\
Usage by model · daily · since 2026-11-18 · UTC

day         model            reqs         in     out     cost  cost sats
────────────────────────────────────────────────────────────────────────
2026-11-18  gpt-5-mini          2  2,001,234  65,056  $0.6312          –
2026-11-19  claude-sonnet-5     1     88,000     900  $0.0350          –
            gpt-5-mini          1          –       –        –          –
            qwen3:14b           1        500     700        –          –
2026-11-20  gpt-5-mini          3          –       –        –          –
            local-sats          1         10       5        –      42.00
────────────────────────────────────────────────────────────────────────
total                           9  2,089,744  66,661  $0.6662      42.00

unpriced   1 response not in the cost: qwen3:14b (1)
missing    1 response ended without usage: tokens and cost unknown
estimated  ~400 in, ~90 out, ~$0.00028: counted by us where the provider's word
           never came, in no other column
open       1 response not yet ended
no room    for cache read, cache write, reasoning, aborted, errors, unpriced,
           estimated: a wider terminal, --json or --csv have them
""")


def test_a_table_on_a_narrow_terminal(run):
    assert run(*DAILY, width=60) == snapshot("""\
Usage by model · daily · since 2026-11-18 · UTC

day         model            reqs     in    out     cost
────────────────────────────────────────────────────────
2026-11-18  gpt-5-mini          2  2.00M  65.1k  $0.6312
2026-11-19  claude-sonnet-5     1  88.0k    900  $0.0350
            gpt-5-mini          1      –      –        –
            qwen3:14b           1    500    700        –
2026-11-20  gpt-5-mini          3      –      –        –
            local-sats          1     10      5        –
────────────────────────────────────────────────────────
total                           9  2.09M  66.7k  $0.6662

unpriced   1 response not in the cost: qwen3:14b (1)
missing    1 response ended without usage: tokens and cost
           unknown
estimated  ~400 in, ~90 out, ~$0.00028: counted by us where
           the provider's word never came, in no other
           column
open       1 response not yet ended
no room    for cache read, cache write, reasoning, aborted,
           errors, unpriced, cost sats, estimated: a wider
           terminal, --json or --csv have them
""")


def test_by_model_over_all_time_is_what_nobody_needs_to_ask_for(run):
    assert run("report", width=100) == snapshot("""\
Usage by model · UTC

model            reqs         in  cached     out  abort  err  unpr     cost  cost sats      est.
────────────────────────────────────────────────────────────────────────────────────────────────
gpt-5-mini          6  2,001,234   1,000  65,056      1    2     0  $0.6312          –  ~$0.0003
claude-sonnet-5     1     88,000  80,000     900      0    0     0  $0.0350          –         –
local-sats          1         10       –       5      0    0     0        –      42.00         –
qwen3:14b           1        500       –     700      0    0     1        –          –         –
────────────────────────────────────────────────────────────────────────────────────────────────
total               9  2,089,744  81,000  66,661      1    2     1  $0.6662      42.00  ~$0.0003

unpriced   1 response not in the cost: qwen3:14b (1)
missing    1 response ended without usage: tokens and cost unknown
estimated  ~400 in, ~90 out, ~$0.00028: counted by us where the provider's word never came, in no
           other column
open       1 response not yet ended
no room    for cache write, reasoning: a wider terminal, --json or --csv have them
""")


def test_no_line_is_wider_than_the_terminal(run):
    for width in (60, 80, 100, 120, 200):
        for arguments in (DAILY, ("report",), ("report", "monthly", "--by", "provider,tag")):
            assert max(map(len, run(*arguments, width=width).splitlines())) <= width


def test_colours_only_where_they_are_wanted(run):
    assert "\x1b[" not in run("report")
    assert "\x1b[1m" in run("report", env={"FORCE_COLOR": "1"})
    assert "\x1b[" not in run("report", env={"FORCE_COLOR": "1", "NO_COLOR": "1"})


def test_json_is_the_same_for_programs(run):
    found = json.loads(run("report", "monthly", "--by", "provider", "--timezone", "UTC", "--json"))
    assert found["by"] == ["provider"]
    assert found["timezone"] == "UTC"
    openai = next(row for row in found["rows"] if row["provider"] == "openai")
    assert openai["month"] == "2026-11"
    assert (openai["requests"], openai["aborted"], openai["errors"], openai["still_open"]) == (6, 1, 2, 1)
    assert openai["input_tokens"] == 2_001_234
    assert openai["cost"] == {"USD": "0.6312"}
    assert openai["estimated_cost"] == {"USD": "0.00028"}
    assert found["total"]["cost"] == {"USD": "0.6662", "sats": "42"}
    assert found["unpriced_models"] == {"qwen3:14b": 1}


def test_csv_has_a_column_for_each_currency_and_no_formulas(run):
    rows = list(csv.DictReader(io.StringIO(run("report", "--by", "tag", "--csv"))))
    assert {row["tag"] for row in rows} == {"billing", "search", "", "'=HYPERLINK(1)"}
    billing = next(row for row in rows if row["tag"] == "billing")
    assert (billing["cost_USD"], billing["cost_sats"]) == ("0.6312", "42")


def test_a_time_with_nothing_in_it_says_so(run):
    assert "Nothing was recorded in this time." in run(
        "report", "daily", "--since", "2001-01-01", "--until", "2001-01-02"
    )


def test_what_is_complete_is_said_to_be(run):
    shown = run("report", "daily", "--since", "2026-11-18", "--until", "2026-11-18", "--timezone", "UTC")
    assert "complete   every response is counted and priced" in shown


def test_a_day_is_the_readers_day(run):
    # the first row began on the 18th at 09:30 UTC: in Honolulu that was still the 17th
    honolulu = run("report", "daily", "--timezone", "Pacific/Honolulu", "--csv")
    assert honolulu.splitlines()[1].startswith("2026-11-17,")


@pytest.mark.parametrize("by", ["model", "provider", "dialect", "tag", "client", "key", "host", "status"])
def test_every_group_that_the_contract_names_can_be_asked_for(run, by):
    found = json.loads(run("report", "--by", by, "--json"))
    assert sum(row["requests"] for row in found["rows"]) == 9


TWO = ("report", "monthly", "--by", "model,tag", "--timezone", "UTC")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_two_groups_leave_room_for_their_names(run, width):
    """Numbers give way before names are cut to where nobody can tell them apart."""
    lines = run(*TWO, width=width).splitlines()
    assert any("claude-so" in line for line in lines), lines
    assert all(len(line) <= width for line in lines)


def test_two_groups_on_a_narrow_terminal(run):
    assert run(*TWO, width=60) == snapshot("""\
Usage by model, tag · monthly · UTC

month    model       tag         reqs     in    out     cost
────────────────────────────────────────────────────────────
2026-11  gpt-5-mini  billing        5  2.00M  65.1k  $0.6312
         claude-so…  search         1  88.0k    900  $0.0350
         gpt-5-mini  =HYPERLIN…     1      –      –        –
         local-sats  billing        1     10      5        –
         qwen3:14b   –              1    500    700        –
────────────────────────────────────────────────────────────
total                               9  2.09M  66.7k  $0.6662

unpriced   1 response not in the cost: qwen3:14b (1)
missing    1 response ended without usage: tokens and cost
           unknown
estimated  ~400 in, ~90 out, ~$0.00028: counted by us where
           the provider's word never came, in no other
           column
open       1 response not yet ended
no room    for cache read, cache write, reasoning, aborted,
           errors, unpriced, cost sats, estimated: a wider
           terminal, --json or --csv have them
""")


def test_a_host_is_shown_without_the_port_that_goes_without_saying(run):
    assert ":443" not in run("report", "--by", "host")
    assert ":443" in run("report", "--by", "host", "--json")


@pytest.mark.parametrize(
    "by", [",".join(names) for names in (*itertools.combinations(DIMENSIONS, 2), DIMENSIONS[:3], DIMENSIONS[::-1])]
)
def test_any_groups_together_give_the_same_sums(run, by):
    """In any combination, as a table, JSON and CSV."""
    found = json.loads(run("report", "--by", by, "--json"))
    assert found["by"] == by.split(",")
    assert sum(row["requests"] for row in found["rows"]) == found["total"]["requests"] == 9
    rows = list(csv.DictReader(io.StringIO(run("report", "--by", by, "--csv"))))
    assert list(rows[0])[: len(found["by"])] == found["by"]
    assert sum(int(row["requests"]) for row in rows) == 9
    if len(found["by"]) < 4:
        assert max(map(len, run("report", "--by", by, width=80).splitlines())) <= 80


def test_twice_the_lines_cost_twice_the_time():
    def cost(count):
        lines = [Totals(period="2026-11", keys={"tag": f"tag {number}"}, requests=1) for number in range(count)]
        found = summary.Summary("monthly", ("tag",), UTC, None, None, lines, {})
        started = time.process_time()
        summary.render(found, 60, colour=False)
        return time.process_time() - started

    cost(100)
    assert min(cost(4000) for _ in range(3)) < 2.7 * min(cost(2000) for _ in range(3))
