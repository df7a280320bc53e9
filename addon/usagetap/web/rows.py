"""Rows of table `usage` as the pages show them: a line of the list, a page of its own, a line of CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from itertools import batched
from typing import Any

from usagetap.headline import SOURCES, clean, cost, headline, seconds, tokens
from usagetap.model import Record
from usagetap.store.queries import StoredRow
from usagetap.store.rows import from_row
from usagetap.store.schema import COLUMNS, UsageRow

from .view import name_of

FlowLink = Callable[[str], str | None]
"""The address at which mitmweb shows a flow, if it (still) has it."""

CSV_COLUMNS: tuple[str, ...] = tuple(
    name for name in ("id", *COLUMNS) if name not in ("uid", "usage_raw", "request_fingerprint")
)
CSV_LINES = 500
"""Rows that are written at a time: some milliseconds of work, a quarter of a megabyte."""
#: what a spreadsheet takes for the beginning of a formula (OWASP, CSV injection)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


@dataclass(frozen=True, slots=True)
class Line:
    """A response as a line of the list."""

    id: int
    started_at: str
    day: str
    clock: str
    status: str
    ending: str
    model: str
    provider: str
    tokens_in: str
    tokens_out: str
    cost: str
    priced: bool
    first_chunk: str
    duration: str
    who: str
    flow: str | None
    headline: str


def line(row: StoredRow, zone: tzinfo, today: datetime, flow_link: FlowLink | None) -> Line:
    """The line for a row."""
    record = from_row(row)
    started = datetime.fromtimestamp(record.started_at, zone)
    tokens_in, tokens_out = counts(record)
    return Line(
        id=row["id"],
        started_at=row["started_at"],
        day="" if started.date() == today.date() else f"{started:%Y-%m-%d}",
        clock=f"{started:%H:%M:%S}",
        status=record.status,
        ending="" if record.end_reason in (None, "complete") else clean(record.end_reason),
        model=name_of("model", record.request_model or record.response_model),
        provider=clean(record.provider or record.server_address or ""),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        cost=cost(record) or "–",
        priced=record.cost is not None,
        first_chunk=_seconds(record.time_to_first_chunk),
        duration=_seconds(record.duration),
        who=clean(record.tag or record.client_address or ""),
        flow=flow_link(record.flow_id) if flow_link else None,
        headline=headline(record),
    )


def counts(record: Record) -> tuple[str, str]:
    """Tokens in and out as a headline has them: `?` unknown, `~` estimated, `≥` a lower bound."""
    told = headline(record).partition(" · ")[0]
    tokens_in, _, tokens_out = told.partition("→")
    return tokens_in, tokens_out


def _seconds(value: float | None) -> str:
    return "–" if value is None else seconds(value)


#: the page of a row: headings, and the columns under each; usage has a table of its own
_CHAPTERS: dict[str, tuple[str, ...]] = {
    "How it went": (
        *("status", "end_reason", "http_status", "error_type", "error_message", "finish_reasons", "started_at"),
        *("ended_at", "time_to_first_chunk", "duration", "chunks", "frames", "body_bytes", "truncated"),
    ),
    "What it cost": ("cost", "currency", "cost_source", "price_version", "price_note", "service_tier", "usage_quality"),
    "Who asked": ("client_address", "client_agent", "key_fingerprint", "tag"),
    "Whom": (
        *("provider", "request_model", "response_model", "response_id", "server_address", "path", "dialect"),
        *("operation", "transport", "stream"),
    ),
    "What we changed": ("client_include_usage", "injected", "inject_skipped", "stripped", "retried"),
    "Where it is kept": ("id", "flow_id", "turn", "replay", "instance", "duplicate_of", "uid"),
}
_USAGE: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "input_tokens",
        (
            *("cache_read_input_tokens", "cache_write_input_tokens", "cache_write_5m_input_tokens"),
            *("cache_write_1h_input_tokens", "audio_input_tokens", "image_input_tokens"),
        ),
    ),
    ("output_tokens", ("reasoning_output_tokens", "audio_output_tokens", "image_output_tokens")),
    ("total_tokens", ()),
    ("tool_use_input_tokens", ()),
    ("estimated_input_tokens", ()),
    ("estimated_output_tokens", ()),
)
_FLAGS = ("replay", "stream", "client_include_usage", "injected", "stripped", "retried", "truncated")


@dataclass(frozen=True, slots=True)
class Fact:
    """A column's name, value and meaning."""

    name: str
    value: str
    meaning: str
    inner: bool = False


def chapters(row: StoredRow) -> list[tuple[str, list[Fact]]]:
    """Everything that is known of a response but its token counts, under headings; what is unknown is left out."""
    found = [
        (title, [_fact(row, name) for name in names if row[name] is not None]) for title, names in _CHAPTERS.items()
    ]
    if row["cost"] is None and (price := cost(from_row(row))):
        dict(found)["What it cost"].insert(0, Fact("cost", price, meaning("cost")))
    return [(title, facts) for title, facts in found if facts]


def usage_facts(row: StoredRow) -> list[Fact]:
    """The token counts, subsets under what they are part of; `?` for input or output that nobody told."""
    facts = []
    for name, subsets in _USAGE:
        if row[name] is not None or name in ("input_tokens", "output_tokens"):
            mark = "~" if name.startswith("estimated") else ""
            facts.append(Fact(name, tokens(row[name], mark=mark), meaning(name)))
        facts += [Fact(each, tokens(row[each]), meaning(each), inner=True) for each in subsets if row[each] is not None]
    return facts


def meaning(name: str) -> str:
    """What a column means, in a sentence."""
    field: Any = UsageRow._meta.fields[name]
    return str(field.help_text or "").replace("`", "")


def _fact(row: StoredRow, name: str) -> Fact:
    value = row[name]
    if name in _FLAGS:
        shown = "yes" if value else "no"
    elif name in ("time_to_first_chunk", "duration"):
        shown = seconds(value)
    elif name in ("chunks", "frames", "body_bytes"):
        shown = f"{value:,}"
    elif name == "finish_reasons":
        shown = ", ".join(str(reason) for reason in json.loads(value) if reason is not None) or "none"
    elif name == "cost":
        shown = f"{cost(from_row(row))} · exactly {value}"
    elif name == "cost_source":
        shown = SOURCES.get(str(value), str(value))
    else:
        shown = str(value)
    return Fact(name, clean(shown), meaning(name))


def raw_usage(row: StoredRow) -> str | None:
    """The provider's own usage object, laid out."""
    if row["usage_raw"] is None:
        return None
    try:
        return clean_lines(json.dumps(json.loads(row["usage_raw"]), indent=2, ensure_ascii=False))
    except ValueError:
        return clean_lines(str(row["usage_raw"]))


def clean_lines(text: str) -> str:
    """`text` without control characters but line ends."""
    return "\n".join(clean(each) for each in text.split("\n"))


def to_csv(rows: Iterable[StoredRow]) -> Iterator[bytes]:
    """Rows as CSV, some hundred lines at a time, the heading first: UTF-8, RFC 4180, texts safe for spreadsheets."""
    yield _csv_lines([CSV_COLUMNS])
    for some in batched(rows, CSV_LINES):
        yield _csv_lines([_safe(row[name]) for name in CSV_COLUMNS] for row in some)


def _csv_lines(lines: Iterable[Iterable[Any]]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(lines)
    return out.getvalue().encode("utf-8", "replace")


def _safe(value: Any) -> Any:
    """A cell that no spreadsheet runs: a text that begins like a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
