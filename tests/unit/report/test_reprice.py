from __future__ import annotations

import json
import sqlite3
from decimal import Decimal

import pytest


@pytest.fixture
def sql(db):
    connection = sqlite3.connect(db)
    yield lambda text: connection.execute(text).fetchall()
    connection.close()


def test_rows_are_priced_again_and_what_stood_there_is_kept(run, sql):
    shown = run("reprice")
    # 234 fresh, 1,000 cached, 56 out at 0.25, 0.025 and 2 dollars a million
    assert sql("SELECT cost, cost_source FROM usage WHERE id = 1") == [("0.0001955", "price_table")]
    assert sql("SELECT usage_id, cost, price_version FROM price_history ORDER BY usage_id LIMIT 1") == [
        (1, "0.0012", "genai-prices 0.2.3")
    ]
    assert "9 rows looked at, 2 changed." in shown
    assert "Still unpriced: qwen3:14b (1)." in shown


def test_a_second_time_changes_nothing(run, sql):
    run("reprice")
    history = sql("SELECT COUNT(*) FROM price_history")
    assert "0 changed" in run("reprice")
    assert sql("SELECT COUNT(*) FROM price_history") == history


def test_own_prices_price_what_nobody_else_does(run, sql, tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text("- {provider: localhost, input: 1, output: 2, currency: EUR}")
    result = json.loads(run("reprice", "--unpriced", "--prices", str(prices), "--json"))
    assert (result["changed"], result["after"], result["unpriced"]) == (1, {"EUR": "0.0019"}, {})
    assert sql("SELECT cost, currency, cost_source, price_note FROM usage WHERE id = 4") == [
        ("0.0019", "EUR", "override", None)
    ]
    # it had no price before: the history says so
    assert sql("SELECT cost, price_note FROM price_history") == [(None, "no price for qwen3:14b at localhost")]


def test_own_prices_stay_where_their_file_is_not_given(run, sql, tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text("- {input: 1, output: 2}")
    run("reprice", "--prices", str(prices))
    before = sql("SELECT cost, cost_source, price_version FROM usage ORDER BY id")
    (own,) = sql("SELECT COUNT(*) FROM usage WHERE price_version LIKE 'prices.yaml%'")[0]
    assert f"{own} stay as your own price file priced them: name it with --prices." in run("reprice")
    assert sql("SELECT cost, cost_source, price_version FROM usage ORDER BY id") == before
    prices.write_text("- {input: 3, output: 2}")
    assert f"{own} changed" in run("reprice", "--prices", str(prices))


def test_only_the_range_that_was_asked_for(run, sql):
    run("reprice", "--since", "2026-11-19", "--timezone", "UTC")
    assert sql("SELECT cost FROM usage WHERE id = 1") == [("0.0012",)]


def test_a_dry_run_says_and_does_nothing(run, sql):
    assert "2 would change" in run("reprice", "--dry-run")
    assert sql("SELECT cost FROM usage WHERE id = 1") == [("0.0012",)]
    assert sql("SELECT * FROM price_history") == []


def test_the_providers_own_figure_and_a_price_that_nobody_knows_any_more_stay(run, sql, db):
    connection = sqlite3.connect(db)
    connection.execute("UPDATE usage SET cost_source = 'provider', cost = '7' WHERE id = 1")
    connection.commit()
    connection.close()
    run("reprice")
    assert sql("SELECT cost FROM usage WHERE id = 1") == [("7",)]
    assert sql("SELECT cost, currency FROM usage WHERE id = 9") == [("42", "sats")]


def test_a_bad_price_file_gets_one_line(run, tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text("- {model: a, inpt: 1}")
    shown = run("reprice", "--prices", str(prices), code=1)
    assert "prices.yaml:1: entry 1: unknown key `inpt`; did you mean `input`?" in " ".join(shown.split())


def test_sums_of_money_are_decimal(run):
    result = json.loads(run("reprice", "--json"))
    assert Decimal(result["before"]["USD"]) == Decimal("0.0012") + Decimal("0.035")
