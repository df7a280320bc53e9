"""A record survives the database: what is written is what is read, whatever it is made of."""

from __future__ import annotations

import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from usagetap.model import STATUS_OF_END, USAGE_FIELDS, Record, Usage
from usagetap.store.database import connect
from usagetap.store.migrations import migrate
from usagetap.store.queries import each_row
from usagetap.store.rows import from_row, to_row
from usagetap.store.upsert import write

_COUNT = st.none() | st.integers(0, 2**63 - 1)
_TEXT = st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50)
_TIME = st.integers(0, 4_000_000_000_000).map(lambda milliseconds: milliseconds / 1000)
_SECONDS = st.none() | st.floats(0, 1e6)
_MONEY = st.none() | st.decimals(0, 10**12, allow_nan=False, places=15)
_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
_OF_KIND: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("http_status", "estimated_input_tokens", "estimated_output_tokens", "chunks", "frames"), _COUNT),
    **dict.fromkeys(("body_bytes",), _COUNT),
    **dict.fromkeys(("time_to_first_chunk", "duration"), _SECONDS),
    **dict.fromkeys(("replay", "injected", "stripped", "retried", "truncated"), st.booleans()),
    **dict.fromkeys(("stream", "client_include_usage"), st.none() | st.booleans()),
    **dict.fromkeys(("error_type", "error_message", "client_address", "client_agent", "key_fingerprint", "tag"), _TEXT),
    **dict.fromkeys(
        ("server_address", "path", "provider", "dialect", "operation", "transport", "inject_skipped"), _TEXT
    ),
    **dict.fromkeys(("request_model", "response_model", "response_id", "service_tier", "request_fingerprint"), _TEXT),
    **dict.fromkeys(("currency", "cost_source", "price_version", "price_note"), _TEXT),
    "started_at": _TIME,
    "ended_at": st.none() | _TIME,
    "turn": st.integers(0, 10**9),
    "finish_reasons": st.none() | st.lists(st.none() | st.text(max_size=10), max_size=3),
    "usage": st.builds(Usage, **dict.fromkeys(USAGE_FIELDS, _COUNT)),
    "usage_quality": st.sampled_from([None, "exact", "partial", "estimated", "missing"]),
    "usage_raw": _JSON,
    "cost": _MONEY,
}


@st.composite
def _records(draw: st.DrawFn) -> Record:
    end_reason = draw(st.sampled_from([None, *STATUS_OF_END]))
    status = STATUS_OF_END[end_reason] if end_reason else "open"
    values = {name: draw(strategy) for name, strategy in _OF_KIND.items()}
    return Record(uid="", flow_id=draw(st.text("abc-", max_size=9)), status=status, end_reason=end_reason, **values)


@settings(max_examples=60)
@given(st.lists(_records(), min_size=1, max_size=5))
def test_a_record_survives_the_database(records: list[Record]) -> None:
    for number, record in enumerate(records):
        record.uid = f"u{number}"
    with tempfile.TemporaryDirectory() as folder:
        db = connect(Path(folder) / "usage.db")
        migrate(db)
        write(db, [to_row(record) for record in records])
        found = [from_row(row) for row in each_row(db)]
        db.close()
    for record in found:
        record.duplicate_of = None  # the store's own word
    assert found == records
    assert [_digits(record.cost) for record in found] == [_digits(record.cost) for record in records]


def _digits(cost: Decimal | None) -> str | None:
    return None if cost is None else format(cost, "f")
