"""`usagetap report`: totals by period and group, as a table for people and as JSON or CSV for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any

from usagetap.headline import SYMBOLS, clean, digits_for, money, tokens
from usagetap.report.periods import zone_name
from usagetap.report.table import Column, Table, bar, brief, paint
from usagetap.store.aggregate import COUNTS, TOKENS, Totals
from usagetap.store.periods import PeriodName

#: the verbs of `usagetap report` -> the store's period, and the heading of its column
VERBS: dict[str, tuple[PeriodName | None, str]] = {
    "daily": ("day", "day"),
    "weekly": ("week", "week"),
    "monthly": ("month", "month"),
    "total": (None, ""),
}
_BAR = 8
_LABEL = 11
_DOUBTS = ("unpriced", "missing", "estimated")
_NAMED_MODELS = 4
#: names of models, tags and hosts are not cut shorter than this while the numbers can give way
_LEGIBLE = 16


@dataclass(frozen=True, slots=True)
class Summary:
    """What a report says, before it is laid out."""

    verb: str
    by: tuple[str, ...]
    timezone: tzinfo
    since: datetime | None
    until: datetime | None
    lines: Sequence[Totals]
    unpriced: dict[str, int] = field(default_factory=dict)
    """Responses without a price, by model."""

    @property
    def total(self) -> Totals:
        """All lines as one."""
        total = Totals()
        for line in self.lines:
            total.add(line)
        return total

    @property
    def currencies(self) -> list[str]:
        """Every currency that occurs, dollars first."""
        found = {name for line in self.lines for name in (*line.cost, *line.estimated_cost)}
        return sorted(found, key=lambda name: (name != "USD", name))


def render(summary: Summary, width: int, *, colour: bool) -> list[str]:
    """The report as lines of at most `width` cells."""
    head = [paint(_title(summary), "bold", colour=colour), ""]
    if not summary.lines:
        return [*head, "Nothing was recorded in this time."]
    table = _table(summary, tokens)
    if table.shortest(width) < _LEGIBLE:
        table = _table(summary, brief)  # rather short numbers than names that nobody can tell apart
    lines, dropped = table.render(width, colour=colour)
    notes = [line for label, text in _coverage(summary, dropped) for line in _note(label, text, width, colour=colour)]
    return [*head, *lines, "", *notes]


def _title(summary: Summary) -> str:
    parts = ["Usage" + (f" by {', '.join(summary.by)}" if summary.by else "")]
    if summary.verb != "total":
        parts.append(summary.verb)
    if summary.since:
        parts.append(f"since {_moment(summary.since)}")
    if summary.until:
        parts.append(f"until {_last_day(summary.until)}")
    return " · ".join([*parts, zone_name(summary.timezone)])


def _moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d}" if not (when.hour or when.minute) else f"{when:%Y-%m-%d %H:%M}"


def _last_day(end: datetime) -> str:
    """The end as it was asked for: the last day that counts, where the end is its midnight."""
    return _moment(end if end.hour or end.minute else end - timedelta(days=1))


def _table(summary: Summary, count: Callable[[int], str]) -> Table:
    total = summary.total
    period = VERBS[summary.verb][1]
    amounts = [_Amounts(kind, currency, summary) for kind in _KINDS for currency in summary.currencies]
    amounts = [each for each in amounts if each.occurs] or [_Amounts("cost", "USD", summary)]
    table = Table(
        [
            *([Column(period, align="left", style="cyan", whole=True)] if period else []),
            *(Column(name, align="left") for name in summary.by),
            *_NUMBERS,
            *(each.column for each in amounts),
            *([Column("", align="left", rank=9, style="blue", whole=True)] if len(summary.lines) > 1 else []),
        ]
    )
    ordered = _ordered(summary, total)
    weights = [_weight(line, total) for line in ordered]
    largest = max(weights, default=Decimal(0))
    shown = ""
    for line, weight in zip(ordered, weights, strict=True):
        labels = [] if not period else ["" if line.period == shown else line.period or ""]
        shown = line.period or ""
        labels += [_label(name, line.keys.get(name)) for name in summary.by]
        bars = [bar(weight, largest, _BAR)] if len(summary.lines) > 1 else []
        table.rows.append([*labels, *_numbers(line, count), *(each.cell(line) for each in amounts), *bars])
    labels = ["total"] + [""] * (bool(period) + len(summary.by) - 1)
    if len(summary.lines) > 1 and (period or summary.by):
        table.totals = [*labels, *_numbers(total, count), *(each.cell(total) for each in amounts), ""]
    return table.without_empty()


def _label(name: str, value: str | None) -> str:
    """A group's name; a host without the port that goes without saying."""
    return (value or "–").removesuffix(":443") if name == "host" else value or "–"


