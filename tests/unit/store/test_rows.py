from __future__ import annotations

import copy
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.model import Record
from usagetap.store.rows import RAW_LIMIT, TEXT_LIMIT, from_iso, from_row, snapshot, to_iso, to_row
from usagetap.store.schema import COLUMNS


def test_a_row_has_a_value_for_every_column(record: Any) -> None:
    assert set(to_row(record())) == set(COLUMNS)


def test_truth_is_0_1_or_null_and_times_are_utc_text(record: Any) -> None:
    row = to_row(record(started_at=1_750_000_000.0014, stream=True, injected=False))
    assert (row["stream"], row["injected"], row["client_include_usage"]) == (1, 0, None)
    assert (row["started_at"], row["ended_at"]) == ("2025-06-15T15:06:40.001Z", None)


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        ("0.10", "0.10"),
        ("1E-9", "0.000000001"),
        ("1E+3", "1000"),
        ("0", "0"),
        ("NaN", None),
        ("1E+99", None),
        ("0." + "3" * 99, None),
    ],
)
def test_money_is_decimal_text_without_exponent(record: Any, cost: str, text: str | None) -> None:
    assert to_row(record(cost=Decimal(cost)))["cost"] == text


def test_a_count_no_column_can_hold_is_unknown_but_stays_in_the_raw_usage(record: Any) -> None:
    hostile = record(usage_raw={"input": 10**30})
    hostile.usage.input_tokens = 10**30
    row = to_row(hostile)
    assert row["input_tokens"] is None
    assert json.loads(row["usage_raw"]) == {"input": 10**30}


def test_text_that_no_database_takes_is_made_writable(record: Any) -> None:
    row = to_row(record(tag="a\ud800b\0c", request_model="m" * 10_000, error_message="e" * 10_000))
    assert row["tag"] == "a?b\ufffdc"
    assert (len(row["request_model"]), len(row["error_message"])) == (TEXT_LIMIT, 500)


def test_a_raw_usage_beyond_the_limit_says_how_large_it_was(record: Any) -> None:
    assert json.loads(to_row(record(usage_raw={"x": "y" * RAW_LIMIT}))["usage_raw"]) == {"too_large": RAW_LIMIT + 8}


def test_a_snapshot_is_not_reached_by_later_changes(record: Any) -> None:
    live = record(finish_reasons=["stop"])
    before, taken = copy.deepcopy(live), snapshot(live)
    live.status, live.usage.input_tokens = "ok", 7
    live.finish_reasons.append("length")
    assert taken == before


@given(st.floats())
def test_any_float_is_some_moment(seconds: float) -> None:
    text = to_iso(seconds)
    assert len(text) == 24
    assert text.endswith("Z")


@given(st.integers(0, 253_402_300_799_000))
def test_a_moment_survives_to_the_millisecond(milliseconds: int) -> None:
    assert from_iso(to_iso(milliseconds / 1000)) == milliseconds / 1000


_ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text(st.characters(categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.data())
def test_whatever_a_field_holds_a_row_can_be_written(data: st.DataObject) -> None:
    hostile = Record(uid="u", flow_id="f", started_at=0.0)
    for name in ("tag", "http_status", "duration", "request_model", "usage_raw", "chunks", "path"):
        setattr(hostile, name, data.draw(_ANYTHING))
    for value in to_row(hostile).values():
        assert value is None or isinstance(value, str | float | int)
        if isinstance(value, str):
            assert "\0" not in value.encode().decode()
        elif isinstance(value, int):
            assert -(2**63) <= value < 2**63
    assert from_row(to_row(hostile)).uid == "u"
