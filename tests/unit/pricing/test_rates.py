from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from usagetap.model import Usage
from usagetap.pricing.rates import UNIT, Counts, Rates, Tiered, bill, split

counts = st.none() | st.integers(0, 10**7)
usages = st.builds(
    Usage,
    input_tokens=counts,
    output_tokens=counts,
    cache_read_input_tokens=counts,
    cache_write_input_tokens=counts,
    cache_write_5m_input_tokens=counts,
    cache_write_1h_input_tokens=counts,
    reasoning_output_tokens=counts,
    audio_input_tokens=counts,
    audio_output_tokens=counts,
    image_input_tokens=counts,
    image_output_tokens=counts,
    tool_use_input_tokens=counts,
)
told = st.none() | st.fixed_dictionaries({"audio": st.integers(0, 10**7), "image": st.integers(0, 10**7)})
ONE_DOLLAR = Rates({kind: Decimal(1) for kind in UNIT if kind not in ("request", "web_search", "audio_second")})


@given(usages, told)
def test_split_counts_every_token_once_however_incoherent_the_usage(usage, cached):
    counted = split(usage, cached)
    whole = (usage.input_tokens or 0) + (usage.tool_use_input_tokens or 0) + (usage.output_tokens or 0)
    assert sum(counted.of.values()) == whole
    assert all(count > 0 for count in counted.of.values())


@given(usages, told)
def test_at_one_rate_for_all_kinds_a_bill_is_the_tokens(usage, cached):
    counted = split(usage, cached)
    whole = (usage.input_tokens or 0) + (usage.tool_use_input_tokens or 0) + (usage.output_tokens or 0)
    assert bill(counted, ONE_DOLLAR).cost == Decimal(whole) / 1_000_000


@given(usages, told)
def test_without_a_rate_of_their_own_kinds_cost_what_the_general_one_does(usage, cached):
    general = Rates({"input": Decimal(3), "output": Decimal(7)})
    into = (usage.input_tokens or 0) + (usage.tool_use_input_tokens or 0)
    assert bill(split(usage, cached), general).cost == Decimal(into * 3 + (usage.output_tokens or 0) * 7) / 1_000_000


def test_a_modality_billed_at_the_text_rate_is_named():
    usage = Usage(input_tokens=100, audio_input_tokens=40, output_tokens=10, audio_output_tokens=10)
    billed = bill(split(usage), Rates({"input": Decimal(1), "output": Decimal(1)}))
    assert set(billed.notes) == {"audio input at the text rate", "audio output at the text rate"}


def test_subsets_larger_than_their_whole_are_cut_down_and_named():
    # recorded: Azure's Grok says 158 of 23 input tokens were cached
    counted = split(Usage(input_tokens=23, cache_read_input_tokens=158, output_tokens=1))
    assert counted.of == {"cache_read": 23, "output": 1}
    assert counted.notes == ["more cache_read than the whole that it is part of"]


def test_cached_audio_is_billed_as_cached_audio_where_the_provider_tells():
    usage = Usage(input_tokens=100, audio_input_tokens=60, cache_read_input_tokens=50)
    counted = split(usage, {"audio": 30, "image": 0})
    assert counted.of == {"audio_cache_read": 30, "cache_read": 20, "audio_in": 30, "input": 20}
    assert not counted.notes


def test_cached_audio_that_nobody_told_apart_is_named():
    usage = Usage(input_tokens=100, audio_input_tokens=60, cache_read_input_tokens=50)
    counted = split(usage)
    assert counted.of == {"audio_cache_read": 10, "cache_read": 40, "audio_in": 50}
    assert counted.notes == ["cached audio not told apart from cached text"]


def test_a_tier_holds_for_the_whole_request_once_its_input_is_beyond_the_step():
    rates = Rates({"input": Tiered(Decimal(3), ((200_000, Decimal(6)),)), "output": Decimal(0)})
    assert bill(split(Usage(input_tokens=200_000)), rates).cost == Decimal("0.6")
    assert bill(split(Usage(input_tokens=200_001)), rates).cost == Decimal("1.200006")


def test_one_hour_cache_writes_cost_twice_the_input_by_anthropics_rule():
    usage = Usage(input_tokens=1_000_000, cache_write_input_tokens=1_000_000, cache_write_1h_input_tokens=1_000_000)
    rates = {"input": Decimal(3), "cache_write": Decimal("3.75")}
    assert bill(split(usage), Rates(rates, anthropic=True)).cost == 6
    assert bill(split(usage), Rates(rates)).cost == Decimal("3.75")


def test_what_has_no_rate_at_all_is_left_out_and_named():
    counted = split(Usage(input_tokens=10, output_tokens=10))
    counted.add("web_search", 1)
    billed = bill(counted, Rates({"input": Decimal(1)}))
    assert billed.cost == Decimal("0.00001")
    assert set(billed.notes) == {"output has no rate", "web_search has no rate"}


def test_nothing_priced_is_no_cost_and_not_zero():
    assert bill(split(Usage(output_tokens=10)), Rates({"audio_second": Decimal(1)})).cost is None


def test_a_request_fee_is_charged_once():
    assert bill(Counts(), Rates({"request": Decimal("0.01")})).cost == Decimal("0.01")
