"""`usagetap export`: rows as CSV, JSON, NDJSON or Parquet, one after the other, in bounded memory."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from decimal import Context, Decimal
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from peewee import BigAutoField, BigIntegerField, DoubleField, Field, SmallIntegerField

from usagetap.headline import clean
from usagetap.store.queries import StoredRow
from usagetap.store.schema import COLUMNS, UsageRow

NAMES: tuple[str, ...] = ("id", *COLUMNS)
_JSON = ("finish_reasons", "usage_raw")
_FLAGS = tuple(name for name, field in UsageRow._meta.fields.items() if isinstance(field, SmallIntegerField))
#: what a spreadsheet takes for the beginning of a formula (OWASP, CSV injection)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_GROUP = 20_000
#: a cost in Parquet: 38 digits are what readers know, and a provider's own figure may have 17 after some zeros
_COST, _LAST_DIGIT = Context(prec=38), Decimal("1e-24")


class ExportError(Exception):
    """The export cannot be made; the message says what to do."""


def write(kind: str, rows: Iterable[StoredRow], out: BinaryIO) -> None:
    """Write `rows` as `kind` (`csv`, `json`, `ndjson`, `parquet`). Raises `ExportError` without pyarrow for Parquet."""
    writers: dict[str, Callable[[Iterable[StoredRow], BinaryIO], None]] = {
        "csv": write_csv,
        "json": write_json,
        "ndjson": write_ndjson,
        "parquet": write_parquet,
    }
    writers[kind](rows, out)


def write_to(
    path: Path | None, kind: str, rows: Iterable[StoredRow], advance: Callable[[int], None] = lambda _: None
) -> None:
    """Write to a file, which appears only when it is whole, or to stdout; `advance` hears of every row.

    Raises `ExportError` where the file cannot be written.
    """
    counted = _counted(rows, advance)
    if path is None:
        write(kind, counted, sys.stdout.buffer)
        return
    draft = path.with_name(f".{path.name}.part")
    try:
        with draft.open("wb") as out:
            write(kind, counted, out)
        draft.replace(path)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _counted(rows: Iterable[StoredRow], advance: Callable[[int], None]) -> Iterator[StoredRow]:
    for row in rows:
        yield row
        advance(1)


def safe(value: Any) -> Any:
    """A cell that no spreadsheet runs: a text that begins like a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def write_csv(rows: Iterable[StoredRow], out: BinaryIO) -> None:
    """CSV with a heading: UTF-8, RFC 4180, texts safe for spreadsheets."""
    lines = csv.writer(_Text(out))
    lines.writerow(NAMES)
    for row in rows:
        lines.writerow([safe(row[name]) for name in NAMES])


class _Text:
    """What csv.writer writes to: text, into a binary stream."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def write(self, text: str) -> int:
        return self._out.write(text.encode("utf-8", "replace"))


def plain(row: StoredRow) -> dict[str, Any]:
    """A row as JSON data: truth values as such, stored JSON as what it is, money as decimal text."""
    found = {name: row[name] for name in NAMES}
    for name in _FLAGS:
        found[name] = None if found[name] is None else bool(found[name])
    for name in _JSON:
        if found[name] is not None:
            try:
                found[name] = json.loads(found[name])
            except ValueError:
                continue
    return found


def write_ndjson(rows: Iterable[StoredRow], out: BinaryIO) -> None:
    """One JSON object a line."""
    for row in rows:
        out.write(dump(plain(row)) + b"\n")


def write_json(rows: Iterable[StoredRow], out: BinaryIO) -> None:
    """One JSON array."""
    out.write(b"[")
    for number, row in enumerate(rows):
        out.write((b",\n" if number else b"\n") + dump(plain(row)))
    out.write(b"\n]\n")


def dump(value: Any) -> bytes:
    """JSON; through the slower library where a number is too large for the quick one."""
    try:
        return orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        return json.dumps(value, default=str).encode("utf-8", "replace")


def write_parquet(rows: Iterable[StoredRow], out: BinaryIO) -> None:
    """Parquet with true types: times as timestamps, cost as decimal."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise ExportError("Parquet needs the package pyarrow: pip install 'usagetap[parquet]'") from None
    schema = arrow.schema([(name, _arrow_type(arrow, name)) for name in NAMES])
    with parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        for group in _groups(rows):
            columns = [[_arrow_value(name, row) for row in group] for name in NAMES]
            writer.write_table(arrow.table(columns, schema=schema))


def _groups(rows: Iterable[StoredRow]) -> Iterator[list[StoredRow]]:
    rest = iter(rows)
    while group := list(islice(rest, _GROUP)):
        yield group


def _arrow_type(arrow: Any, name: str) -> Any:
    field: Field = UsageRow._meta.fields[name]
    if name in ("started_at", "ended_at"):
        return arrow.timestamp("ms", tz="UTC")
    if name == "cost":
        return arrow.decimal128(_COST.prec, -_LAST_DIGIT.adjusted())
    if name in _FLAGS:
        return arrow.bool_()
    if isinstance(field, BigIntegerField | BigAutoField):
        return arrow.int64()
    return arrow.float64() if isinstance(field, DoubleField) else arrow.string()


def _arrow_value(name: str, row: StoredRow) -> Any:
    value = row[name]
    try:
        return None if value is None else _typed(name, value)
    except (ValueError, ArithmeticError) as error:
        message = f"row {row['id']}: Parquet has no room for its {name} `{clean(value)}`: export as csv, json or ndjson"
        raise ExportError(message) from error


def _typed(name: str, value: Any) -> Any:
    if name in ("started_at", "ended_at"):
        from datetime import datetime

        return datetime.fromisoformat(value)
    if name == "cost":
        return _COST.quantize(Decimal(value), _LAST_DIGIT)
    return bool(value) if name in _FLAGS else value
