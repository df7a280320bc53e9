"""What one response cost: the provider's own figure, else the user's price file, else the bundled table.

Unknown is unpriced: `cost` stays `None`, and `price_note` says why. Everything runs on the writer thread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import NamedTuple

from usagetap.model import Record, Usage
from usagetap.pricing import reported
from usagetap.pricing.bundled import find, installed
from usagetap.pricing.pricefile import Entry, PriceFile, PriceFileError, read_prices
from usagetap.pricing.rates import Bill, Counts, Rates, bill, split

__all__ = ["Price", "PriceFile", "PriceFileError", "apply", "installed", "price", "read_prices"]

#: hosts that are paid for by subscription: no response there has a price
SUBSCRIPTIONS = ("chatgpt.com", "cloudcode-pa.googleapis.com", "daily-cloudcode-pa.googleapis.com")
#: ends after which nothing was accepted unless the provider itself reported usage
FAILED = frozenset({"http_error", "upstream_error", "connect_failed"})


@dataclass(frozen=True, slots=True)
class Price:
    """What a price says of a row; the columns of the same names. `cost` is `None` where it is unpriced."""

    cost: Decimal | None
    currency: str | None = None
    cost_source: str | None = None
    price_version: str | None = None
    price_note: str | None = None


class _Table(NamedTuple):
    rates: Rates
    source: str
    version: str
    note: str | None


def price(record: Record, *, overrides: PriceFile | None = None) -> Price | None:
    """Price a finished record; `None` leaves its cost columns as they are.

    Left alone: rows whose cost the provider itself told (or that was resolved with it), and rows that have nothing to
    price (no usage and no estimate: a failed request costs nothing that anybody knows).
    """
    if record.cost_source in ("provider", "resolved"):
        return None
    if record.cost is not None and record.cost_source is None:
        return Price(record.cost, record.currency or "USD", "provider")
    usage, estimated = _billable(record)
    if usage is None:
        return None
    models = [name for name in dict.fromkeys((record.response_model, record.request_model)) if name]
    tier = reported.tier(record.service_tier, record.usage_raw)
    if tier in reported.BY_CAPACITY:
        return Price(None, price_note=f"tier {tier} is paid for by capacity, not by token")
    table = _table(record, models, overrides)
    if table is None:
        return Price(None, price_note=_why_unpriced(record, models))
    billed = _bill(record, usage, table, overrides)
    if billed.cost is None:
        return Price(None, price_note="; ".join(billed.notes) or None)
    notes = [note for note in (table.note, *billed.notes, *_doubts(record, estimated)) if note]
    return Price(
        # an hour's rate by the second has no end
        cost=round(billed.cost, 18).normalize(),
        currency=table.rates.currency,
        cost_source="estimated" if estimated else table.source,
        price_version=table.version,
        price_note="; ".join(dict.fromkeys(notes)) or None,
    )


def apply(record: Record, price: Price | None) -> None:
    """Write a price into its record's columns."""
    if price is not None:
        record.cost, record.currency = price.cost, price.currency
        record.cost_source, record.price_version = price.cost_source, price.price_version
        record.price_note = price.price_note


def _billable(record: Record) -> tuple[Usage | None, bool]:
    """What to price, and whether any of it is our estimate.

    The provider's numbers stand; an estimate fills in what it never said, or raises an output that was cut short.
    """
    usage = record.usage
    known = usage.input_tokens is not None or usage.output_tokens is not None or usage.tool_use_input_tokens is not None
    if record.end_reason in FAILED or record.usage_quality == "exact":
        return (usage if known or reported.audio_seconds(record.usage_raw) else None), False
    wanted = replace(usage)
    if wanted.input_tokens is None:
        wanted.input_tokens = record.estimated_input_tokens
    if (record.estimated_output_tokens or 0) > (wanted.output_tokens or 0):
        wanted.output_tokens = record.estimated_output_tokens
    estimated = wanted != usage
    return (wanted if known or estimated else None), estimated


def _table(record: Record, models: list[str], overrides: PriceFile | None) -> _Table | None:
    if overrides is not None:
        entry = overrides.find(_provider_names(record), models or [""], record.started_at)
        if entry is not None:
            return _from_entry(entry, record, models)
    host = _host(record)
    if any(host == each or host.endswith(f".{each}") for each in SUBSCRIPTIONS):
        return None
    return _bundled(record, record.provider, models)