def _ordered(summary: Summary, total: Totals) -> list[Totals]:
    """Periods in order; within one the dearest first."""
    return sorted(summary.lines, key=lambda line: (line.period or "", -_weight(line, total), -line.requests))


_NUMBERS = (
    Column("requests", "reqs"),
    Column("input", "in"),
    Column("cache read", "cached", rank=6),
    Column("cache write", "written", rank=7),
    Column("output", "out"),
    Column("reasoning", "reason", rank=8),
    Column("aborted", "abort", rank=2, style="yellow"),
    Column("errors", "err", rank=3, style="red"),
    Column("unpriced", "unpr", rank=4, style="yellow"),
)
_KINDS = ("cost", "estimated_cost")


class _Amounts:
    """A column of money: what was told or what was estimated, in one currency, with as many digits as say something."""

    def __init__(self, kind: str, currency: str, summary: Summary) -> None:
        self.kind, self.currency = kind, currency
        self.occurs = any(currency in getattr(line, kind) for line in summary.lines)
        amounts = [
            costs[currency] for line in summary.lines for costs in (line.cost, line.estimated_cost) if currency in costs
        ]
        self.digits = digits_for(amounts)

    @property
    def column(self) -> Column:
        """The main currency's cost stays whatever the width."""
        told = self.kind == "cost"
        long, short = ("cost", "cost") if told else ("estimated", "est.")
        unit = "" if self.currency in SYMBOLS else f" {clean(self.currency)}"
        dear = told and self.currency == "USD"
        return Column(long + unit, short + unit, rank=0 if dear else 1, style="green" if told else "dim")

    def cell(self, line: Totals) -> str:
        """The amount of a line; the currency stands in the heading where it has no sign."""
        amount = getattr(line, self.kind).get(self.currency)
        if amount is None:
            return "–"
        shown = money(amount, self.currency, digits=self.digits)
        mark = "" if self.kind == "cost" else "~"
        return mark + (shown if self.currency in SYMBOLS else shown.removesuffix(f" {clean(self.currency)}"))


def _numbers(line: Totals, count: Callable[[int], str]) -> list[str]:
    return [
        f"{line.requests:,}",
        *(
            "–" if told is None else count(told)
            for told in (
                line.input_tokens,
                line.cache_read_input_tokens,
                line.cache_write_input_tokens,
                line.output_tokens,
                line.reasoning_output_tokens,
            )
        ),
        f"{line.aborted:,}",
        f"{line.errors:,}",
        f"{line.unpriced:,}",
    ]


def _weight(line: Totals, total: Totals) -> Decimal:
    """What a line's bar shows: its cost (in the first currency there is), or its tokens where nothing is priced."""
    if total.cost:
        return line.cost.get(min(total.cost, key=lambda name: (name != "USD", name)), Decimal(0))
    return Decimal((line.input_tokens or 0) + (line.output_tokens or 0))


