from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from usagetap.model import USAGE_FIELDS, Record
from usagetap.store.database import connect
from usagetap.store.migrations import migrate
from usagetap.store.rows import to_row
from usagetap.store.schema import COLUMNS, MODELS
from usagetap.store.upsert import write


def test_every_field_of_a_record_has_its_column() -> None:
    fields = [f.name for f in dataclasses.fields(Record)]
    flat = [column for name in fields for column in (USAGE_FIELDS if name == "usage" else (name,))]
    assert set(flat) == set(COLUMNS)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_column_is_documented(model: Any) -> None:
    assert [f.name for f in model._meta.sorted_fields if not f.help_text] == []


def test_the_views_count_usage_once_and_name_what_they_leave_out(url: str, record: Any) -> None:
    db = connect(url)
    migrate(db)
    usd = {"cost": 1, "currency": "USD", "cost_source": "price_table"}
    records = [
        record(1, "complete", request_model="m", response_id="r", dialect="openai_responses"),
        record(2, "complete", request_model="m", response_id="r", dialect="openai_responses"),
        record(3, "complete", request_model="m"),
        record(4, "complete", request_model="m"),
        record(5, "client_disconnected", request_model="m", usage_quality="missing"),
        record(6, "http_error", request_model="m", usage_quality="missing"),
        record(7, request_model="m"),
    ]
    rows = [to_row(each) for each in records]
    rows[0] |= usd | {"cost": "0.25"}
    rows[1] |= usd | {"cost": "0.25"}
    rows[2] |= usd | {"cost": "3", "currency": "EUR"}
    for row in rows[4:6]:
        row |= {"input_tokens": None, "output_tokens": None}
    write(db, rows)
    names = (
        *("requests", "ok", "aborted", "errors", "still_open", "missing", "unpriced", "input_tokens", "output_tokens"),
        *("cost_usd", "in_other_currencies"),
    )
    for view, key, value in (("usage_daily", "day", "2025-06-15"), ("usage_by_model", "model", "m")):
        (found,) = db.execute_sql(f"SELECT {key}, {', '.join(names)} FROM {view}").fetchall()
        assert found == (value, 7, 4, 1, 1, 1, 1, 1, 30, 15, 0.25, 1), view
    db.close()
