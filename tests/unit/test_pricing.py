from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from usagetap.model import STATUS_OF_END, Record, Request, Usage
from usagetap.pricing import Price, apply, price, read_prices
from usagetap.pricing.bundled import find
from usagetap.providers import provider

NOVEMBER = datetime(2026, 11, 1, 12, tzinfo=UTC).timestamp()


def record(**values):
    defaults = {
        "uid": "u",
        "flow_id": "f",
        "started_at": NOVEMBER,
        "status": "ok",
        "end_reason": "complete",
        "provider": "openai",
        "server_address": "api.openai.com:443",
        "path": "/v1/chat/completions",
        "response_model": "gpt-4o-2024-08-06",
        "usage_quality": "exact",
    }
    return Record(**(defaults | values))


def prices(tmp_path, text):
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    return read_prices(path)


def test_a_priced_row_says_what_it_cost_and_where_that_came_from():
    # gpt-4o: 2.50 in, 1.25 cached, 10 out, dollars per million
    found = price(record(usage=Usage(input_tokens=1000, cache_read_input_tokens=400, output_tokens=100)))
    assert found.cost == (Decimal(600) * Decimal("2.5") + 400 * Decimal("1.25") + 100 * 10) / 1_000_000
    assert (found.currency, found.cost_source, found.price_note) == ("USD", "price_table", None)
    assert found.price_version.startswith("genai-prices ")
    assert found.price_version.endswith(" openai/gpt-4o")


def test_the_providers_own_figure_stands():
    own = record(cost=Decimal("0.02"), usage=Usage(input_tokens=1, output_tokens=1))
    assert price(own) == Price(Decimal("0.02"), "USD", "provider")
    own.cost_source = "provider"
    assert price(own) is None
    own.cost, own.cost_source = None, "resolved"
    assert price(own) is None


def test_a_zero_that_is_not_the_sellers_own_is_no_figure():
    # recorded: grok-4-1-fast at Azure
    row = record(
        provider="azure.ai.openai",
        response_model="grok-4-1-fast-non-reasoning",
        usage=Usage(input_tokens=100, output_tokens=0),
        usage_raw={"cost_in_usd_ticks": 0},
        cost=Decimal(0),
        cost_source="provider",
    )
    assert price(row).cost > 0
    row.provider = "x_ai"
    assert price(row) is None


def test_the_users_file_goes_before_the_bundled_table(tmp_path):
    mine = prices(tmp_path, "- {model: gpt-4o*, input: 4, output: 8, currency: EUR}")
    found = price(record(usage=Usage(input_tokens=250_000, output_tokens=125_000)), overrides=mine)
    assert (found.cost, found.currency, found.cost_source) == (Decimal(2), "EUR", "override")
    assert found.price_version.startswith("prices.yaml@")


def test_prices_in_sats(tmp_path):
    mine = prices(
        tmp_path, "- {provider: llm.example, per: token, input: 0.05, output: 0.2, request: 3, currency: sats}"
    )
    row = record(
        provider="llm.example", server_address="llm.example:443", usage=Usage(input_tokens=10, output_tokens=5)
    )
    assert (price(row, overrides=mine).cost, price(row, overrides=mine).currency) == (Decimal("4.5"), "sats")


def test_a_price_in_a_tiny_unit_is_not_too_long_to_be_rounded(tmp_path):
    mine = prices(tmp_path, "currency: nanodollars\nprices:\n  - {input: 333333333333333.3333}")
    found = price(record(usage=Usage(input_tokens=3_000_000)), overrides=mine)
    assert found.cost == Decimal("999999999999999.9999")


def test_a_gateway_can_be_priced_like_the_provider_behind_it(tmp_path):
    row = record(provider="localhost", server_address="localhost:4000", usage=Usage(input_tokens=1000, output_tokens=0))
    assert price(row).cost is None
    found = price(row, overrides=prices(tmp_path, '- {provider: "localhost:4000", like: openai}'))
    assert (found.cost, found.cost_source) == (Decimal("0.0025"), "override")
    assert "openai/gpt-4o" in found.price_version


