"""A scene as words and numbers for the template: one language with report, log and mitmweb's comments.

Values of the table are foreign text: `clean` takes control characters out, the template escapes the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from usagetap.headline import clean, money, seconds, tokens
from usagetap.store.aggregate import Totals
from usagetap.store.dashboard_queries import Spread
from usagetap.store.queries import Waste

from .ask import Ask
from .board import Course, Glance, Scene

UNKNOWN = {"model": "no model named", "provider": "unknown", "tag": "untagged", "client": "unknown"}
SERIES = 7
"""Groups with a colour of their own; the rest is one, "other"."""
_NAMED = 5


def plural(count: int, word: str, words: str | None = None) -> str:
    """`1 response`, `1,234 responses`."""
    return f"{count:,} {word if count == 1 else words or word + 's'}"


def costs(amounts: dict[str, Decimal], mark: str = "", nothing: str = "–", digits: int | None = None) -> str:
    """Sums of money, dollars first: `$12.34 + 12 sats`; all with as many digits behind the point, if they are given."""
    ordered = sorted(amounts.items(), key=lambda item: (item[0] != "USD", item[0]))
    shown = (money(amount, currency, digits=digits) for currency, amount in ordered)
    return " + ".join(text if text.startswith("<") else mark + text for text in shown) or nothing


def digits_of(lines: Iterable[Totals]) -> int:
    """How many digits behind the point say something in a column of these sums."""
    largest = max((amount for line in lines for amount in line.cost.values()), default=Decimal(0))
    return 2 if largest >= 1 else 4 if largest >= Decimal("0.01") else 6


def percent(part: float | None) -> str:
    """A share: `12 %`, `0.4 %`, `–` where there is nothing to have a share in."""
    if part is None:
        return "–"
    return f"{part * 100:.1f} %" if 0 < part < 0.0995 else f"{part * 100:.0f} %"


def share(part: int, whole: int) -> float | None:
    """`part` of `whole`; `None` of nothing."""
    return part / whole if whole else None


def rate(value: float | None) -> str:
    """Tokens per second: `83 tok/s`."""
    return "–" if value is None else f"{value:,.1f} tok/s" if value < 10 else f"{value:,.0f} tok/s"


def name_of(by: str, value: str | None) -> str:
    """A group's name for people."""
    return clean(value) if value else UNKNOWN.get(by, "unknown")


@dataclass(frozen=True, slots=True)
class Card:
    """A time at a glance."""

    title: str
    cost: str
    estimated: str
    facts: list[tuple[str, str]]
    bars: list[tuple[float, float, float, str]]
    """x, height and width (in percent) and title of each bar of the cost's (or tokens') course."""


def card(glance: Glance, wait: Spread | None) -> Card:
    """A time at a glance, as text; `wait` is `None` while it is still being added up."""
    total = glance.total
    ended = total.requests - total.still_open
    return Card(
        title=glance.title,
        cost=costs(total.cost, nothing="unpriced" if total.unpriced else money(Decimal(0))),
        estimated=costs(total.estimated_cost, "~", ""),
        facts=[
            ("Requests", f"{total.requests:,}"),
            ("Aborted", percent(share(total.aborted, ended))),
            ("Tokens in", "–" if total.input_tokens is None else tokens(total.input_tokens)),
            ("Cache hits", percent(share(total.cache_read_input_tokens or 0, total.input_tokens or 0))),
            ("Tokens out", "–" if total.output_tokens is None else tokens(total.output_tokens)),
            ("Errors", percent(share(total.errors, ended))),
            ("First chunk", "…" if wait is None else first_chunk(wait)),
        ],
        bars=_bars(glance.course),
    )


def first_chunk(wait: Spread) -> str:
    """How long people waited: `320 ms · p90 2.1 s`."""
    return f"{seconds(wait.quantile(0.5))} · p90 {seconds(wait.quantile(0.9))}" if wait.total else "–"


def weight(line: Totals, currency: str | None) -> float:
    """What a bar of this line shows: its cost, or its tokens where nothing is priced."""
    if currency is not None:
        return float(line.cost.get(currency, 0))
    return float((line.input_tokens or 0) + (line.output_tokens or 0))


