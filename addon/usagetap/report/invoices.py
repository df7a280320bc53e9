"""Providers' own usage exports, read into sums by UTC day and model.

Which file it is shows in its column or field names; the names are the providers' own:
OpenAI's usage and costs API (`num_model_requests`, `amount.value`) and dashboard CSV (`amount_value`, `cost_usd`),
Anthropic's Console CSV (`usage_date_utc`, `usage_input_tokens_no_cache`, `cost_usd`) and Admin API (`starting_at`,
amounts in cents), OpenRouter's activity CSV (`model_permaslug`, `cost_total`) and API (`usage`).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import orjson

Line = Mapping[str, Any]

_DAY = ("usage_date_utc", "date", "start_time_iso", "created_at", "starting_at", "start_time", "timestamp")
_MODEL = ("model_permaslug", "model_version", "model", "line_item")
_REQUESTS = ("num_model_requests", "requests")
_OUTPUT = ("output_tokens", "tokens_completion", "completion_tokens", "usage_output_tokens")
#: the whole input under one name; or its parts, which make the whole
_INPUT = ("input_tokens", "tokens_prompt", "prompt_tokens")
_INPUT_PARTS = (
    "usage_input_tokens_no_cache",
    "usage_input_tokens_cache_read",
    "usage_input_tokens_cache_write_5m",
    "usage_input_tokens_cache_write_1h",
    "uncached_input_tokens",
    "cache_read_input_tokens",
    "ephemeral_5m_input_tokens",
    "ephemeral_1h_input_tokens",
)
_COST = ("amount_value", "cost_usd", "cost_total", "usage", "cost")
_DATE_SUFFIX = re.compile(r"-(?:20\d{2}-\d{2}-\d{2}|20\d{6})(?=$|:)")


class InvoiceError(ValueError):
    """The file cannot be compared; the message says why and what is understood."""


@dataclass(slots=True)
class Sums:
    """What one side says of one day and model; `None` where it says nothing."""

    requests: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: Decimal | None = None

    def add(self, other: Sums) -> None:
        """Take `other` in."""
        for name in ("requests", "input_tokens", "output_tokens", "cost"):
            value = getattr(other, name)
            if value is not None:
                setattr(self, name, value + (getattr(self, name) or 0))


@dataclass(slots=True)
class Invoice:
    """A provider's export: who it is of, and its sums by day and model (`""` where it names no model)."""

    provider: str
    sums: dict[tuple[str, str], Sums] = field(default_factory=dict)
    partial: bool = False
    """It says itself that more pages follow."""
    note: str = ""
    """What such a file leaves out, as its provider says."""

    @property
    def days(self) -> list[str]:
        """Every day it is about, in order."""
        return sorted({day for day, _ in self.sums})


def model_key(name: str) -> str:
    """A model's name as both sides can be expected to write it: no provider, no date, no display spelling."""
    name = name.strip().lower().rpartition("/")[2]
    name = _DATE_SUFFIX.sub("", name)
    return re.sub(r"[^a-z0-9:]+", "-", name).strip("-")


