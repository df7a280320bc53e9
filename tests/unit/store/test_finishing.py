"""Prices in time where that is quick, late where it is not, and never in the way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from decimal import Decimal

import pytest

from usagetap.model import Record
from usagetap.store.finishing import Finish, Finisher


def records(count: int) -> list[tuple[Record, Finish | None]]:
    return [(Record(uid=f"r{number}", flow_id="f", started_at=1.0), None) for number in range(count)]


def price(record: Record, own: Finish | None) -> None:
    record.cost = Decimal(1)
    if own is not None:
        own(record)


@pytest.fixture
def finisher() -> Callable[..., Finisher]:
    def make(
        finish: Callable[[Record, Finish | None], None] = price, wake: Callable[[], None] = lambda: None
    ) -> Finisher:
        made = Finisher(finish, wake)
        made.start()
        return made

    return make


def test_what_is_quick_is_there_at_once_and_the_given_records_stay_as_they_are(
    finisher: Callable[..., Finisher],
) -> None:
    given = records(3)
    quick = finisher()
    found = quick.finish(given, patience=10)
    assert [(record.uid, record.cost) for record in found] == [("r0", 1), ("r1", 1), ("r2", 1)]
    assert [record.cost for record, _ in given] == [None] * 3
    assert (quick.behind, quick.late, quick.finish([], 10)) == (0, False, [])
    quick.stop()


def test_each_record_has_its_own_finish_too(finisher: Callable[..., Finisher]) -> None:
    one = finisher()
    (found,) = one.finish([(records(1)[0][0], lambda record: setattr(record, "tag", "own"))], patience=None)
    assert (found.tag, found.cost) == ("own", 1)
    one.stop()


def test_what_is_slow_comes_late_and_once(finisher: Callable[..., Finisher]) -> None:
    gate, woken = threading.Event(), threading.Event()

    def slow(record: Record, own: Finish | None) -> None:
        if record.uid != "r0":
            gate.wait(20)
        price(record, own)

    one = finisher(slow, woken.set)
    early = one.finish(records(3), patience=0.2)
    assert len(early) <= 1
    assert one.behind == 3 - len(early)
    gate.set()
    assert woken.wait(10)
    late = one.take(100)
    assert sorted(record.uid for record in (*early, *late)) == ["r0", "r1", "r2"]
    assert (one.behind, one.late) == (0, False)
    one.put_back(late)
    assert [record.uid for record in one.take(1)] == [late[0].uid]
    one.stop()


def test_stopping_finishes_what_is_left(finisher: Callable[..., Finisher]) -> None:
    gate = threading.Event()
    one = finisher(lambda record, own: (gate.wait(20), price(record, own)))
    assert one.finish(records(5), patience=0) == []
    gate.set()
    one.stop()
    assert len(one.take(100)) == 5