def _coverage(summary: Summary, dropped: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What the numbers do not cover: a word and a sentence each."""
    total = summary.total
    if total.unpriced:
        yield "unpriced", f"{_responses(total.unpriced)} not in the cost: {_named(summary.unpriced)}"
    if total.missing:
        yield "missing", f"{_responses(total.missing)} ended without usage: tokens and cost unknown"
    if total.estimated_cost or total.estimated_input_tokens or total.estimated_output_tokens:
        amounts = "".join(f", ~{money(cost, currency)}" for currency, cost in sorted(total.estimated_cost.items()))
        counted = f"~{total.estimated_input_tokens or 0:,} in, ~{total.estimated_output_tokens or 0:,} out{amounts}"
        yield "estimated", f"{counted}: counted by us where the provider's word never came, in no other column"
    if total.duplicates:
        yield "repeated", f"{_responses(total.duplicates)} fetched again, counted once"
    if total.still_open:
        yield "open", f"{_responses(total.still_open)} not yet ended"
    if not (total.unpriced or total.missing or total.estimated or total.still_open):
        yield "complete", "every response is counted and priced" if total.cost else "every response is counted"
    hidden = [heading for heading in dropped if heading]
    if hidden:
        yield "no room", f"for {', '.join(hidden)}: a wider terminal, --json or --csv have them"


def _responses(count: int) -> str:
    return f"{count:,} response{'' if count == 1 else 's'}"


def _named(models: dict[str, int]) -> str:
    """`llama3 (8), qwen3 (4), 2 more models`."""
    ordered = sorted(models.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{clean(model)} ({count:,})" for model, count in ordered[:_NAMED_MODELS]]
    rest = len(ordered) - _NAMED_MODELS
    return (
        ", ".join([*named, *([f"{rest} more model{'' if rest == 1 else 's'}"] if rest > 0 else [])]) or "no model named"
    )


def _note(label: str, text: str, width: int, *, colour: bool) -> list[str]:
    import textwrap

    folded = textwrap.wrap(text, max(width - _LABEL, 20), break_long_words=False, break_on_hyphens=False)
    head = paint(f"{label:<{_LABEL}}", "yellow" if label in _DOUBTS else "dim", colour=colour)
    return [head + folded[0], *(" " * _LABEL + line for line in folded[1:])]


def as_json(summary: Summary) -> dict[str, Any]:
    """The report as plain data; money as decimal text by currency."""
    return {
        "report": summary.verb,
        "by": list(summary.by),
        "timezone": str(summary.timezone),
        "since": summary.since.isoformat() if summary.since else None,
        "until": summary.until.isoformat() if summary.until else None,
        "rows": [_plain(summary, line) for line in summary.lines],
        "total": _plain(summary, summary.total, keys=False),
        "unpriced_models": summary.unpriced,
    }


def _plain(summary: Summary, line: Totals, *, keys: bool = True) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if keys and VERBS[summary.verb][1]:
        row[VERBS[summary.verb][1]] = line.period
    if keys:
        row |= {name: line.keys.get(name) for name in summary.by}
    row |= {name: getattr(line, name) for name in (*COUNTS, *TOKENS)}
    row["cost"] = {currency: f"{amount:f}" for currency, amount in line.cost.items()}
    row["estimated_cost"] = {currency: f"{amount:f}" for currency, amount in line.estimated_cost.items()}
    return row


def as_rows(summary: Summary) -> tuple[list[str], list[list[Any]]]:
    """The report as a heading and flat rows for CSV: a cost column for each currency."""
    currencies = summary.currencies or ["USD"]
    plain = [_plain(summary, line) for line in summary.lines]
    period = VERBS[summary.verb][1]
    names = [*([period] if period else []), *summary.by, *COUNTS, *TOKENS]
    heading = [*names, *(f"{kind}_{currency}" for kind in ("cost", "estimated_cost") for currency in currencies)]
    rows = [
        [*(row[name] for name in names), *(row[kind].get(c) for kind in ("cost", "estimated_cost") for c in currencies)]
        for row in plain
    ]
    return heading, rows
