"""Sums of money that are exact: to the last digit what adding up the rows' own decimal texts by hand gives.

PostgreSQL adds decimals itself. SQLite adds in binary; there the amounts of a group are strung together by its
GROUP_CONCAT, at the speed of its own sums, and the string is added up here: a call for each group, none for each row.
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


def exact_sum(db: Database, amounts: str) -> str:
    """SQL for the exact sum of an expression that is decimal text or NULL; NULL where it is NULL throughout."""
    if isinstance(db, SqliteDatabase):
        return f"EXACT_SUM(GROUP_CONCAT({amounts}, ' '))"
    return f"SUM(CAST({amounts} AS NUMERIC))"


def register(db: SqliteDatabase) -> None:
    """Teach a connection the function that `exact_sum` asks for."""
    db.register_function(_sum_of_text, "exact_sum", 1, deterministic=True)


def to_decimal(amount: str | Decimal) -> Decimal:
    """A sum of money as the database returns it, without zeros at its end."""
    return Decimal(format(Decimal(amount).normalize(_EXACT), "f"))


def add(amounts: Iterable[Decimal]) -> Decimal:
    """Their sum, not rounded."""
    with localcontext(_EXACT):
        return sum(amounts, _NOTHING)


def add_costs(mine: Costs, theirs: Mapping[str, Decimal]) -> None:
    """Take the amounts of `theirs` into `mine`."""
    for currency, amount in theirs.items():
        mine[currency] = _EXACT.add(mine.get(currency, _NOTHING), amount)


def _sum_of_text(text: str | None) -> str | None:
    """The sum of amounts with blanks between them. What is no amount (another program's) counts for nothing."""
    if text is None:
        return None
    if " " not in text:  # as most groups of an hour are
        return format(_amount(text) or _NOTHING, "f")
    with localcontext(_EXACT):
        return format(sum(map(_sum_of, _slices(text)), _NOTHING), "f")


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
    return total if total.is_finite() else sum(filter(None, map(_amount, texts)), _NOTHING)


def _amount(text: str) -> Decimal | None:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and abs(amount.adjusted()) < _EXACT.prec else None
