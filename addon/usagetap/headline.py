"""One visual language for numbers and for a response in one line, shared by terminal, log, mitmweb and dashboard.

    1,234→56 · $0.0012 · gpt-5-mini

Pure: values in, text out. `?` is a number that nobody gave, `~` an estimate, `≥` a lower bound.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Context, Decimal

from usagetap.model import Record

SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£"}
#: `cost_source` in words
SOURCES = {
    "provider": "the provider's own figure",
    "price_table": "from the bundled price table",
    "override": "from your price file",
    "resolved": "asked of the provider afterwards",
    "estimated": "our estimate",
}
#: Python's own context refuses to round what has more than 28 digits: a provider may send anything
_ANY_SIZE = Context(prec=500)
#: C0 and C1 controls, and the marks that reorder text: what a terminal or a reader could be fooled with
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def clean(text: object) -> str:
    """`text` safe for a terminal: control and bidirectional characters, with which it could steer it, become `�`."""
    return _CONTROLS.sub("�", str(text))


def tokens(count: int | None, *, mark: str = "") -> str:
    """A token count: `1,234`, `?` where nobody gave one; `mark` (`~`, `≥`) stands before it."""
    return "?" if count is None else f"{mark}{count:,}"


def money(amount: Decimal | None, currency: str | None = "USD", *, digits: int | None = None) -> str:
    """An amount: `$12.34`, `$0.0012`, `12 sats`, `unpriced`.

    Without `digits` as many as say something: two behind the point from a unit up, else two that are not zero. With
    `digits` that many, and `<$0.01` where they would show zero for what is not.
    """
    if amount is None:
        return "unpriced"
    if digits is None:
        digits = 2 if amount >= 1 or not amount else min(max(1 - amount.adjusted(), 2), 12)
    step = Decimal(1).scaleb(-digits)
    shown = amount.quantize(step, ROUND_HALF_UP, _ANY_SIZE)
    if amount and not shown:
        return f"<{_with_currency(f'{step:f}', currency)}"
    return _with_currency(f"{shown:,f}", currency)


def digits_for(amounts: Iterable[Decimal]) -> int:
    """How many digits behind the point say something in a column of these amounts."""
    largest = max(amounts, default=Decimal(0))
    return 2 if largest >= 10 else 4 if largest >= Decimal("0.01") else 6


def percent(part: float | None) -> str:
    """A share: `12%`, `0.4%`, `–` where there is nothing to have a share in."""
    if part is None:
        return "–"
    return f"{part:.1%}" if 0 < part < 0.0995 else f"{part:.0%}"


def _with_currency(number: str, currency: str | None) -> str:
    symbol = SYMBOLS.get(currency or "USD")
    return f"{symbol}{number}" if symbol else f"{number} {clean(currency)}"


def seconds(duration: float | None) -> str:
    """A duration: `320 ms`, `4.2 s`, `3 min 07 s`, `?`."""
    if duration is None:
        return "?"
    if duration < 0.9995:
        return f"{duration * 1000:.0f} ms"
    if duration < 99.95:
        return f"{duration:.1f} s"
    minutes, rest = divmod(round(duration), 60)
    return f"{minutes} min {rest:02d} s"


def ending(status: str, end_reason: str | None) -> str:
    """How a response ended, in the table's own words: `ok`, `aborted: client_disconnected`."""
    return f"{status}: {clean(end_reason)}" if end_reason and status != "ok" else status


def headline(record: Record) -> str:
    """A response in one line: tokens in and out, cost, model, and how it ended where that was not well.

    What was counted and has no price is `unpriced`; what nothing is known of has no cost here at all.
    """
    usage = record.usage
    mark = "≥" if record.usage_quality == "partial" else ""
    parts = [
        f"{_either(usage.input_tokens, record.estimated_input_tokens)}"
        f"→{_either(usage.output_tokens, record.estimated_output_tokens, mark)}",
        cost(record),
        clean(record.response_model or record.request_model or "unknown model"),
        ending(record.status, record.end_reason) if record.status != "ok" else "",
    ]
    return " · ".join(filter(None, parts))


def cost(record: Record) -> str:
    """What it cost: `$0.0012`, `~$0.0012` (our estimate), `unpriced`; empty where nothing was counted."""
    if record.cost is not None:
        return ("~" if record.cost_source == "estimated" else "") + money(record.cost, record.currency)
    estimates = (record.estimated_input_tokens, record.estimated_output_tokens)
    return "unpriced" if record.usage.known or estimates != (None, None) else ""


def _either(told: int | None, estimated: int | None, mark: str = "") -> str:
    """The provider's number, or our estimate where there is none or it is larger (a count that was cut short)."""
    if estimated is not None and (told is None or (mark and estimated > told)):
        return tokens(estimated, mark="~")
    return tokens(told, mark=mark)