def currency_of(lines: Iterable[Totals]) -> str | None:
    """The currency that charts speak: dollars where there are any, else the first; `None` where nothing is priced."""
    found = {name for line in lines for name, amount in line.cost.items() if amount}
    return "USD" if "USD" in found else min(found, default=None)


def _bars(course: Sequence[Totals]) -> list[tuple[float, float, float, str]]:
    currency = currency_of(course)
    weights = [weight(line, currency) for line in course]
    largest, step = max(weights, default=0.0), 100 / max(len(course), 1)
    return [
        (
            round(number * step + step * 0.15, 3),
            round(max(value / largest * 100, 3), 2) if largest and value else 0,
            round(step * 0.7, 3),
            f"{period_label(line.period)}: {costs(line.cost)}, {plural(line.requests, 'response')}",
        )
        for number, (line, value) in enumerate(zip(course, weights, strict=True))
    ]


def period_label(name: str | None) -> str:
    """A period for people: `14:00`, `2026-11-20`, `2026-W47`."""
    return name[11:16] if name and "T" in name else name or ""


@dataclass(frozen=True, slots=True)
class Group:
    """A line of the table by model, provider, tag or client."""

    value: str | None
    name: str
    query: str
    colour: int
    total: Totals
    bar: float
    """Its share of the largest, in percent."""


def groups(ask: Ask, course: Course) -> list[Group]:
    """The groups of the range, the largest first; colours are 1 to `SERIES`, 0 for the rest."""
    by = ask.by
    sums: dict[str | None, Totals] = {}
    for line in course.lines:
        sums.setdefault(line.keys[by], Totals(keys=line.keys)).add(line)
    currency = currency_of(sums.values())
    ordered = sorted(sums.items(), key=lambda item: (-weight(item[1], currency), -item[1].requests, item[0] or ""))
    largest = max((weight(total, currency) for _, total in ordered), default=0.0)
    return [
        Group(
            value=value,
            name=name_of(by, value),
            query=ask.only(by, value).query(),
            colour=number + 1 if number < SERIES else 0,
            total=total,
            bar=round(weight(total, currency) / largest * 100, 2) if largest else 0,
        )
        for number, (value, total) in enumerate(ordered)
    ]


def charts(scene: Scene, found: Sequence[Group]) -> dict[str, Any]:
    """What the page's script draws: cost and tokens over time by group, and how speeds are spread by model."""
    drawn: dict[str, Any] = {"seconds": _boxes(scene.seconds or {}), "rates": _boxes(scene.rates or {})}
    if scene.course is not None:
        course, currency = scene.course, currency_of(scene.course.lines)
        drawn |= {
            "unit": course.unit,
            "periods": [period_start(course, name) for name in course.names],
            "currency": currency,
            "series": _series(course, scene.ask.by, found, currency),
        }
    return drawn


def period_start(course: Course, name: str) -> str:
    """A period as a date that the chart can lay out: weeks by their Monday, hours by the wall clock."""
    if course.unit == "week":
        return datetime.strptime(f"{name}-1", "%G-W%V-%u").date().isoformat()
    return name[:16] if course.unit == "hour" else name


def _series(course: Course, by: str, found: Sequence[Group], currency: str | None) -> list[dict[str, Any]]:
    place = {name: number for number, name in enumerate(course.names)}
    colours = {group.value: group.colour for group in found}
    series: dict[int, dict[str, Any]] = {}
    for group in found:
        name = group.name if group.colour else f"{len(found) - SERIES} more"
        nothing: list[float] = [0] * len(place)
        series.setdefault(
            group.colour, {"name": name, "colour": group.colour, "cost": nothing, "tokens": list(nothing)}
        )
    for line in course.lines:
        at = place.get(line.period or "")
        if at is None:
            continue  # the clock went on between two queries
        mine = series[colours[line.keys[by]]]
        mine["cost"][at] += float(line.cost.get(currency or "", 0))
        mine["tokens"][at] += (line.input_tokens or 0) + (line.output_tokens or 0)
    return sorted(series.values(), key=lambda each: each["colour"] or SERIES + 1)


