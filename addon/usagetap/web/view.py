"""A scene as words and numbers for the template: one language with report, log and mitmweb's comments.

Values of the table are foreign text: `clean` takes control characters out, the template escapes the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from usagetap.headline import clean, digits_for, money, percent, seconds, tokens
from usagetap.store.aggregate import Totals
from usagetap.store.dashboard_queries import Spread
from usagetap.store.queries import Waste

from .ask import Ask
from .board import Course, Glance, Scene

UNKNOWN = {"model": "no model named", "provider": "unknown", "tag": "untagged", "client": "unknown"}
SERIES = 7
"""Groups with a colour of their own; the rest is one, "other"."""
HOURS = 24
_NAMED = 5


def plural(count: int, word: str, words: str | None = None) -> str:
    """`1 response`, `1,234 responses`."""
    return f"{count:,} {word if count == 1 else words or word + 's'}"


def costs(
    amounts: dict[str, Decimal], mark: str = "", nothing: str = "–", digits: Mapping[str, int] | None = None
) -> str:
    """Sums of money, dollars first: `$12.34 + 12 sats`; with so many digits behind the point, if they are given."""
    ordered = sorted(amounts.items(), key=lambda item: (item[0] != "USD", item[0]))
    shown = (money(amount, currency, digits=(digits or {}).get(currency)) for currency, amount in ordered)
    return " + ".join(text if text.startswith("<") else mark + text for text in shown) or nothing


def digits_of(lines: Iterable[Totals]) -> dict[str, int]:
    """By currency, how many digits behind the point say something in the columns of these sums."""
    amounts: dict[str, list[Decimal]] = {}
    for line in lines:
        for currency, amount in (*line.cost.items(), *line.estimated_cost.items()):
            amounts.setdefault(currency, []).append(amount)
    return {currency: digits_for(found) for currency, found in amounts.items()}


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
    nothing = "unpriced" if total.unpriced else "–" if total.requests else money(Decimal(0))
    return Card(
        title=glance.title,
        cost=costs(total.cost, nothing=nothing),
        estimated=costs(total.estimated_cost, "~", ""),
        facts=[
            ("Requests", f"{total.requests:,}"),
            ("Aborted", percent(share(total.aborted, ended))),
            ("Input", "–" if total.input_tokens is None else tokens(total.input_tokens)),
            ("Cache hits", percent(share(total.cache_read_input_tokens or 0, total.input_tokens or 0))),
            ("Output", "–" if total.output_tokens is None else tokens(total.output_tokens)),
            ("Errors", percent(share(total.errors, ended))),
            ("First chunk", "…" if wait is None else first_chunk(wait)),
        ],
        bars=_bars(glance.course, HOURS if len(glance.course) <= HOURS and _hourly(glance.course) else 0),
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


def _hourly(course: Sequence[Totals]) -> bool:
    return bool(course) and "T" in (course[0].period or "")


def _bars(course: Sequence[Totals], room: int = 0) -> list[tuple[float, float, float, str]]:
    """A bar for each; there is `room` for so many, for what is left of a day has to stay empty."""
    currency = currency_of(course)
    weights = [weight(line, currency) for line in course]
    largest, step = max(weights, default=0.0), 100 / max(len(course), room, 1)
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
            "room": max(len(course.names), HOURS if scene.ask.range == "today" else 0),
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
    """A model's line of the table of waste. Each kind: how many responses, their tokens, their cost."""

    name: str
    query: str
    requests: str
    kinds: tuple[tuple[str, str, str], ...]
    cache_hits: str


def wasted(ask: Ask, waste: Sequence[Waste]) -> list[Wasted]:
    """What was paid for and not used by model: aborted, failed, had before. Models without waste are left out."""
    return [
        Wasted(
            name=name_of("model", each.model),
            query=ask.only("model", each.model).query(),
            requests=f"{each.total.requests:,}",
            kinds=(
                _kind(each.aborted),
                _kind(each.errors),
                _kind(Totals(requests=each.repeated, input_tokens=each.repeated_tokens, cost=each.repeated_cost)),
            ),
            # no provider of the model ever spoke of a cache: that is not a rate of zero
            cache_hits=percent(None if each.total.cache_read_input_tokens is None else each.cache_hit_rate),
        )
        for each in sorted(waste, key=lambda each: (-_lost(each), each.model or ""))
        if each.aborted.requests or each.errors.requests or each.repeated
    ]


def _kind(part: Totals) -> tuple[str, str, str]:
    """What was told and what we estimated together: `~` where some of it is an estimate."""
    told = (part.input_tokens or 0) + (part.output_tokens or 0)
    guessed = (part.estimated_input_tokens or 0) + (part.estimated_output_tokens or 0)
    both = Totals(cost={name: amount for name, amount in part.cost.items() if amount})
    both.add(Totals(cost=part.estimated_cost))
    nobody_said = part.requests and part.input_tokens is None and part.output_tokens is None and not guessed
    return (
        f"{part.requests:,}",
        "–" if nobody_said else tokens(told + guessed, mark="~" if guessed else ""),
        costs(both.cost, "~" if part.estimated_cost else ""),
    )


def _lost(each: Waste) -> float:
    """What to sort by: the money, then the responses."""
    amounts = (each.aborted.cost, each.aborted.estimated_cost, each.errors.cost, each.repeated_cost)
    money_lost = sum(float(amount) for costs_of in amounts for amount in costs_of.values())
    return money_lost + (each.aborted.requests + each.errors.requests + each.repeated) / 1e9


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that the numbers do not cover: a word and a sentence, as `usagetap report` has them below its table."""

    label: str
    text: str
    models: tuple[tuple[str, str], ...] = ()
    """Whom it is about, and how often; after them comes `rest`."""
    rest: str = ""


def notices(models: Sequence[Totals]) -> list[Notice]:
    """What the numbers do not cover, from the totals by model."""
    total = Totals()
    for line in models:
        total.add(line)
    found = []
    if total.unpriced:
        lines = sorted(models, key=lambda line: (-line.unpriced, line.keys["model"] or ""))
        named = tuple((name_of("model", line.keys["model"]), f"{line.unpriced:,}") for line in lines if line.unpriced)
        more = f", {plural(len(named) - _NAMED, 'more model')}" if len(named) > _NAMED else ""
        advice = f"{more}. Name prices of your own with usage_prices, then run usagetap reprice."
        text = f"{plural(total.unpriced, 'response')} not in the cost:"
        found.append(Notice("Unpriced", text, named[:_NAMED], advice))
    if total.missing:
        text = f"{plural(total.missing, 'response')} ended without usage: tokens and cost unknown, not zero."
        found.append(Notice("Missing", text))
    if total.estimated_cost or total.estimated_input_tokens or total.estimated_output_tokens:
        told = (f"~{total.estimated_input_tokens or 0:,} in", f"~{total.estimated_output_tokens or 0:,} out")
        counted = ", ".join(filter(None, (*told, costs(total.estimated_cost, "~", ""))))
        text = f"{counted}: counted by us where the provider's word never came, in no other column."
        found.append(Notice("Estimated", text))
    return found