def read_invoice(path: Path) -> Invoice:
    """Read an export; `InvoiceError` says in one sentence what is wrong."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvoiceError(f"cannot read {path}: {error.strerror}") from error
    text = content.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] in (b"{", b"["):
        try:
            document = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise InvoiceError(f"{path} is not JSON: {error}") from error
        lines, partial = list(_json_lines(document)), _has_more(document)
    else:
        try:
            lines, partial = list(csv.DictReader(io.StringIO(text.decode("utf-8", "replace"), newline=""))), False
        except csv.Error as error:
            raise InvoiceError(f"{path} is neither JSON nor CSV: {error}") from error
    return _sum(path, lines, partial)


def _has_more(document: Any) -> bool:
    pages = document if isinstance(document, list) else [document]
    return bool(pages) and isinstance(pages[-1], dict) and pages[-1].get("has_more") is True


def _json_lines(document: Any) -> Iterator[dict[str, Any]]:
    """The results of a page (or list of pages) of any of the APIs, each with the time of its bucket."""
    for page in document if isinstance(document, list) else [document]:
        buckets = page.get("data") if isinstance(page, dict) else None
        for bucket in buckets if isinstance(buckets, list) else [page]:
            if not isinstance(bucket, dict):
                continue
            results = bucket.get("results", bucket.get("result"))
            times = {name: bucket[name] for name in ("start_time", "starting_at") if name in bucket}
            for result in results if isinstance(results, list) else [bucket]:
                if isinstance(result, dict):
                    yield _flat({**times, **result})


def _flat(result: dict[str, Any]) -> dict[str, Any]:
    amount = result.get("amount")
    if isinstance(amount, dict):  # OpenAI
        result["amount_value"] = amount.get("value")
    elif amount is not None:  # Anthropic: decimal text in cents
        number = _number(amount)
        result["amount_value"] = None if number is None else number / 100
    creation = result.get("cache_creation")
    return {**result, **(creation if isinstance(creation, dict) else {})}


def _sum(path: Path, lines: Sequence[Line], partial: bool) -> Invoice:
    names = {name for line in lines for name in line if name}
    provider = _provider(names)
    if not lines or provider is None or not names & set(_DAY):
        raise InvoiceError(
            f"{path} is no usage export that is known here: give OpenAI's usage or costs (JSON or CSV), Anthropic's "
            "usage or cost report (JSON or CSV), or OpenRouter's activity (CSV or JSON)"
        )
    # https://platform.claude.com/docs/en/manage-claude/usage-cost-api
    tier = provider == "anthropic" and "amount_value" in names
    invoice = Invoice(
        provider, partial=partial, note="Anthropic's cost report leaves out Priority Tier." if tier else ""
    )
    for number, line in enumerate(lines, 2):
        day = _day(_first(line, _DAY))
        if day is None:
            raise InvoiceError(f"{path}: entry {number} has no date in any of {', '.join(sorted(names & set(_DAY)))}")
        model = str(_first(line, _MODEL) or "").partition(", ")[0]
        invoice.sums.setdefault((day, model_key(model)), Sums()).add(_sums(line, provider))
    return invoice


def _provider(names: set[str]) -> str | None:
    if names & {"model_permaslug", "generation_id", "byok_usage_inference"}:
        return "openrouter"
    if names & {
        "usage_input_tokens_no_cache",
        "uncached_input_tokens",
        "starting_at",
        "context_window",
        "list_price_usd",
    }:
        return "anthropic"
    return "openai" if names & {*_REQUESTS, "amount_value", "cost_usd"} else None


def _sums(line: Line, provider: str) -> Sums:
    parts = [_count(line.get(name)) for name in _INPUT_PARTS]
    told = [part for part in parts if part is not None]
    whole = _count(_first(line, _INPUT))
    requests = _count(_first(line, _REQUESTS))
    return Sums(
        requests=1 if requests is None and provider == "openrouter" and "generation_id" in line else requests,
        input_tokens=sum(told) if told else whole,
        output_tokens=_count(_first(line, _OUTPUT)),
        cost=_cost(line),
    )


def _cost(line: Line) -> Decimal | None:
    """What was spent. OpenRouter tells apart what the user's own provider key paid (`byok_usage_inference`).

    https://openrouter.ai/docs/client-sdks/python/components/activityitem
    """
    cost, own_key = _number(_first(line, _COST)), _number(line.get("byok_usage_inference"))
    return cost if cost is None or own_key is None else cost + own_key


def _first(line: Line, names: Sequence[str]) -> Any:
    return next((line[name] for name in names if line.get(name) not in (None, "")), None)


def _number(value: Any) -> Decimal | None:
    if value is None or isinstance(value, bool | dict | list):
        return None
    try:
        number = Decimal(str(value).strip().lstrip("$").replace(",", ""))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _count(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _day(value: Any) -> str | None:
    """The UTC day of a date, an ISO time or seconds since the epoch."""
    number = _number(value)
    try:
        if number is not None and number > 10**8:
            return f"{datetime.fromtimestamp(float(number), UTC):%Y-%m-%d}"
        moment = datetime.fromisoformat(str(value).strip())
    except (ValueError, OverflowError, OSError):
        return None
    return f"{moment.astimezone(UTC) if moment.tzinfo else moment:%Y-%m-%d}"
