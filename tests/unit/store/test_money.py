from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peewee import Database

from usagetap.store.database import connect
from usagetap.store.money import add, add_costs, add_up, amounts_of, to_decimal


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = connect(tmp_path / "usage.db")
    db.execute_sql("CREATE TABLE paid (amount TEXT)")
    yield db
    db.close()


def summed(db: Database, *amounts: str | None) -> Decimal | None:
    db.execute_sql("DELETE FROM paid")
    for amount in amounts:
        db.execute_sql("INSERT INTO paid VALUES (?)", (amount,))
    (total,) = db.execute_sql(f"SELECT {amounts_of(db, 'amount')} FROM paid").fetchone()
    return None if total is None else to_decimal(total)


def test_nothing_known_is_no_sum(db: Database) -> None:
    assert summed(db) is None
    assert summed(db, None, None) is None
    assert summed(db, None, "0.00") == 0


def test_no_digit_is_rounded_away(db: Database) -> None:
    assert summed(db, "0.1", "0.2") == Decimal("0.3")
    assert summed(db, "9" * 30, "0." + "0" * 40 + "1") == Decimal("9" * 30 + "." + "0" * 40 + "1")


def test_what_another_program_wrote_is_read_as_a_number_or_not_at_all(db: Database) -> None:
    assert summed(db, "1E-7", "2.5e-06", "-1") == Decimal("-0.9999974")
    for nonsense in ("free", "NaN", "Infinity", "1E+999999999", "1E+999999", "", "0x1", "é"):
        assert summed(db, "0.1", nonsense, "0.2") == Decimal("0.3")


def test_a_great_many_are_added_up_in_parts(db: Database) -> None:
    db.execute_sql(
        "INSERT INTO paid WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 50000)"
        " SELECT '0.' || SUBSTR('000000' || i, -6) FROM n"
    )
    (total,) = db.execute_sql(f"SELECT {amounts_of(db, 'amount')} FROM paid").fetchone()
    assert to_decimal(total) == Decimal(50_000 * 50_001 // 2).scaleb(-6)


@given(st.lists(st.decimals(0, 10**20, places=20)))
def test_any_order_and_grouping_comes_to_the_same(amounts: list[Decimal]) -> None:
    half: dict[str, Decimal] = {}
    for amount in reversed(amounts):
        add_costs(half, {"USD": amount})
    assert Fraction(add(amounts)) == Fraction(half.get("USD", 0)) == sum(map(Fraction, amounts))


def test_a_sum_can_be_added_up_again() -> None:
    assert add_up("0.1 1E-30 free 0.2") == "0.3" + "0" * 28 + "1"
    assert add_up(f"{add_up('7 0.30')} {add_up('0.7')}") == "8"


def test_zeros_at_the_end_are_no_digits() -> None:
    assert str(to_decimal("0.500")) == "0.5"
    assert str(to_decimal("1200")) == "1200"