def test_a_free_model_costs_zero_which_is_not_unpriced(tmp_path):
    row = record(response_model="qwen3:14b", provider="localhost", usage=Usage(input_tokens=9, output_tokens=9))
    assert price(row, overrides=prices(tmp_path, "- {model: qwen3*, input: 0, output: 0}")).cost == 0


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"response_model": "nobodys-model"}, "no price for nobodys-model at openai"),
        ({"response_model": None}, "no model name, no price (openai)"),
        ({"provider": "llm.local", "server_address": "llm.local:80"}, "no price for gpt-4o-2024-08-06 at llm.local"),
        ({"server_address": "chatgpt.com:443"}, "paid for by subscription, not by token"),
        ({"service_tier": "scale"}, "tier scale is paid for by capacity, not by token"),
    ],
)
def test_unknown_is_unpriced_and_says_why(changes, note):
    found = price(record(usage=Usage(input_tokens=10, output_tokens=10), **changes))
    assert (found.cost, found.currency, found.cost_source, found.price_note) == (None, None, None, note)


def test_a_request_that_failed_before_anything_was_used_has_nothing_to_price():
    assert price(record(status="error", end_reason="http_error", usage_quality="missing")) is None


def test_estimates_of_a_failed_generation_are_never_priced():
    failed = record(status="error", end_reason="upstream_error", usage_quality="estimated", estimated_input_tokens=500)
    assert price(failed) is None


@pytest.mark.parametrize("end_reason", [reason for reason, status in STATUS_OF_END.items() if status == "error"])
@pytest.mark.parametrize("quality", ["exact", "partial"])
def test_an_errored_generation_is_never_priced_as_accepted(tmp_path, end_reason, quality):
    usage = Usage(input_tokens=400, output_tokens=0)
    failed = record(status="error", end_reason=end_reason, usage=usage, usage_quality=quality)
    for mine in (None, prices(tmp_path, "- {model: gpt-4o*, input: 2.5, output: 10}")):
        found = price(failed, overrides=mine)
        if end_reason == "no_usage":  # it ended well
            continue
        assert (found.cost, found.cost_source) == (Decimal("0.001"), "estimated"), "apart from what was accepted"
        assert "ended in an error: may not be billed" in found.price_note


def test_what_the_provider_says_that_an_error_cost_is_its_cost():
    failed = record(status="error", end_reason="upstream_error", usage=Usage(input_tokens=400), cost=Decimal("0.01"))
    assert price(failed) == Price(Decimal("0.01"), "USD", "provider")


def test_estimated_tokens_are_priced_apart():
    cut = record(
        status="aborted",
        end_reason="client_disconnected",
        usage_quality="estimated",
        estimated_input_tokens=400,
        estimated_output_tokens=100,
    )
    found = price(cut)
    assert (found.cost, found.cost_source) == (Decimal("0.002"), "estimated")


def test_a_stream_that_was_cut_is_priced_with_what_passed_beyond_the_providers_last_word():
    cut = record(
        status="aborted",
        end_reason="client_disconnected",
        usage_quality="partial",
        usage=Usage(input_tokens=400, output_tokens=1),
        estimated_output_tokens=100,
    )
    assert (price(cut).cost, price(cut).cost_source) == (Decimal("0.002"), "estimated")
    cut.estimated_output_tokens = None
    assert (price(cut).cost, price(cut).cost_source) == (Decimal("0.00101"), "price_table")
    assert price(cut).price_note == "cut short: a lower bound"


def test_a_special_tier_is_priced_where_the_table_knows_it_and_named_where_not():
    # gpt-5-mini flex since 2026-10-12: 0.125 in; before, the table has only the ordinary 0.25
    usage = Usage(input_tokens=1_000_000, output_tokens=0)
    row = record(response_model="gpt-5-mini", service_tier="flex", usage=usage)
    assert (price(row).cost, price(row).price_note) == (Decimal("0.125"), None)
    row.started_at = datetime(2026, 9, 1, tzinfo=UTC).timestamp()
    assert price(row).cost == Decimal("0.25")
    assert price(row).price_note == "no rate for tier flex at that date: the ordinary rate"
    row.service_tier = "default"
    assert price(row).price_note is None


def test_prices_are_those_of_the_day():
    # claude-sonnet-4-6 had a dearer tier above 200,000 tokens until 2026-03-13
    row = record(
        provider="anthropic",
        server_address="api.anthropic.com:443",
        response_model="claude-sonnet-4-6",
        usage=Usage(input_tokens=300_000, output_tokens=0),
    )
    row.started_at = datetime(2026, 3, 12, tzinfo=UTC).timestamp()
    assert price(row).cost == Decimal("1.8")
    row.started_at = datetime(2026, 3, 14, tzinfo=UTC).timestamp()
    assert price(row).cost == Decimal("0.9")


