from __future__ import annotations

import json
from decimal import Decimal

import pytest

from usagetap.report.invoices import InvoiceError, Sums, model_key, read_invoice


def read(tmp_path, content, name="export"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_invoice(path)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("gpt-4o-2024-08-06", "openai/gpt-4o"),
        ("Claude Haiku 4.5", "claude-haiku-4-5-20251001"),
        ("claude-sonnet-4-20250514", "anthropic/claude-sonnet-4"),
        ("openai/gpt-4.1", "gpt-4.1-2025-04-14"),
    ],
)
def test_both_sides_names_of_a_model_meet(theirs, ours):
    assert model_key(theirs) == model_key(ours)


def test_different_models_do_not_meet():
    names = ["gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-5", "claude-sonnet-4", "claude-sonnet-4-5", "o1", "o1:free"]
    assert len({model_key(name) for name in names}) == len(names)


OPENAI_USAGE = {
    "object": "page",
    "has_more": True,
    "data": [
        {
            "object": "bucket",
            "start_time": 1763424000,  # 2025-11-18
            "end_time": 1763510400,
            "results": [
                {
                    "object": "organization.usage.completions.result",
                    "input_tokens": 1000,
                    "output_tokens": 500,
                    "input_cached_tokens": 800,
                    "num_model_requests": 5,
                    "model": "gpt-5-mini-2025-08-07",
                },
                {"input_tokens": 10, "output_tokens": 5, "num_model_requests": 1, "model": "gpt-5-mini-2025-08-07"},
            ],
        }
    ],
}


def test_openais_usage_api(tmp_path):
    invoice = read(tmp_path, OPENAI_USAGE)
    assert (invoice.provider, invoice.partial) == ("openai", True)
    assert invoice.sums == {("2025-11-18", "gpt-5-mini"): Sums(6, 1010, 505, None)}
    assert read(tmp_path, [OPENAI_USAGE, {**OPENAI_USAGE, "has_more": False}]).partial is False


def test_openais_costs_api_with_and_without_line_items(tmp_path):
    def page(*results):
        return {"data": [{"start_time": 1763424000, "results": list(results)}]}

    total = read(tmp_path, page({"amount": {"value": 0.06, "currency": "usd"}, "line_item": None}))
    assert total.sums == {("2025-11-18", ""): Sums(cost=Decimal("0.06"))}
    lines = page(
        {"amount": {"value": 0.06, "currency": "usd"}, "line_item": "gpt-5-mini-2025-08-07, input"},
        {"amount": {"value": 0.04, "currency": "usd"}, "line_item": "gpt-5-mini-2025-08-07, output"},
    )
    assert read(tmp_path, lines).sums == {("2025-11-18", "gpt-5-mini"): Sums(cost=Decimal("0.10"))}


def test_openais_csv(tmp_path):
    usage = read(
        tmp_path,
        "start_time,end_time,start_time_iso,project_id,num_model_requests,model,input_tokens,output_tokens\n"
        "1763424000,1763510400,2025-11-18T00:00:00+00:00,p,5,gpt-5-mini-2025-08-07,1000,500\n",
    )
    assert usage.sums == {("2025-11-18", "gpt-5-mini"): Sums(5, 1000, 500, None)}
    cost = read(
        tmp_path,
        "start_time,end_time,start_time_iso,amount_value,amount_currency\n"
        '1763424000,1763510400,2025-11-18T00:00:00+00:00,"1,234.5",usd\n',
    )
    assert cost.sums == {("2025-11-18", ""): Sums(cost=Decimal("1234.5"))}


def test_anthropics_console_csv(tmp_path):
    tokens = read(
        tmp_path,
        "\ufeffusage_date_utc,model_version,api_key,workspace,usage_input_tokens_no_cache,"
        "usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,"
        "usage_output_tokens\n2026-08-04,claude-haiku-4-5-20251001,k,Default,10,20,30,40,7\n",
    )
    assert (tokens.provider, tokens.sums) == (
        "anthropic",
        {("2026-08-04", "claude-haiku-4-5"): Sums(None, 100, 7, None)},
    )
    cost = read(
        tmp_path,
        "usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd\n"
        "2026-08-04,Claude Haiku 4.5,Default,k,message,≤ 200k,input_no_cache,0.05,0.05\n"
        "2026-08-04,Claude Haiku 4.5,Default,k,message,≤ 200k,output,0.15,0.15\n",
    )
    assert cost.sums == {("2026-08-04", "claude-haiku-4-5"): Sums(cost=Decimal("0.20"))}


def test_anthropics_admin_api_counts_in_cents(tmp_path):
    def page(result):
        return {
            "data": [{"starting_at": "2026-08-04T00:00:00Z", "ending_at": "…", "results": [result]}],
            "has_more": False,
        }

    cost = read(
        tmp_path, page({"currency": "USD", "amount": "123.45", "model": "claude-opus-5", "token_type": "output"})
    )
    assert (cost.provider, cost.sums) == ("anthropic", {("2026-08-04", "claude-opus-5"): Sums(cost=Decimal("1.2345"))})
    assert "Priority Tier" in cost.note
    usage = read(
        tmp_path,
        page(
            {
                "uncached_input_tokens": 1,
                "cache_read_input_tokens": 2,
                "cache_creation": {"ephemeral_1h_input_tokens": 3, "ephemeral_5m_input_tokens": 4},
                "output_tokens": 5,
                "model": "claude-opus-5",
            }
        ),
    )
    assert usage.sums == {("2026-08-04", "claude-opus-5"): Sums(None, 10, 5, None)}


