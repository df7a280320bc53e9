from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.headline import clean, cost, digits_for, headline, money, percent, seconds, tokens
from usagetap.model import Record, Usage


def record(**values):
    defaults = {"uid": "u", "flow_id": "f", "started_at": 0.0, "status": "ok", "response_model": "gpt-5-mini"}
    return Record(**(defaults | values))


@pytest.mark.parametrize(
    ("row", "line"),
    [
        (
            record(usage=Usage(input_tokens=1234, output_tokens=56), cost=Decimal("0.0012"), usage_quality="exact"),
            "1,234→56 · $0.0012 · gpt-5-mini",
        ),
        (record(response_model=None, request_model="asked"), "?→? · asked"),
        (
            record(
                status="aborted",
                end_reason="client_disconnected",
                usage_quality="partial",
                usage=Usage(input_tokens=9, output_tokens=1),
                estimated_output_tokens=80,
                cost=Decimal("0.02"),
                cost_source="estimated",
            ),
            "9→~80 · ~$0.020 · gpt-5-mini · aborted: client_disconnected",
        ),
        (
            record(status="aborted", usage_quality="partial", usage=Usage(input_tokens=9, output_tokens=1)),
            "9→≥1 · unpriced · gpt-5-mini · aborted",
        ),
        (
            record(status="error", end_reason="no_usage", estimated_input_tokens=7, estimated_output_tokens=3),
            "~7→~3 · unpriced · gpt-5-mini · error: no_usage",
        ),
        (record(status="open", request_model="x"), "?→? · gpt-5-mini · open"),
    ],
)
def test_a_response_in_one_line(row, line):
    assert headline(row) == line


def test_a_model_name_cannot_steer_a_terminal():
    assert headline(record(response_model="\x1b[31mred")).endswith("�[31mred")


@pytest.mark.parametrize(
    ("amount", "currency", "digits", "shown"),
    [
        ("0", "USD", None, "$0.00"),
        ("12.345", "USD", None, "$12.35"),
        ("1234567.8", "USD", None, "$1,234,567.80"),
        ("0.5", "USD", None, "$0.50"),
        ("0.0123", "USD", None, "$0.012"),
        ("0.000034", "USD", None, "$0.000034"),
        ("0.00000000000000001", "USD", None, "<$0.000000000001"),
        ("0.004", "USD", 2, "<$0.01"),
        ("0.006", "USD", 2, "$0.01"),
        ("0", "USD", 4, "$0.0000"),
        ("12", "sats", None, "12.00 sats"),
        ("1.5", "EUR", None, "€1.50"),
        ("9" * 30, "USD", None, "$" + ",".join(["999"] * 10) + ".00"),
        ("1.5", "\x1b]0;x\x07", None, "1.50 �]0;x�"),
    ],
)
def test_money(amount, currency, digits, shown):
    assert money(Decimal(amount), currency, digits=digits) == shown


def test_unknown_is_never_zero():
    assert money(None) == "unpriced"
    assert tokens(None) == "?"
    assert tokens(0) == "0"


@pytest.mark.parametrize(
    ("duration", "shown"),
    [(None, "?"), (0.0004, "0 ms"), (0.3204, "320 ms"), (0.99949, "999 ms"), (0.9996, "1.0 s"), (187.2, "3 min 07 s")],
)
def test_durations(duration, shown):
    assert seconds(duration) == shown


@given(st.text())
def test_no_stored_text_can_steer_a_terminal(text):
    shown = clean(text)
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 or 0x202A <= ord(char) <= 0x202E for char in shown)
    assert len(shown) == len(text)


@given(st.decimals(min_value=0, max_value=10**12, allow_nan=False, places=14))
def test_what_is_not_nothing_is_never_shown_as_nothing(amount):
    shown = money(amount)
    if amount:
        assert any(digit in shown for digit in "123456789")


@pytest.mark.parametrize(
    ("part", "text"), [(None, "–"), (0, "0%"), (0.004, "0.4%"), (0.12, "12%"), (0.0996, "10%"), (1, "100%")]
)
def test_shares(part, text):
    assert percent(part) == text


def test_a_column_has_the_digits_that_its_largest_amount_needs():
    assert [digits_for(map(Decimal, amounts)) for amounts in ((), ("0.001",), ("0.02", "1"), ("12", "0.01"))] == [
        6,
        6,
        4,
        2,
    ]


def test_what_was_counted_and_has_no_price_is_unpriced():
    assert cost(record(estimated_output_tokens=0)) == cost(record(usage=Usage(output_tokens=0))) == "unpriced"
    assert cost(record()) == ""