ADVISED = {
    "input_tokens": 2390,
    "output_tokens": 121,
    "iterations": [
        {"type": "message", "input_tokens": 1128, "output_tokens": 110},
        {"type": "advisor_message", "model": "claude-opus-4-8", "input_tokens": 2518, "output_tokens": 22},
        {"type": "message", "input_tokens": 1262, "output_tokens": 11},
    ],
}


def test_what_anthropic_ran_beside_the_answer_is_billed_by_its_own_model():
    # recorded shape: claude-sonnet-5 (2 in, 10 out) advised by claude-opus-4-8 (5 in, 25 out)
    row = record(
        provider="anthropic",
        server_address="api.anthropic.com:443",
        response_model="claude-sonnet-5",
        usage=Usage(input_tokens=2390, output_tokens=121),
        usage_raw=ADVISED,
    )
    assert price(row).cost == Decimal(2390 * 2 + 121 * 10 + 2518 * 5 + 22 * 25) / 1_000_000


def test_searches_that_anthropic_made_are_billed():
    raw = {"input_tokens": 100, "server_tool_use": {"web_search_requests": 3}}
    row = record(provider="anthropic", response_model="claude-sonnet-5", usage=Usage(input_tokens=100), usage_raw=raw)
    assert price(row).cost == Decimal("0.0002") + 3 * Decimal("0.01")


def test_audio_by_the_second():
    # whisper-1: 0.36 dollars an hour
    row = record(response_model="whisper-1", usage_raw={"type": "duration", "seconds": 37})
    assert price(row).cost == round(Decimal("0.36") * 37 / 3600, 18)


def test_mistrals_audio_is_billed_by_the_second_and_its_tokens_not_as_well():
    raw = {"prompt_audio_seconds": 36, "prompt_tokens": 9, "prompt_tokens_details": {"audio_tokens": 375}}
    row = record(
        provider="mistral_ai",
        server_address="api.mistral.ai:443",
        response_model="voxtral-small-24b-2507",
        usage=Usage(input_tokens=384, audio_input_tokens=375, output_tokens=10),
        usage_raw=raw,
    )
    # 0.10 in, 0.40 out a million, 0.24 an hour
    assert price(row).cost == Decimal("0.0000009") + Decimal("0.000004") + Decimal("0.0024")


def test_a_price_is_written_into_its_record_and_none_leaves_it():
    row = record(usage=Usage(input_tokens=4, output_tokens=0))
    apply(row, price(row))
    assert (row.cost, row.cost_source) == (Decimal("0.00001"), "price_table")
    apply(row, None)
    assert row.cost == Decimal("0.00001")


#: dollars per million: input, cache read, cache write, output; by hand, from the providers' pages
BY_HAND = {
    "gpt-4o": ("2.5", "1.25", None, "10"),
    "gpt-4o-mini": ("0.15", "0.075", None, "0.6"),
    "gpt-5": ("1.25", "0.125", None, "10"),
    "gpt-5-mini": ("0.25", "0.025", None, "2"),
    "claude-sonnet-4-0": ("3", "0.3", "3.75", "15"),
    "claude-haiku-4-5": ("1", "0.1", "1.25", "5"),
}


def corpus():
    path = Path(os.environ["USAGETAP_CORPUS"]) / "http.jsonl.gz"
    with gzip.open(path) as lines:
        for line in lines:
            exchange = json.loads(line)
            if exchange["expect"] and exchange["expect"]["has_usage"]:
                yield exchange


def whole(count):
    return None if count is None else int(count)  # some providers say 28.0


def asked_model(exchange):
    """The model as the request names it: in Bedrock's path, else in the body."""
    path, body = unquote(urlsplit(exchange["url"]).path), exchange["request"]
    if "/model/" in path:
        return path.partition("/model/")[2].rpartition("/")[0]
    return body.get("model") if isinstance(body, dict) else None


def from_corpus(exchange):
    """A record as the corpus' own oracle counts it: nothing of ours is in it but the price."""
    expect, url = exchange["expect"], urlsplit(exchange["url"])
    raw = expect["usage_raw"] if isinstance(expect["usage_raw"], dict) else {}
    creation = raw.get("cache_creation") or {}
    return record(
        provider=provider(Request(exchange["method"], url.hostname or "", url.port or 443, url.path)),
        server_address=f"{url.hostname}:443",
        path=url.path,
        response_model=expect["model"],
        request_model=asked_model(exchange),
        usage=Usage(
            input_tokens=whole(expect["input_tokens"]),
            output_tokens=whole(expect["output_tokens"]),
            cache_read_input_tokens=expect["cached_input_tokens"],
            cache_write_input_tokens=expect["cache_write_tokens"],
            cache_write_1h_input_tokens=creation.get("ephemeral_1h_input_tokens"),
            reasoning_output_tokens=expect["reasoning_tokens"],
        ),
        usage_raw=raw,
    )


