"""Sums of money that are exact: to the last digit what adding up the rows' own decimal texts by hand gives.

PostgreSQL adds decimals itself. SQLite adds in binary; there the amounts of a group are strung together by its
GROUP_CONCAT, at the speed of its own sums, and the string is added up here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Context, Decimal, InvalidOperation, Overflow, localcontext
from typing import Final

from peewee import Database, SqliteDatabase

#: more digits than any sum of amounts that the store writes can have; Python's own context rounds to 28
_EXACT: Final = Context(prec=500, traps=[InvalidOperation, Overflow])
#: characters that are taken apart at a time: memory stays flat, and other threads get their turn
_SLICE: Final = 1 << 16
_NOTHING: Final = Decimal(0)
Costs = dict[str, Decimal]
"""Amounts by currency."""


def amounts_of(db: Database, amount: str) -> str:
    """SQL for a group's amounts as `to_decimal` adds them up, of an expression that is decimal text or NULL.

    NULL where it is NULL throughout.
    """
    if isinstance(db, SqliteDatabase):
        return f"GROUP_CONCAT({amount}, ' ')"
    return f"SUM(CAST({amount} AS NUMERIC))"


def to_decimal(amounts: str | Decimal) -> Decimal:
    """The sum of a group's amounts, without zeros at its end. What is no amount (another program's) is nothing."""
    total = amounts if isinstance(amounts, Decimal) else add(map(_sum_of, _slices(amounts)))
    return Decimal(format(total.normalize(_EXACT), "f"))


def add_up(amounts: str) -> str:
    """The same as text: what `amounts_of` gave becomes what it can be given."""
    return f"{to_decimal(amounts):f}"


def add(amounts: Iterable[Decimal]) -> Decimal:
    """Their sum, not rounded."""
    with localcontext(_EXACT):
        return sum(amounts, _NOTHING)


def add_costs(mine: Costs, theirs: Mapping[str, Decimal]) -> None:
    """Take the amounts of `theirs` into `mine`."""
    for currency, amount in theirs.items():
        mine[currency] = _EXACT.add(mine.get(currency, _NOTHING), amount)


def _slices(text: str) -> Iterator[list[str]]:
    start = 0
    while start < len(text):
        end = text.find(" ", start + _SLICE)
        end = len(text) if end < 0 else end
        yield text[start:end].split()
        start = end


def _sum_of(texts: list[str]) -> Decimal:
    try:
        total = sum(map(Decimal, texts), _NOTHING)
    except (InvalidOperation, Overflow):
        total = Decimal("NaN")
    return total if _means_something(total) else sum(filter(None, map(_amount, texts)), _NOTHING)


def _amount(text: str) -> Decimal | None:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return None
    return amount if _means_something(amount) else None


def _means_something(amount: Decimal) -> bool:
    return amount.is_finite() and abs(amount.adjusted()) < _EXACT.prec