def _from_entry(entry: Entry, record: Record, models: list[str]) -> _Table | None:
    if entry.rates is not None:
        return _Table(entry.rates, "override", entry.version, None)
    table = _bundled(record, entry.like, models)
    return table and table._replace(source="override", version=f"{entry.version} = {table.version}")


def _bundled(record: Record, provider: str | None, models: list[str]) -> _Table | None:
    tier = reported.tier(record.service_tier, record.usage_raw)
    context = []
    if tier not in reported.ORDINARY:
        context.append(("processing", "batch") if tier == "batch" else ("service_tier", tier))
    if reported.last(record.usage_raw, "speed") == "fast":
        context.append(("speed", "fast"))
    found = find(provider, f"https://{_host(record)}{record.path or ''}", models, record.started_at, context)
    if found is None:
        return None
    asked = " ".join(value for _, value in context)
    note = f"no rate for tier {asked} at that date: the ordinary rate" if found.tier_missing else None
    return _Table(found.rates, "price_table", found.version, note)


def _bill(record: Record, usage: Usage, table: _Table, overrides: PriceFile | None) -> Bill:
    """The bill of everything in the response: itself, and what Anthropic ran beside it on models of their own."""
    raw = record.usage_raw
    inner = reported.iterations(raw)
    calls = [each.usage for each in inner if each.kind == "message"]
    if len(calls) < 2 or sum(each.input_tokens or 0 for each in calls) != usage.input_tokens:
        calls = [usage]
    cached = reported.cached_modalities(raw)
    counts = [split(each, cached if each is usage else {}) for each in calls]
    counts[0].add("web_search", reported.web_searches(raw))
    _count_audio(counts[0], table.rates, reported.audio_seconds(raw))
    bills = [bill(each, table.rates) for each in counts]
    for each in inner:
        if each.kind in ("compaction", "advisor_message"):
            own = _table(record, [each.model], overrides) if each.model else table
            bills.append(bill(split(each.usage, {}), own.rates) if own else Bill(None, (f"{each.model} is unpriced",)))
    costs = [each.cost for each in bills if each.cost is not None]
    return Bill(sum(costs, Decimal(0)) if costs else None, tuple(note for each in bills for note in each.notes))


def _count_audio(counts: Counts, rates: Rates, seconds: Decimal) -> None:
    """Bill audio by the second where the rates do (Whisper, Voxtral): its tokens are then not billed as well."""
    if seconds and "audio_second" in rates.rate:
        counts.add("audio_second", seconds)
        if "audio_in" not in rates.rate:
            counts.of.pop("audio_in", None)


def _doubts(record: Record, estimated: bool) -> list[str]:
    doubts = []
    if record.status == "error" and record.end_reason != "no_usage":
        doubts.append("ended in an error: may not be billed")
    if record.usage_quality == "partial" and not estimated:
        doubts.append("cut short: a lower bound")
    if record.usage.input_tokens is None and record.estimated_input_tokens is None:
        doubts.append("no input count")
    if reported.last(record.usage_raw, "inference_geo") == "us":
        # https://platform.claude.com/docs/en/about-claude/pricing#data-residency-pricing
        doubts.append("the surcharge for US-only inference is not in it")
    if any(each.kind == "fallback_message" for each in reported.iterations(record.usage_raw)):
        doubts.append("a refused first try is not in it")
    return doubts


def _why_unpriced(record: Record, models: list[str]) -> str:
    if any(_host(record).endswith(each) for each in SUBSCRIPTIONS):
        return "paid for by subscription, not by token"
    if not installed():
        return "no price table: genai-prices is not installed"
    seller = record.provider or _host(record) or "an unknown provider"
    return f"no price for {models[0]} at {seller}" if models else f"no model name, no price ({seller})"


def _host(record: Record) -> str:
    return (record.server_address or "").rpartition(":")[0] or record.server_address or ""


def _provider_names(record: Record) -> list[str]:
    return [name for name in (record.provider, record.server_address, _host(record)) if name]
