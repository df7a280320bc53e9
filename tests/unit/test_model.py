"""The words of the project as shapes: None is "nobody said", 0 is "they said zero"."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.model import STATUS_OF_END, USAGE_FIELDS, Observation, Record, Request, Usage

COUNTS = st.none() | st.integers(0, 1 << 53)
USAGES = st.builds(Usage, **dict.fromkeys(USAGE_FIELDS, COUNTS))


@given(USAGES, USAGES)
def test_the_last_word_per_field_wins_and_silence_is_no_word(first: Usage, later: Usage) -> None:
    merged = Usage()
    merged.merge(first)
    merged.merge(later)
    for name in USAGE_FIELDS:
        said = getattr(later, name)
        assert getattr(merged, name) == (getattr(first, name) if said is None else said)
    again = Usage()
    again.merge(merged)
    again.merge(later)
    assert again == merged


@given(USAGES)
def test_zero_is_known(usage: Usage) -> None:
    assert usage.known == (usage != Usage())
    assert Usage(input_tokens=0).known
    assert not Usage().known


@pytest.mark.parametrize(
    ("reasons", "finished"),
    [
        ({}, False),
        ({0: None}, False),
        ({0: "stop"}, True),
        ({0: "stop", 1: None}, False),
        ({0: "stop", 1: "length"}, True),
    ],
)
def test_finished_is_every_choice_that_was_seen(reasons: dict[int, str | None], finished: bool) -> None:
    assert Observation(finish_reasons=reasons).finished is finished


def test_the_first_error_stays() -> None:
    seen = Observation()
    seen.fail(None, "first")
    seen.fail("overloaded", "second")
    assert (seen.error_type, seen.error_message) == ("error", "first")


@pytest.mark.parametrize(
    ("body", "text"),
    [({"model": "m"}, "m"), ({"model": ""}, None), ({"model": 7}, None), ({}, None), (["model"], None), (None, None)],
)
def test_a_string_of_the_request(body: object, text: str | None) -> None:
    assert Request("POST", "h", 443, "/", body=body).text("model") == text


def test_observations_share_nothing() -> None:
    first, second = Observation(), Observation()
    first.usage.input_tokens = 1
    first.finish_reasons[0] = "stop"
    assert second == Observation()


def test_a_record_knows_nothing_until_it_is_told() -> None:
    record = Record(uid="i-1", flow_id="f", started_at=0.0)
    unknown = {f.name for f in fields(Record)} - {
        "uid",
        "flow_id",
        "started_at",
        "turn",
        "replay",
        "instance",
        "status",
    }
    unknown -= {"injected", "stripped", "retried", "truncated", "usage"}
    assert {name: getattr(record, name) for name in unknown} == dict.fromkeys(unknown)
    assert record.status == "open"
    assert not record.usage.known


def test_every_end_has_a_status() -> None:
    assert set(STATUS_OF_END.values()) == {"ok", "aborted", "error"}
    assert [end for end, status in STATUS_OF_END.items() if status == "ok"] == ["complete"]
