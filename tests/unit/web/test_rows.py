from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from usagetap.headline import headline
from usagetap.model import Usage
from usagetap.store.queries import by_id, open_reader
from usagetap.store.rows import from_row
from usagetap.store.schema import COLUMNS
from usagetap.web import rows

from .conftest import ZONE


@pytest.fixture
def row(database: Path, put: Callable[..., None]) -> Callable[..., dict[str, Any]]:
    def row(*args: Any, **fields: Any) -> dict[str, Any]:
        put(*args, **fields)
        db = open_reader(database)
        found = by_id(db, db.execute_sql("SELECT MAX(id) FROM usage").fetchone()[0])
        db.close()
        assert found is not None
        return found

    return row


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, ("1,234", "56")),
        ({"usage_quality": "partial"}, ("1,234", "≥56")),
        ({"usage_quality": "estimated", "estimated_output_tokens": 70}, ("1,234", "56")),
    ],
)
def test_counts_are_those_of_the_headline(row: Any, fields: dict[str, Any], told: tuple[str, str]) -> None:
    record = from_row(row(**fields))
    assert rows.counts(record) == told
    assert headline(record).startswith("→".join(told))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "$0.0012"),
        ({"cost_source": "estimated"}, "~$0.0012"),
        ({"cost": None}, "unpriced"),
        ({"cost": None, "usage": Usage(), "usage_quality": "missing"}, "–"),
        ({"cost": Decimal(0)}, "$0.00"),
    ],
)
def test_no_price_is_never_zero(row: Any, fields: dict[str, Any], told: str) -> None:
    found = row(**fields)
    assert rows.line(found, ZONE, datetime.now(ZONE), None).cost == told
    on_its_page = [fact.value for _, facts in rows.chapters(found) for fact in facts if fact.name == "cost"]
    assert on_its_page in ([told], [f"{told} · exactly {found['cost']}"], [] if told == "–" else None)


def test_what_a_row_s_page_says_is_for_people(row: Any) -> None:
    found = row(finish_reasons=[None, "stop"], cost_source="price_table", estimated_output_tokens=7)
    shown = {fact.name: fact.value for _, facts in rows.chapters(found) for fact in facts}
    assert shown["finish_reasons"] == "stop"
    assert shown["cost_source"] == "from the bundled price table"
    assert ("estimated_output_tokens", "~7") in [(fact.name, fact.value) for fact in rows.usage_facts(found)]


def test_every_column_is_on_the_page_of_a_row(row: Any) -> None:
    shown = {name for names in rows._CHAPTERS.values() for name in names}
    shown |= {name for name, _ in rows._USAGE} | {name for _, subsets in rows._USAGE for name in subsets}
    assert {"id", *COLUMNS} - shown == {"usage_raw", "request_fingerprint"}
    facts = [fact.name for _, facts in rows.chapters(row()) for fact in facts]
    assert "error_type" not in facts  # unknown is left out, not shown as empty
    assert all(fact.meaning for _, facts in rows.chapters(row()) for fact in facts)


def test_subsets_stand_under_what_they_are_part_of(row: Any) -> None:
    found = rows.usage_facts(row())
    assert [(fact.name, fact.value) for fact in found][:1] == [("input_tokens", "1,234")]
    assert not found[0].inner


def test_raw_usage_keeps_its_lines_and_loses_its_controls(row: Any) -> None:
    text = rows.raw_usage(row(usage_raw={"a": "\x1b[31m", "b": 1}))
    assert text is not None
    assert text.splitlines()[0] == "{"
    assert json.loads(text)["b"] == 1
    assert "\x1b" not in text
    assert rows.raw_usage(row()) is None


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx", "＝x"])
def test_no_cell_of_the_csv_is_a_formula(row: Any, text: str) -> None:
    (line,) = csv.DictReader(io.StringIO(b"".join(rows.to_csv([row(tag=text)])).decode(), newline=""))
    assert line["tag"] == f"'{text}"
    assert line["input_tokens"] == "1234"
    assert "usage_raw" not in line
