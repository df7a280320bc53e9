from __future__ import annotations

import csv
import io
import json
import sqlite3
import sys
from contextlib import closing
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.report.export import NAMES, safe, write_csv
from usagetap.store.schema import COLUMNS


def test_csv_has_every_column_of_every_row(run):
    rows = list(csv.DictReader(io.StringIO(run("export"))))
    assert list(rows[0]) == ["id", *COLUMNS]
    assert len(rows) == 9
    assert rows[0]["cost"] == "0.0012"
    assert rows[0]["finish_reasons"] == '["stop"]'
    assert rows[3]["cost"] == ""


def test_json_and_ndjson_say_the_same(run):
    whole = json.loads(run("export", "--format", "json"))
    lines = [json.loads(line) for line in run("export", "--format", "ndjson").splitlines()]
    assert whole == lines
    assert whole[0]["usage_raw"] == {"prompt_tokens": 1234, "completion_tokens": 56}
    assert (whole[0]["injected"], whole[0]["cost"], whole[3]["cost"]) == (True, "0.0012", None)


def test_no_rows_are_an_empty_export_that_can_be_read(run):
    before = ("--until", "2001-01-01")
    assert json.loads(run("export", "--format", "json", *before)) == []
    assert run("export", "--format", "ndjson", *before) == ""
    assert run("export", *before).count("\n") == 1


@given(st.text())
def test_no_cell_is_a_formula(text):
    shown = safe(text)
    assert not shown.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert shown.removeprefix("'") == text.removeprefix("'") or shown == text


@given(st.text())
def test_any_text_comes_back_from_csv(text):
    out = io.BytesIO()
    write_csv([{**dict.fromkeys(NAMES), "tag": "x" + text}], out)
    heading, row = csv.reader(io.StringIO(out.getvalue().decode(), newline=""))
    assert row[heading.index("tag")] == ("x" + text).encode("utf-8", "replace").decode()


def test_numbers_stay_numbers():
    assert safe(-5) == -5
    assert safe(None) is None


def test_a_file_is_whole_or_not_there(run, tmp_path, monkeypatch):
    path = tmp_path / "out.csv"
    run("export", "--output", str(path))
    assert path.read_text().count("\n") == 10
    monkeypatch.setattr("usagetap.report.export.safe", lambda _value: 1 / 0)
    broken = tmp_path / "broken.csv"
    with pytest.raises(ZeroDivisionError):
        run("export", "--output", str(broken), catch_exceptions=False)
    assert [each.name for each in tmp_path.iterdir() if "csv" in each.name] == ["out.csv"]


def change(db, row_id, **values):
    with closing(sqlite3.connect(db, isolation_level=None)) as raw:
        for name, value in values.items():
            raw.execute(f"UPDATE usage SET {name} = ? WHERE id = ?", (value, row_id))


def test_parquet_keeps_every_digit_of_a_cost(run, db, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="the `parquet` extra is not installed")
    path, costs = tmp_path / "out.parquet", ["0.000014250000000000002", "12345678901234.5", "1E-7"]
    for row_id, cost in enumerate(costs, 1):
        change(db, row_id, cost=cost)
    run("export", "--format", "parquet", "--output", str(path))
    assert parquet.read_table(path).column("cost").to_pylist()[:3] == list(map(Decimal, costs))


@pytest.mark.parametrize(("name", "value"), [("cost", "9" * 20), ("cost", "free"), ("ended_at", "yesterday")])
def test_what_parquet_has_no_room_for_is_named(run, db, tmp_path, name, value):
    pytest.importorskip("pyarrow.parquet", reason="the `parquet` extra is not installed")
    change(db, 2, **{name: value})
    shown = run("export", "--format", "parquet", "--output", str(tmp_path / "out.parquet"), code=1)
    assert f"row 2: Parquet has no room for its {name} `{value}`: export as csv" in " ".join(shown.split())


def test_parquet_has_true_types(run, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="the `parquet` extra is not installed")
    path = tmp_path / "out.parquet"
    run("export", "--format", "parquet", "--output", str(path))
    table = parquet.read_table(path)
    assert table.num_rows == 9
    first = table.slice(0, 1).to_pylist()[0]
    assert first["cost"] == Decimal("0.0012")
    assert first["started_at"].isoformat() == "2026-11-18T09:30:01+00:00"
    assert (first["injected"], first["input_tokens"], first["duration"]) == (True, 1234, 2.5)


def test_without_pyarrow_it_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = tmp_path / "out.parquet"
    shown = run("export", "--format", "parquet", "--output", str(path), code=1)
    assert "pip install 'usagetap[parquet]'" in shown
    assert not path.exists()
