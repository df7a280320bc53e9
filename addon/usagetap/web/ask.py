"""What the address of a page asks for: which time, grouped by what, filtered how. Text in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode

from usagetap.store.periods import PeriodName

#: range -> its name, how many days it has (today among them), how a chart of it is divided; "all" has what there is
RANGES: dict[str, tuple[str, int | None, PeriodName | None]] = {
    "today": ("Today", 1, "hour"),
    "7d": ("7 days", 7, "day"),
    "30d": ("30 days", 30, "day"),
    "90d": ("90 days", 90, "day"),
    "1y": ("Year", 365, "week"),
    "all": ("All", None, None),
}
GROUPS: dict[str, str] = {"model": "Model", "provider": "Provider", "tag": "Tag", "client": "Client"}
STATUSES = ("ok", "aborted", "error", "open")
FILTERS = (*GROUPS, "status", "key", "host", "agent")
USUAL_RANGE, USUAL_GROUP = "7d", "model"
_MOST_VALUES = 20
_LONGEST = 500


class AskError(ValueError):
    """The address asks for something that there is not; the text says what there is."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One view of the dashboard. `filters` hold `None` for "unknown" (an empty value in the address)."""

    range: str = USUAL_RANGE
    by: str = USUAL_GROUP
    filters: tuple[tuple[str, tuple[str | None, ...]], ...] = ()
    before: int | None = None
    """Rows older than the one with this id: the next page of the table."""

    @property
    def wanted(self) -> dict[str, Sequence[str | None]]:
        """The filters as the store takes them."""
        return dict(self.filters)

    def since(self, now: datetime) -> datetime | None:
        """The first moment of the range, by the calendar of `now`'s time zone; `None` for all there is."""
        days = RANGES[self.range][1]
        if days is None:
            return None
        return datetime.combine(now.date() - timedelta(days=days - 1), time(), now.tzinfo)

    def unit(self, first: datetime | None, now: datetime) -> PeriodName:
        """How a chart over the range is divided; `first` is the first row's moment, if there is a row."""
        unit = RANGES[self.range][2]
        if unit is not None:
            return unit
        days = (now - first).days if first else 0
        return "month" if days > 730 else "week" if days > 120 else "day" if days > 2 else "hour"

    def with_filter(self, name: str, value: str | None) -> Ask:
        """The same with `value` as one more that counts, from the first page."""
        values = dict(self.filters)
        values[name] = tuple(dict.fromkeys((*values.get(name, ()), value)))
        return replace(self, filters=tuple(values.items()), before=None)

    def only(self, name: str, value: str | None) -> Ask:
        """The same with `value` as the only one of its kind that counts."""
        return self.without(name).with_filter(name, value)

    def without(self, name: str, value: Any = ...) -> Ask:
        """The same without a filter, or without one of its values."""
        values = dict(self.filters)
        rest = () if value is ... else tuple(each for each in values.get(name, ()) if each != value)
        values.pop(name, None)
        if rest:
            values[name] = rest
        return replace(self, filters=tuple(values.items()), before=None)

    def query(self, **changes: Any) -> str:
        """The address's query, `?` included, with some fields changed; what is usual is left out."""
        wanted = replace(self, **changes)
        pairs = [
            *([("range", wanted.range)] if wanted.range != USUAL_RANGE else []),
            *([("by", wanted.by)] if wanted.by != USUAL_GROUP else []),
            *((name, value or "") for name, values in wanted.filters for value in values),
            *([("before", str(wanted.before))] if wanted.before is not None else []),
        ]
        return f"?{urlencode(pairs)}" if pairs else "?"


def parse(query: str) -> Ask:
    """What a query string asks for. Raises `AskError`; names that are not ours (`token`) are passed over."""
    try:
        given = parse_qs(query.removeprefix("?"), keep_blank_values=True, max_num_fields=100, errors="replace")
    except ValueError:
        raise AskError("The address has too many fields.") from None
    _resolve_addition(given)
    return Ask(
        range=_choice("range", given, RANGES, USUAL_RANGE),
        by=_choice("by", given, GROUPS, USUAL_GROUP),
        filters=tuple((name, _values(name, given[name])) for name in FILTERS if name in given),
        before=_row_id(given.get("before", [""])[-1]),
    )


def _resolve_addition(given: dict[str, list[str]]) -> None:
    """The filter form sends a name and a value apart: `filter=tag&value=x` is `tag=x`."""
    name, value = given.pop("filter", [""])[-1], given.pop("value", [""])[-1].strip()
    if name in FILTERS and value:
        given.setdefault(name, []).append(value)


def _choice(name: str, given: Mapping[str, list[str]], choices: Mapping[str, Any], usual: str) -> str:
    value = given.get(name, [usual])[-1]
    if value not in choices:
        raise AskError(f"There is no {name} of that name: choose from {', '.join(choices)}.")
    return value


def _values(name: str, given: list[str]) -> tuple[str | None, ...]:
    values = tuple(dict.fromkeys(value or None for value in given))
    if len(values) > _MOST_VALUES or any(value and len(value) > _LONGEST for value in values):
        raise AskError(f"Too much to filter by in {name}: at most {_MOST_VALUES} values of {_LONGEST} characters.")
    if name == "status" and (unknown := set(values) - set(STATUSES)):
        raise AskError(f"There is no status {', '.join(map(str, unknown))}: choose from {', '.join(STATUSES)}.")
    return values


def _row_id(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise AskError("`before` takes the id of a row.")
    return int(text)
