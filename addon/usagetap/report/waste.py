"""`usagetap waste`: what was paid for and not used, and how well the providers' caches worked."""

from __future__ import annotations

import textwrap
from decimal import Decimal
from typing import Any

from usagetap.headline import digits_for, money, tokens
from usagetap.report.table import Column, Table, paint
from usagetap.store.aggregate import Totals
from usagetap.store.money import Costs, add, add_costs
from usagetap.store.queries import Waste

_COLUMNS = (
    Column("model", align="left"),
    Column("requests", "reqs", rank=5),
    Column("aborted", "abort", style="yellow"),
    Column("tokens", rank=6),
    Column("cost", style="yellow"),
    Column("errors", "err", style="red"),
    Column("tokens", rank=7),
    Column("cost", rank=4, style="red"),
    Column("repeated", "again", rank=1, style="yellow"),
    Column("tokens", rank=8),
    Column("cost", rank=2, style="yellow"),
    Column("cache hits", "hits", rank=3, style="green"),
)


def render(found: list[Waste], width: int, *, colour: bool) -> list[str]:
    """The waste by model as lines, the most expensive first."""
    title = paint("Paid for and not used", "bold", colour=colour)
    if not found:
        return [title, "", "Nothing was recorded in this time."]
    ordered = sorted(found, key=lambda each: -wasted(each))
    digits = _digits(ordered)
    table = Table(_COLUMNS, [_cells(each.model or "–", each, digits) for each in ordered])
    total = Waste(None, Totals(), Totals(), Totals())
    for each in found:
        _add(total, each)
    if len(found) > 1:
        table.totals = _cells("total", total, digits)
    lines, _ = table.without_empty().render(width, colour=colour)
    return [title, "", *lines, "", *(line for text in _sentences(total) for line in textwrap.wrap(text, width))]


def wasted(each: Waste) -> Decimal:
    """Dollars that bought nothing: aborted, failed, repeated; what was estimated counts as well."""
    parts = (each.aborted.cost, each.aborted.estimated_cost, each.errors.cost, each.errors.estimated_cost)
    return add(part.get("USD", Decimal(0)) for part in (*parts, each.repeated_cost))


def _add(total: Waste, each: Waste) -> None:
    total.total.add(each.total)
    total.aborted.add(each.aborted)
    total.errors.add(each.errors)
    total.repeated += each.repeated
    total.repeated_tokens += each.repeated_tokens
    add_costs(total.repeated_cost, each.repeated_cost)


def _digits(found: list[Waste]) -> int:
    """As many digits for all amounts as say something, so that they line up."""
    costs = [
        costs
        for each in found
        for costs in (each.aborted.cost, each.aborted.estimated_cost, each.errors.cost, each.repeated_cost)
    ]
    return digits_for([amount for each in costs for amount in each.values() if amount])


def _cells(name: str, each: Waste, digits: int) -> list[str]:
    # no provider of the model ever spoke of a cache: that is not a rate of zero
    rate = None if each.total.cache_read_input_tokens is None else each.cache_hit_rate
    return [
        name,
        f"{each.total.requests:,}",
        f"{each.aborted.requests:,}",
        _tokens(each.aborted),
        _costs(each.aborted, digits),
        f"{each.errors.requests:,}",
        _tokens(each.errors),
        _costs(each.errors, digits),
        f"{each.repeated:,}",
        tokens(each.repeated_tokens),
        _amounts(digits, each.repeated_cost),
        "–" if rate is None else f"{rate:.0%}",
    ]


def _tokens(part: Totals) -> str:
    told = (part.input_tokens or 0) + (part.output_tokens or 0)
    guessed = (part.estimated_input_tokens or 0) + (part.estimated_output_tokens or 0)
    if part.requests and not guessed and part.input_tokens is None and part.output_tokens is None:
        return "–"  # nobody said: that is not a zero
    return tokens(told + guessed, mark="~" if guessed else "")


def _costs(part: Totals, digits: int) -> str:
    shown = _amounts(digits, part.cost, part.estimated_cost)
    return f"~{shown}" if part.estimated_cost else shown


def _amounts(digits: int, *costs: Costs) -> str:
    sums: Costs = {}
    for each in costs:
        add_costs(sums, each)
    return (
        " + ".join(money(amount, currency, digits=digits) for currency, amount in sorted(sums.items()) if amount) or "–"
    )


def _sentences(total: Waste) -> list[str]:
    lines = []
    spent = total.total.cost.get("USD", Decimal(0)) + total.total.estimated_cost.get("USD", Decimal(0))
    lost = wasted(total)
    if spent:
        lines.append(f"{money(lost)} of {money(spent)} ({lost / spent:.1%}) bought nothing that was used.")
    if total.repeated:
        lines.append("Repeated: the same body to the same host, answered before on the same day (UTC).")
    unknown = total.aborted.missing + total.errors.missing + total.aborted.unpriced + total.errors.unpriced
    if unknown:
        lines.append(f"Of {unknown:,} of these nobody knows the cost: the true sum is larger.")
    return lines


def as_json(found: list[Waste]) -> list[dict[str, Any]]:
    """The same as plain data; money as decimal text by currency."""
    return [
        {
            "model": each.model,
            "requests": each.total.requests,
            "aborted": _part(each.aborted),
            "errors": _part(each.errors),
            "repeated": {
                "requests": each.repeated,
                "tokens": each.repeated_tokens,
                "cost": {currency: f"{amount:f}" for currency, amount in each.repeated_cost.items()},
            },
            "cache_hit_rate": each.cache_hit_rate,
        }
        for each in found
    ]


def _part(part: Totals) -> dict[str, Any]:
    return {
        "requests": part.requests,
        "input_tokens": part.input_tokens,
        "output_tokens": part.output_tokens,
        "estimated_input_tokens": part.estimated_input_tokens,
        "estimated_output_tokens": part.estimated_output_tokens,
        "cost": {currency: f"{amount:f}" for currency, amount in part.cost.items()},
        "estimated_cost": {currency: f"{amount:f}" for currency, amount in part.estimated_cost.items()},
    }