def name_for(row, seller, model):
    """What to look up: the model's name as it is; where we clean it up first, as the table has it."""
    if seller == "aws" or seller.startswith("huggingface"):
        return model.replace("regional.", "us.")
    names = [row.response_model, row.request_model]
    return next(name for name in names if name and find(seller, "", [name], row.started_at))


@pytest.mark.corpus
@pytest.mark.skipif(not os.environ.get("USAGETAP_CORPUS"), reason="USAGETAP_CORPUS does not name ../shared/corpus")
def test_every_price_of_the_corpus_equals_genai_prices_own_arithmetic_and_ours_by_hand():
    import genai_prices

    compared, by_hand, wrong = Counter(), 0, []
    for exchange in corpus():
        row = from_corpus(exchange)
        found = price(row)
        # genai-prices bills none of these
        beside = any(row.usage_raw.get(name) for name in ("iterations", "server_tool_use", "prompt_audio_seconds"))
        if found is None or found.cost is None or beside or (found.price_note or "").startswith("more "):
            continue
        seller, _, model = found.price_version.split(" ")[2].partition("/")
        usage, billed = row.usage, row.usage_raw.get("billed_units") or {}
        known = {
            "input_tokens": billed.get("input_tokens", usage.input_tokens),
            "output_tokens": billed.get("output_tokens", usage.output_tokens),
            "cache_read_tokens": usage.cache_read_input_tokens,
            "cache_write_tokens": usage.cache_write_input_tokens,
            "cache_write_1h_tokens": usage.cache_write_1h_input_tokens,
            "output_reasoning_tokens": usage.reasoning_output_tokens,
        }
        theirs = genai_prices.calc_price(
            genai_prices.Usage(**{name: int(count) for name, count in known.items() if count is not None}),
            name_for(row, seller, model),
            provider_id=seller,
            genai_request_timestamp=datetime.fromtimestamp(row.started_at, UTC),
        )
        if found.cost != theirs.total_price:
            wrong.append((exchange["id"], found, theirs.total_price))
        compared[seller] += 1
        if model in BY_HAND and not known["cache_write_1h_tokens"]:
            into, read, write, out = (Decimal(rate or 0) for rate in BY_HAND[model])
            cached, written = usage.cache_read_input_tokens or 0, usage.cache_write_input_tokens or 0
            fresh = (usage.input_tokens or 0) - cached - written
            expected = fresh * into + cached * read + written * write + (usage.output_tokens or 0) * out
            assert found.cost == expected / 1_000_000, (exchange["id"], found)
            by_hand += 1
    assert wrong == []
    assert compared.total() > 3000
    assert len(compared) > 20, compared
    assert by_hand > 1000


def test_where_bedrock_runs_a_model_is_in_the_request_s_id_not_in_the_answer_s():
    # InvokeModel answers with Anthropic's own name
    def cost(asked):
        row = record(provider="aws.bedrock", request_model=asked, response_model="claude-sonnet-4-5-20250929")
        row.usage = Usage(input_tokens=1_000_000, output_tokens=0)
        return price(row).cost

    assert cost("us.anthropic.claude-sonnet-4-5-20250929-v1:0") == Decimal("3.3")
    assert cost("global.anthropic.claude-sonnet-4-5-20250929-v1:0") == 3
    # a profile of the user's own names no model: the answer does
    assert cost("arn:aws:bedrock:us-east-1:1:application-inference-profile/x") == Decimal("3.3")


def test_cohere_bills_its_billed_units():
    row = record(provider="cohere", request_model="command-r", response_model=None)
    row.usage = Usage(input_tokens=508, output_tokens=40)
    row.usage_raw = {"billed_units": {"input_tokens": 65, "output_tokens": 40}, "tokens": {"input_tokens": 508}}
    billed = price(row).cost
    row.usage_raw = None
    row.usage = Usage(input_tokens=65, output_tokens=40)
    assert billed == price(row).cost > 0
