"""What one response cost: the provider's own figure, else the user's price file, else the bundled table.

Unknown is unpriced: `cost` stays `None`, and `price_note` says why. Everything runs on the writer thread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Context, Decimal
from typing import NamedTuple

from usagetap.model import Record, Usage
from usagetap.pricing.bundled import find, installed
from usagetap.pricing.pricefile import PriceFile, PriceFileError, read_prices
from usagetap.pricing.rates import Bill, Counts, Rates, bill, split
from usagetap.pricing.reported import BY_CAPACITY, ORDINARY, Iteration, Reported

__all__ = ["Price", "PriceFile", "PriceFileError", "apply", "installed", "price", "read_prices"]

#: ends of host names that are paid for by subscription: no response there has a price
SUBSCRIPTIONS = ("chatgpt.com", "cloudcode-pa.googleapis.com", "cloudcode-pa.sandbox.googleapis.com")
#: ends after which nothing was accepted unless the provider itself reported usage
FAILED = frozenset({"http_error", "upstream_error", "connect_failed"})
#: Python's own context refuses to round what has more than 28 digits: a price in a tiny unit may have more
_WIDE, _LAST_DIGIT = Context(prec=100), Decimal("1e-18")
#: Anthropic's iterations that are not in the top level of its usage
BESIDE = frozenset({"compaction", "advisor_message"})


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
    row = _Row(record, Reported(record.usage_raw), overrides)
    if record.cost_source == "resolved":
        return None
    if record.cost is not None and record.cost_source in (None, "provider") and not row.figure_is_empty():
        return None if record.cost_source else Price(record.cost, record.currency or "USD", "provider")
    usage, estimated = row.billable()
    if usage is None:
        return None
    if row.tier in BY_CAPACITY:
        return Price(None, price_note=f"tier {row.tier} is paid for by capacity, not by token")
    table = row.table(row.models)
    if table is None:
        return Price(None, price_note=row.why_unpriced())
    billed = row.bill(usage, table)
    if billed.cost is None:
        return Price(None, price_note="; ".join(billed.notes) or None)
    notes = [note for note in (table.note, *billed.notes, *row.doubts(estimated=estimated)) if note]
    return Price(
        # an hour's rate by the second has no end
        cost=_WIDE.quantize(billed.cost, _LAST_DIGIT).normalize(_WIDE),
        currency=table.rates.currency,
        # what failed may never be billed: nothing that we work out for it is a cost like others
        cost_source="estimated" if estimated or row.failed else table.source,
        price_version=table.version,
        price_note="; ".join(dict.fromkeys(notes)) or None,
    )


def apply(record: Record, price: Price | None) -> None:
    """Write a price into its record's columns."""
    if price is not None:
        record.cost, record.currency = price.cost, price.currency
        record.cost_source, record.price_version = price.cost_source, price.price_version
        record.price_note = price.price_note