def test_openrouters_activity(tmp_path):
    rows = read(
        tmp_path,
        "generation_id,created_at,cost_total,cost_cache,tokens_prompt,tokens_completion,provider_name,model_permaslug\n"
        "gen-1,2026-03-30 02:37:51.271,0.01,0.0,100,200,openai,openai/gpt-4-turbo\n"
        "gen-2,2026-03-30 03:37:51.271,0.02,-0.005,150,250,openai,openai/gpt-4-turbo\n",
    )
    assert rows.provider == "openrouter"
    assert rows.sums == {("2026-03-30", "gpt-4-turbo"): Sums(2, 250, 450, Decimal("0.03"))}
    api = read(
        tmp_path,
        {
            "data": [
                {
                    "date": "2025-08-24",
                    "model": "openai/gpt-4.1",
                    "model_permaslug": "openai/gpt-4.1-2025-04-14",
                    "usage": 0.015,
                    "byok_usage_inference": 0.012,
                    "requests": 5,
                    "prompt_tokens": 50,
                    "completion_tokens": 125,
                }
            ]
        },
    )
    # what the user's own key paid is spent as well; our rows count both
    assert api.sums == {("2025-08-24", "gpt-4-1"): Sums(5, 50, 125, Decimal("0.027"))}


def test_openrouters_export_as_it_is_in_2026(tmp_path):
    header = (
        "generation_id,created_at,cost_total,cost_web_search,cost_cache,cost_file_processing,byok_usage_inference,"
        "tokens_prompt,tokens_completion,tokens_reasoning,tokens_cached,model_permaslug,provider_name,variant,cancelled,"
        "streamed,user,finish_reason_raw,finish_reason_normalized,generation_time_ms,time_to_first_token_ms,"
        "api_key_disabled,api_key_name,app_name\n"
    )
    lines = (
        "gen-1,2026-09-05 16:30:00.000,0.01,0,0,0,0,100,20,8,0,openai/gpt-5-mini-2025-08-07,OpenAI,standard,false,true,"
        ",stop,stop,900,300,false,work,app\n"
        "gen-2,2026-09-05 16:31:00.000,0.001,0,0,0,0.02,100,20,8,0,openai/gpt-5-mini-2025-08-07,OpenAI,standard,true,"
        "true,,,,900,300,false,work,app\n"
    )
    assert read(tmp_path, header + lines).sums == {
        ("2026-09-05", "gpt-5-mini"): Sums(2, 200, 40, Decimal("0.031")),
    }


def test_openais_dashboard_costs_as_they_are_in_2026(tmp_path):
    header = (
        "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,quantity,quantity_unit,line_item,"
        "user_id,api_key_id,project_id,organization_id,project_name,organization_name,user_email,api_source\n"
    )
    lines = (
        "1790467200,1790553600,2026-09-27T00:00:00+00:00,2026-09-28T00:00:00+00:00,0.5,usd,400000,tokens,"
        '"gpt-5-mini-2025-08-07, input",,,proj_1,org_1,Default,Us,,\n'
        "1790467200,1790553600,2026-09-27T00:00:00+00:00,2026-09-28T00:00:00+00:00,0.25,usd,125000,tokens,"
        '"gpt-5-mini-2025-08-07, output",,,proj_1,org_1,Default,Us,,\n'
    )
    invoice = read(tmp_path, header + lines)
    assert (invoice.provider, invoice.sums) == (
        "openai",
        {("2026-09-27", "gpt-5-mini"): Sums(cost=Decimal("0.75"))},
    )


def test_anthropics_console_usage_as_it_is_in_2026(tmp_path):
    header = (
        "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,"
        "usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,"
        "usage_output_tokens,web_search_count,inference_geo,speed\n"
    )
    line = "2026-08-05,claude-opus-5,Closer,Default,standard,≤ 200k,10,20,30,40,7,1,global,standard\n"
    invoice = read(tmp_path, header + line)
    assert (invoice.provider, invoice.sums) == (
        "anthropic",
        {("2026-08-05", "claude-opus-5"): Sums(None, 100, 7, None)},
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is no usage export that is known here"),
        ("name,colour\nx,red\n", "is no usage export that is known here: give OpenAI's usage or costs"),
        ("{}", "is no usage export that is known here"),
        ("[1, 2]", "is no usage export that is known here"),
        ("{", "is not JSON"),
        ("SQLite format 3\0\0\r\r\n" + "x" * 200_000, "is neither JSON nor CSV"),
        ("date,requests\nsoon,3\n", "entry 2 has no date in any of date"),
    ],
)
def test_a_file_that_cannot_be_compared_gets_one_line(tmp_path, content, said):
    with pytest.raises(InvoiceError) as caught:
        read(tmp_path, content)
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InvoiceError, match=r"cannot read .*none: No such file"):
        read_invoice(tmp_path / "none")
