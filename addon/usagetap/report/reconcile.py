"""`usagetap reconcile`: what a provider billed beside what passed the proxy, by UTC day and model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from peewee import Database

from usagetap.headline import money
from usagetap.report.invoices import Invoice, Sums, model_key
from usagetap.report.table import Column, Table, paint
from usagetap.store.aggregate import Totals, aggregate
from usagetap.store.money import add

_MEASURES = ("requests", "input_tokens", "output_tokens", "cost")
_HEADINGS = {"requests": "requests", "input_tokens": "input", "output_tokens": "output", "cost": "cost"}


@dataclass(frozen=True, slots=True)
class Pair:
    """One day and model: what the provider says, what we saw."""

    day: str
    model: str
    theirs: Sums
    ours: Sums

    @property
    def same(self) -> bool:
        """Whether what both say agrees (money to a thousandth of a cent), and nothing passed that was not billed."""
        if self.theirs == Sums():
            return not any(getattr(self.ours, name) for name in _MEASURES)
        for name in _MEASURES:
            left, right = getattr(self.theirs, name), getattr(self.ours, name)
            if left is not None and abs(left - (right or 0)) > (Decimal("0.00001") if name == "cost" else 0):
                return False
        return True


def compare(db: Database, invoice: Invoice, advance: Callable[[int], None] = lambda _: None) -> list[Pair]:
    """Every day and model that either side knows, within the days of the invoice; `advance` hears of every day."""
    ours: dict[tuple[str, str], Sums] = {}
    for day in invoice.days:
        for name, sums in _ours(db, invoice, day):
            ours.setdefault((day, name), Sums()).add(sums)
        advance(1)
    if all(not model for _, model in invoice.sums):
        ours = _by_day(ours)
    keys = sorted({*invoice.sums, *ours})
    return [Pair(*key, invoice.sums.get(key, Sums()), ours.get(key, Sums())) for key in keys]


def _ours(db: Database, invoice: Invoice, day: str) -> Iterator[tuple[str, Sums]]:
    """What passed the proxy on one UTC day, by the invoice's name of the model."""
    first = datetime.fromisoformat(day).replace(tzinfo=UTC)
    by = ("provider", "response_model", "model")
    for line in aggregate(db, by=by, timezone=UTC, since=first, until=first + timedelta(days=1)):
        provider, served, asked = (line.keys[name] or "" for name in by)
        if _is_of(provider, invoice.provider):
            name = model_key(served or asked)
            # a name that the invoice knows wins: some bill by what was asked for, some by what was served
            if (day, name) not in invoice.sums and (day, model_key(asked)) in invoice.sums:
                name = model_key(asked)
            yield name, _sums(line)


def _is_of(provider: str, wanted: str) -> bool:
    return provider == wanted or (wanted == "openrouter" and "openrouter" in provider)


def _sums(line: Totals) -> Sums:
    # a failed request is none that a provider bills
    finished = line.requests - line.errors - line.still_open
    cost = add(part.get("USD", Decimal(0)) for part in (line.cost, line.estimated_cost))
    return Sums(finished, line.input_tokens, line.output_tokens, cost if line.cost or line.estimated_cost else None)


def _by_day(sums: dict[tuple[str, str], Sums]) -> dict[tuple[str, str], Sums]:
    days: dict[tuple[str, str], Sums] = {}
    for (day, _), each in sums.items():
        days.setdefault((day, ""), Sums()).add(each)
    return days


def render(invoice: Invoice, pairs: list[Pair], width: int, *, colour: bool) -> list[str]:
    """The comparison as lines: what they say, and by how much ours differs."""
    told = [name for name in _MEASURES if any(getattr(sums, name) is not None for sums in invoice.sums.values())]
    columns = [Column("day (UTC)", "day", align="left", style="cyan"), Column("model", align="left")]
    for index, name in enumerate(told):
        # money is what is asked about first: it stays longest
        rank = len(told) - 1 - index
        columns += [Column(_HEADINGS[name], rank=rank), Column("ours", rank=rank, style="yellow")]
    table = Table(columns)
    nameless = "all" if all(not pair.model for pair in pairs) else "no model named"
    table.rows = [[pair.day, pair.model or nameless, *_cells(pair.theirs, pair.ours, told)] for pair in pairs]
    theirs, ours = _total(pair.theirs for pair in pairs), _total(pair.ours for pair in pairs)
    if len(pairs) > 1:
        table.totals = ["total", "", *_cells(theirs, ours, told)]
    lines, _ = table.render(width, colour=colour)
    title = f"{invoice.provider}'s bill beside what passed the proxy · {invoice.days[0]} – {invoice.days[-1]} · UTC"
    return [paint(title, "bold", colour=colour), "", *lines, "", *_verdict(invoice, pairs, theirs, ours)]


def _total(sums: Iterable[Sums]) -> Sums:
    total = Sums()
    for each in sums:
        total.add(each)
    return total


def _cells(theirs: Sums, ours: Sums, told: list[str]) -> list[str]:
    cells = []
    for name in told:
        show: Callable[[Any], str] = _dollars if name == "cost" else _number
        left, right = getattr(theirs, name), getattr(ours, name)
        cells += ["–" if left is None else show(left), _difference(left, right, show)]
    return cells


def _number(value: int) -> str:
    return f"{value:,}"


def _dollars(value: Decimal) -> str:
    return money(value, digits=4)


def _difference(theirs: Any, ours: Any, show: Callable[[Any], str]) -> str:
    if ours is None:
        return "none" if theirs else "="
    if theirs is None:
        return f"+{show(ours)}" if ours else "="
    gap = ours - theirs
    if not gap or (isinstance(gap, Decimal) and abs(gap) < Decimal("0.00005")):
        return "="
    return f"{'+' if gap > 0 else '−'}{show(abs(gap))}"


def _verdict(invoice: Invoice, pairs: list[Pair], theirs: Sums, ours: Sums) -> list[str]:
    differing = [pair for pair in pairs if not pair.same]
    lines = []
    if differing:
        lines.append(f"{len(differing)} of {len(pairs)} lines differ; `ours` says by how much.")
    else:
        lines.append("Both say the same.")
    if theirs.cost and ours.cost is not None:
        lines.append(f"We saw {ours.cost / theirs.cost:.1%} of the {_dollars(theirs.cost)} that was billed.")
    if invoice.note:
        lines.append(invoice.note)
    if invoice.partial:
        lines.append("The file is one page of several (`has_more`): fetch the rest for a whole comparison.")
    return lines


def as_json(invoice: Invoice, pairs: list[Pair]) -> dict[str, Any]:
    """The comparison as plain data; money as decimal text."""
    return {
        "provider": invoice.provider,
        "rows": [
            {"day": pair.day, "model": pair.model or None, "theirs": _plain(pair.theirs), "ours": _plain(pair.ours)}
            for pair in pairs
        ],
    }


def _plain(sums: Sums) -> dict[str, Any]:
    cost = None if sums.cost is None else f"{sums.cost:f}"
    return {name: getattr(sums, name) for name in _MEASURES[:3]} | {"cost": cost}
