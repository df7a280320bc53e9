"""`usagetap show`: one response whole, in sections that read like a receipt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, tzinfo

from usagetap.headline import SOURCES, clean, ending, headline, money, seconds, tokens
from usagetap.model import Record
from usagetap.report.periods import zone_name
from usagetap.report.table import paint
from usagetap.store.queries import StoredRow
from usagetap.store.rows import from_row

_LABEL = 11


def render(row: StoredRow, zone: tzinfo, width: int, *, colour: bool) -> list[str]:
    """One row as lines of text; the provider's usage object stands at the end as it was sent."""
    record = from_row(row)
    lines = [paint(headline(record), "bold", colour=colour), paint("─" * min(width, 72), "dim", colour=colour)]
    for label, text in _facts(record, row["id"], zone):
        lines += _labelled(label, text, width, colour=colour)
    if record.usage_raw is not None:
        lines += ["", paint("usage as the provider sent it", "dim", colour=colour)]
        lines += [
            f"  {clean(line)}" for line in json.dumps(record.usage_raw, indent=2, ensure_ascii=False).splitlines()
        ]
    return lines


def _labelled(label: str, text: str, width: int, *, colour: bool) -> list[str]:
    import textwrap

    folded = textwrap.wrap(clean(text), max(width - _LABEL - 1, 20), break_on_hyphens=False) or [""]
    head = paint(f"{label:<{_LABEL}}", "cyan", colour=colour)
    return [f"{head} {folded[0]}", *(" " * (_LABEL + 1) + line for line in folded[1:])]


def _facts(record: Record, row_id: int, zone: tzinfo) -> Iterator[tuple[str, str]]:
    yield "when", _join(_moment(record.started_at, zone), _took(record))
    how = ending(record.status, record.end_reason)
    yield "ended", _join(how, record.http_status and f"HTTP {record.http_status}", _reasons(record))
    if record.error_type or record.error_message:
        yield "error", ": ".join(filter(None, (record.error_type, record.error_message)))
    key = record.key_fingerprint and f"key {record.key_fingerprint}"
    who = _join(record.client_address, record.client_agent, key, record.tag and f"tag {record.tag}")
    if who:
        yield "asked by", who
    yield "upstream", f"{record.server_address or '?'}{record.path or ''}"
    yield "spoken", _join(record.provider, record.dialect, record.operation, record.transport) or "?"
    yield "model", _model(record)
    yield "request", _request(record)
    yield from _money_and_tokens(record)
    if record.chunks is not None or record.body_bytes is not None:
        parts = (
            _counted(record.chunks, "chunk"),
            _counted(record.frames, "frame"),
            _counted(record.body_bytes, "byte"),
            record.truncated and "a frame was too large to read",
        )
        yield "body", _join(*parts)
    turn = f"turn {record.turn}" if record.turn else None
    yield "ids", _join(f"row {row_id}", f"flow {record.flow_id}", turn, record.replay and "a replay")
    if record.response_id:
        yield "response", record.response_id
    if record.duplicate_of:
        yield "duplicate", f"row {record.duplicate_of} has counted this usage already: reports leave it out here"


def _counted(count: int | None, what: str) -> str | None:
    return None if count is None else f"{count:,} {what}{'' if count == 1 else 's'}"


def _join(*parts: str | int | bool | None) -> str:
    return " · ".join(str(part) for part in parts if part)


def _moment(when: float, zone: tzinfo) -> str:
    moment = datetime.fromtimestamp(when, zone)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d} {zone_name(zone)}"


def _took(record: Record) -> str | None:
    if record.duration is None:
        return None
    first = record.time_to_first_chunk
    return seconds(record.duration) + (f", first chunk after {seconds(first)}" if first is not None else "")


def _reasons(record: Record) -> str | None:
    reasons = [str(reason) for reason in record.finish_reasons or () if reason]
    return f"finish {', '.join(reasons)}" if reasons else None


def _model(record: Record) -> str:
    served = record.response_model
    asked = record.request_model or served or "not named"
    return _join(
        asked,
        f"served as {served}" if served and served != asked else None,
        record.service_tier and f"tier {record.service_tier}",
    )


def _request(record: Record) -> str:
    asked = {None: "did not say", True: "asked for it", False: "said no"}[record.client_include_usage]
    if record.injected:
        change = "usage asked for by us"
    elif record.inject_skipped:
        change = f"left as it was ({record.inject_skipped})"
    else:
        change = "left as it was"
    return _join(
        "streamed" if record.stream else "not streamed",
        f"{change}; the client {asked}" if record.stream else change,
        record.stripped and "usage frame withheld from the client",
        record.retried and "refused once, the original was sent again",
    )


def _money_and_tokens(record: Record) -> Iterator[tuple[str, str]]:
    usage = record.usage
    inside = _listed(
        (usage.cache_read_input_tokens, "from cache"),
        (usage.cache_write_input_tokens, "to cache"),
        (usage.cache_write_5m_input_tokens, "of it for 5 min"),
        (usage.cache_write_1h_input_tokens, "of it for 1 h"),
        (usage.audio_input_tokens, "audio"),
        (usage.image_input_tokens, "image"),
        (usage.tool_use_input_tokens, "for tools, beside it"),
    )
    yield "tokens in", tokens(usage.input_tokens) + inside
    inside = _listed(
        (usage.reasoning_output_tokens, "reasoning"),
        (usage.audio_output_tokens, "audio"),
        (usage.image_output_tokens, "image"),
    )
    yield "tokens out", tokens(usage.output_tokens, mark="≥" if record.usage_quality == "partial" else "") + inside
    guesses = _listed((record.estimated_input_tokens, "in"), (record.estimated_output_tokens, "out"))
    total = usage.total_tokens is not None and f"total {usage.total_tokens:,} by the provider"
    yield "counted", _join(record.usage_quality or "not yet", total, guesses and f"by us{guesses}")
    source = record.cost_source and SOURCES.get(record.cost_source, record.cost_source)
    amount = money(record.cost, record.currency) if record.status != "open" or record.cost is not None else "not yet"
    exact = record.cost is not None and f"exactly {record.cost:f}"
    yield "cost", _join(amount, exact, source, record.price_version)
    if record.price_note:
        yield "note", record.price_note


def _listed(*parts: tuple[int | None, str]) -> str:
    told = [f"{count:,} {what}" for count, what in parts if count]
    return f" ({', '.join(told)})" if told else ""