class _Row:
    """One record being priced, with what its provider said beyond the columns."""

    def __init__(self, record: Record, told: Reported, overrides: PriceFile | None) -> None:
        self.record, self.told, self.overrides = record, told, overrides
        names = (record.response_model, record.request_model)
        if record.provider == "aws.bedrock":
            names = names[::-1]  # the request's id says where it runs, `global.` being cheaper; the answer's does not
        self.models = [name for name in dict.fromkeys(names) if name]
        self.tier = told.tier(record.service_tier)

    @property
    def failed(self) -> bool:
        """Whether it ended in an error, so that nobody knows whether the provider took it for accepted."""
        return self.record.status == "error" and self.record.end_reason != "no_usage"

    def figure_is_empty(self) -> bool:
        """Whether the provider's zero says nothing: Azure's Grok carries xAI's field, always 0, and bills itself."""
        foreign = self.record.provider != "x_ai" and self.told.last("cost_in_usd_ticks") is not None
        return foreign and self.record.cost == 0

    def billable(self) -> tuple[Usage | None, bool]:
        """What to price, and whether any of it is our estimate.

        The provider's numbers stand; an estimate fills in what it never said, or raises an output that was cut short.
        """
        record, usage = self.record, self.record.usage
        tokens = (usage.input_tokens, usage.output_tokens, usage.tool_use_input_tokens)
        known = any(count is not None for count in tokens) or bool(self.told.audio_seconds)
        if record.end_reason in FAILED or record.usage_quality == "exact":
            return (self.told.billed(usage) if known else None), False
        wanted = replace(usage)
        if wanted.input_tokens is None:
            wanted.input_tokens = record.estimated_input_tokens
        if (record.estimated_output_tokens or 0) > (wanted.output_tokens or 0):
            wanted.output_tokens = record.estimated_output_tokens
        estimated = wanted != usage
        return (wanted if known or estimated else None), estimated

    def table(self, models: list[str]) -> _Table | None:
        """The rates for the first of `models` that anybody knows: the user's file, else the bundled table."""
        record = self.record
        if self.overrides is not None:
            names = [name for name in (record.provider, record.server_address, _host(record)) if name]
            entry = self.overrides.find(names, models or [""], record.started_at)
            if entry is not None and entry.rates is not None:
                return _Table(entry.rates, "override", entry.version, None)
            if entry is not None:
                table = self._bundled(entry.like, models)
                return table and table._replace(source="override", version=f"{entry.version} = {table.version}")
        return None if _by_subscription(record) else self._bundled(record.provider, models)

    def _bundled(self, provider: str | None, models: list[str]) -> _Table | None:
        context = []
        if self.tier not in ORDINARY:
            context.append(("processing", "batch") if self.tier == "batch" else ("service_tier", self.tier))
        if self.told.last("speed") == "fast":
            context.append(("speed", "fast"))
        url = f"https://{_host(self.record)}{self.record.path or ''}"
        found = find(provider, url, models, self.record.started_at, context)
        if found is None:
            return None
        asked = " ".join(value for _, value in context)
        note = f"no rate for tier {asked} at that date: the ordinary rate" if found.tier_missing else None
        return _Table(found.rates, "price_table", found.version, note)

    def bill(self, usage: Usage, table: _Table) -> Bill:
        """The bill of everything in the response: itself, and what Anthropic ran beside it on models of its own."""
        inner = self.told.iterations
        calls = [each.usage for each in inner if each.kind == "message"]
        if len(calls) < 2 or sum(each.input_tokens or 0 for each in calls) != usage.input_tokens:
            calls = [usage]
        cached = self.told.cached_modalities
        counts = [split(each, cached if each is usage else {}) for each in calls]
        counts[0].add("web_search", self.told.web_searches)
        _count_audio(counts[0], table.rates, self.told.audio_seconds)
        bills = [bill(each, table.rates) for each in counts]
        bills += [self._beside(each, table) for each in inner if each.kind in BESIDE]
        costs = [each.cost for each in bills if each.cost is not None]
        return Bill(sum(costs, Decimal(0)) if costs else None, tuple(note for each in bills for note in each.notes))

    def _beside(self, each: Iteration, table: _Table) -> Bill:
        own = self.table([each.model]) if each.model else table
        if own is None or own.rates.currency != table.rates.currency:
            return Bill(None, (f"what {each.model} did is not in it",))
        return bill(split(each.usage, {}), own.rates)

    def doubts(self, *, estimated: bool) -> list[str]:
        """Why the price may not be what is billed."""
        record, doubts = self.record, []
        if self.failed:
            doubts.append("ended in an error: may not be billed")
        if record.usage_quality == "partial" and not estimated:
            doubts.append("cut short: a lower bound")
        if record.usage.input_tokens is None and record.estimated_input_tokens is None:
            doubts.append("no input count")
        if self.told.last("inference_geo") == "us":
            # https://platform.claude.com/docs/en/about-claude/pricing#data-residency-pricing
            doubts.append("the surcharge for US-only inference is not in it")
        if any(each.kind == "fallback_message" for each in self.told.iterations):
            doubts.append("a refused first try is not in it")
        return doubts

    def why_unpriced(self) -> str:
        """Why there is no price, for the row's note."""
        if _by_subscription(self.record):
            return "paid for by subscription, not by token"
        if not installed():
            return "no price table: genai-prices is not installed"
        seller = self.record.provider or _host(self.record) or "an unknown provider"
        return f"no price for {self.models[0]} at {seller}" if self.models else f"no model name, no price ({seller})"


def _count_audio(counts: Counts, rates: Rates, seconds: Decimal) -> None:
    """Bill audio by the second where the rates do (Whisper, Voxtral): its tokens are then not billed as well."""
    if seconds and "audio_second" in rates.rate:
        counts.add("audio_second", seconds)
        if "audio_in" not in rates.rate:
            counts.of.pop("audio_in", None)


def _by_subscription(record: Record) -> bool:
    host = _host(record)
    return any(host == each or host.endswith((f".{each}", f"-{each}")) for each in SUBSCRIPTIONS)


def _host(record: Record) -> str:
    return (record.server_address or "").rpartition(":")[0] or record.server_address or ""
