from __future__ import annotations

import io
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.report.table import Column, Table, bar, brief, cell_width, pad, shorten, terminal_width, wants_colour

columns = st.builds(
    Column,
    heading=st.text("abc xyz", max_size=12),
    short=st.text("abc", max_size=4),
    align=st.sampled_from(["left", "right"]),
    rank=st.integers(0, 3),
    style=st.sampled_from(["", "red", "bold"]),
)


@st.composite
def tables(draw):
    heads = draw(st.lists(columns, min_size=1, max_size=6))
    row = st.lists(st.text(max_size=30), min_size=len(heads), max_size=len(heads))
    return Table(heads, draw(st.lists(row, max_size=5)), draw(st.none() | row))


@given(tables(), st.integers(10, 200))
def test_every_line_is_one_line_and_colour_changes_nothing_else(table, width):
    plain, dropped = table.render(width)
    coloured, also_dropped = table.render(width, colour=True)
    assert dropped == also_dropped
    assert [strip(line).rstrip() for line in coloured] == [line.rstrip() for line in plain]
    assert not any(control in line for line in plain for control in "\n\r\x1b\x07")


def strip(line):
    for code in ("1", "2", "31", "32", "33", "34", "36", "0"):
        line = line.replace(f"\x1b[{code}m", "")
    return line


@given(st.lists(st.tuples(st.text(max_size=40), st.integers(0, 10**9)), max_size=6), st.integers(24, 120))
def test_a_table_of_a_text_and_a_number_always_fits(rows, width):
    table = Table([Column("name", align="left"), Column("tokens")], [(name, f"{count:,}") for name, count in rows])
    lines, _ = table.render(width)
    assert all(cell_width(line) <= width for line in lines)


def test_what_is_least_important_goes_first_and_is_named():
    heads = [Column("model", align="left"), Column("requests", rank=1), Column("reasoning", rank=9), Column("cost")]
    table = Table(heads, [("gpt-5-mini", "1,234", "567", "$1.20")])
    assert table.render(80)[1] == []
    assert table.render(28)[1] == ["reasoning"]
    lines, dropped = table.render(18)
    assert dropped == ["requests", "reasoning"]
    assert lines[-1] == "gpt-5-mini  $1.20"


def test_long_texts_are_cut_before_a_column_goes():
    heads = [Column("model", align="left"), Column("requests", rank=1)]
    lines, dropped = Table(heads, [("a-very-long-model-name-that-nobody-needs-whole", "12")]).render(40)
    assert dropped == []
    assert "…" in lines[-1]
    assert cell_width(lines[-1]) <= 40


@given(st.text(max_size=60), st.integers(1, 40))
def test_a_shortened_text_fits_and_a_padded_one_is_as_wide_as_asked(text, width):
    cut = shorten(text, width)
    assert cell_width(cut) <= width
    assert cell_width(pad(cut, width, "left")) == width


def test_wide_and_combining_characters_take_their_cells():
    assert cell_width("日本") == 4
    assert cell_width("e\u0301") == 1
    assert shorten("日本語", 4) == "日…"


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(1, 20))
def test_a_bar_is_never_longer_than_asked_and_never_nothing_for_something(value, largest, width):
    drawn = bar(value, max(value, largest), width)
    assert len(drawn) <= width
    assert bool(drawn) == (value > 0)


def test_a_bar_of_the_largest_is_full_and_of_half_is_half():
    assert bar(Decimal(8), Decimal(8), 4) == "████"
    assert bar(Decimal(4), Decimal(8), 4) == "██"
    assert bar(1, 16, 4) == "▎"
    assert bar(1, 0, 4) == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("environment", "stream", "wanted"),
    [
        ({}, Terminal(), True),
        ({}, io.StringIO(), False),
        ({"NO_COLOR": "1"}, Terminal(), False),
        ({"NO_COLOR": ""}, Terminal(), True),
        ({"TERM": "dumb"}, Terminal(), False),
        ({"FORCE_COLOR": "1"}, io.StringIO(), True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, Terminal(), False),
    ],
)
def test_colour_is_for_terminals_and_not_for_those_who_said_no(monkeypatch, environment, stream, wanted):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wants_colour(stream) is wanted


def test_the_width_is_what_columns_says_and_never_absurd(monkeypatch):
    monkeypatch.setenv("COLUMNS", "93")
    assert terminal_width() == 93
    monkeypatch.setenv("COLUMNS", "3")
    assert terminal_width() == 40


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (10_000, "10.0k"),
        (99_949, "99.9k"),
        (99_951, "100k"),
        (999_499, "999k"),
        (999_500, "1.00M"),
        (1_675_925, "1.68M"),
        (23_454_003, "23.5M"),
        (10**12, "1.00T"),
    ],
)
def test_a_count_in_five_cells(count, shown):
    assert brief(count) == shown
    assert len(shown) <= 5


def test_columns_that_say_nothing_are_left_out_but_never_those_that_must_stay():
    columns = [Column("name", align="left"), Column("cost"), Column("cached", rank=1), Column("errors", rank=2)]
    table = Table(columns, [["a", "–", "–", "1"], ["b", "–", "–", "–"]], ["total", "–", "–", "1"])
    lines, dropped = table.without_empty().render(80)
    assert lines[0].split() == ["name", "cost", "errors"]
    assert lines[-1].split() == ["total", "–", "1"]
    assert dropped == []


def test_how_short_a_text_would_be_cut():
    table = Table([Column("model", align="left"), Column("tokens")], [["a-long-name-of-a-model", "1,000,000"]])
    assert table.shortest(80) == 80
    assert table.shortest(30) == 30 - 2 - len("1,000,000")