def _boxes(spreads: dict[str | None, Spread]) -> list[dict[str, Any]]:
    largest = sorted(spreads.items(), key=lambda item: -item[1].total)[:12]
    return [
        {
            "name": name_of("model", model),
            "count": spread.total,
            "at": [spread.quantile(part) for part in (0.05, 0.25, 0.5, 0.75, 0.95)],
        }
        for model, spread in largest
    ]


@dataclass(frozen=True, slots=True)
class Speed:
    """A model's line of the table of speeds."""

    name: str
    query: str
    count: int
    seconds: tuple[str, str, str]
    rates: tuple[str, str, str]


def speeds(scene: Scene) -> list[Speed]:
    """How long each model's first chunk takes and how quick it is from then on: p50, p90, p99; the most asked first."""
    waits, paces = scene.seconds or {}, scene.rates or {}
    found = []
    for model in {**waits, **paces}:
        wait, pace = waits.get(model, Spread()), paces.get(model, Spread())
        found.append(
            Speed(
                name=name_of("model", model),
                query=scene.ask.only("model", model).query(),
                count=max(wait.total, pace.total),
                seconds=_three(lambda part, wait=wait: _seconds(wait.quantile(part))),
                # the slow end is what hurts: of the rates the ones that 90 and 99 in a hundred reach
                rates=_three(lambda part, pace=pace: rate(pace.quantile(round(1 - part, 2) if part > 0.5 else part))),
            )
        )
    return sorted(found, key=lambda speed: -speed.count)


def _three(told: Any) -> tuple[str, str, str]:
    return told(0.5), told(0.9), told(0.99)


def _seconds(value: float | None) -> str:
    return "–" if value is None else seconds(value)


@dataclass(frozen=True, slots=True)
class Wasted:
    """A model's line of the table of waste. Each kind: how many responses, their cost, their estimated cost."""

    name: str
    query: str
    kinds: tuple[tuple[str, str, str], ...]


def wasted(ask: Ask, waste: Sequence[Waste]) -> list[Wasted]:
    """What was paid for and not used by model: aborted, failed, had before. Models without waste are left out."""
    digits = digits_of(part for each in waste for part in (each.aborted, each.errors, Totals(cost=each.repeated_cost)))
    return [
        Wasted(
            name=name_of("model", each.model),
            query=ask.only("model", each.model).query(),
            kinds=tuple(
                (
                    f"{count:,}" if count else "–",
                    costs(cost, nothing="", digits=digits),
                    costs(estimated, "~", "", digits=digits),
                )
                for count, cost, estimated in (
                    (each.aborted.requests, each.aborted.cost, each.aborted.estimated_cost),
                    (each.errors.requests, each.errors.cost, each.errors.estimated_cost),
                    (each.repeated, each.repeated_cost, {}),
                )
            ),
        )
        for each in sorted(waste, key=lambda each: (-_lost(each), each.model or ""))
        if each.aborted.requests or each.errors.requests or each.repeated
    ]


def _lost(each: Waste) -> float:
    """What to sort by: the money, then the responses."""
    amounts = (each.aborted.cost, each.aborted.estimated_cost, each.errors.cost, each.repeated_cost)
    money_lost = sum(float(amount) for costs_of in amounts for amount in costs_of.values())
    return money_lost + (each.aborted.requests + each.errors.requests + each.repeated) / 1e9


def notices(models: Sequence[Totals]) -> list[str]:
    """What the numbers do not cover, a sentence each, from the totals by model."""
    total = Totals()
    for line in models:
        total.add(line)
    found = []
    if total.unpriced:
        unpriced = sorted(
            ((line.unpriced, name_of("model", line.keys["model"])) for line in models if line.unpriced), reverse=True
        )
        named = ", ".join(f"{model} ({count:,})" for count, model in unpriced[:_NAMED])
        more = f" and {plural(len(unpriced) - _NAMED, 'more model')}" if len(unpriced) > _NAMED else ""
        said = "has" if total.unpriced == 1 else "have"
        found.append(
            f"{plural(total.unpriced, 'response')} {said} no price and no share in the cost: {named}{more}."
            " Name prices of your own with usage_prices, then run usagetap reprice."
        )
    if total.missing:
        found.append(f"{plural(total.missing, 'response')} ended without usage: what they used is unknown, not zero.")
    return found
