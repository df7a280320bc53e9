from __future__ import annotations

from decimal import Decimal

from usagetap.assembly import assemble
from usagetap.conversation import read
from usagetap.headline import headline
from usagetap.mitm import layout
from usagetap.mitm.told import told
from usagetap.model import Record, Usage


def record(**fields: object) -> Record:
    made = Record(uid="u", flow_id="f", started_at=0.0, status="ok", end_reason="complete", request_model="m")
    made.usage, made.usage_quality = Usage(input_tokens=1234, cache_read_input_tokens=1000, output_tokens=56), "exact"
    made.cost, made.currency, made.cost_source = Decimal("0.0012"), "USD", "price_table"
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_counts_end_in_one_column_and_subsets_stand_under_their_whole() -> None:
    lines = layout.usage(told(record())).splitlines()
    assert lines[0].endswith(" from the bundled price table")
    assert lines[1:] == [
        "input_tokens                 1,234",
        "  cache_read_input_tokens    1,000",
        "output_tokens                   56",
        "cost                       $0.0012",
    ]


def test_what_nobody_told_is_a_question_mark_and_estimates_are_marked() -> None:
    shown = layout.usage(
        told(record(usage=Usage(), usage_quality="estimated", estimated_output_tokens=70, cost=None, cost_source=None))
    )
    assert "input_tokens" in shown
    assert "?" in shown
    assert "~70" in shown
    assert "$" not in shown
    assert "0" not in shown.replace("~70", "")


def test_an_unpriced_response_says_so() -> None:
    assert "unpriced" in layout.usage(told(record(cost=None, cost_source=None)))


def test_how_it_ended_in_one_line() -> None:
    ended = record(status="error", end_reason="upstream_error", finish_reasons=[None, "length"], duration=4.2)
    ended.error_type, ended.error_message = "overloaded", "Try again\x1b[2J"
    assert layout.ending(told(ended)).splitlines()[1:] == [
        "error: upstream_error · finish length",
        "overloaded: Try again�[2J",
        "took 4.2 s",
    ]


def test_changes_are_told_and_nothing_where_there_are_none() -> None:
    changed = record(injected=True, client_include_usage=False, stripped=True, tag="team")
    shown = layout.changes(told(changed))
    assert "stream_options.include_usage is true: the client had said false" in shown
    assert "the final usage frame was withheld" in shown
    assert "the tag header (team) was taken off" in shown
    assert layout.changes(told(record())) == ""


def test_nonsense_on_a_saved_flow_is_survived() -> None:
    nonsense = {"usage": {"input_tokens": "x", "output_tokens": None}, "cost": "money", "finish_reasons": 7}
    assert "?" in layout.usage(nonsense)
    assert layout.ending(nonsense | {"duration": "long"}) == ""


def test_several_choices_are_numbered() -> None:
    payload = {"choices": [{"index": index, "message": {"content": f"text {index}"}} for index in (0, 1)]}
    shown = "\n".join(layout.answer(assemble([payload])))
    assert shown.index("── Answer 0") < shown.index("text 0") < shown.index("── Answer 1") < shown.index("text 1")


def test_a_request_begins_with_its_parameters() -> None:
    sections = layout.asked(read({"model": "m", "temperature": 0, "messages": [{"role": "user", "content": ""}]}))
    assert sections[0].splitlines()[1:] == ["model        m", "temperature  0"]
    assert "(nothing)" in sections[1]


def test_what_is_left_on_a_flow_is_plain_and_has_the_headline() -> None:
    import json

    left = told(record(), body_cut=True)
    assert json.loads(json.dumps(left)) == left
    assert left["headline"] == headline(record())
    assert left["body_cut"] is True
