"""Who takes too long is noticed, again and again; who is done in time, or has nothing to do, is not."""

from __future__ import annotations

import threading

from usagetap.store.alarm import Alarm


def test_a_turn_that_takes_too_long_is_told_of_until_it_ends() -> None:
    told = threading.Semaphore(0)
    alarm = Alarm(0.01, told.release)  # type: ignore[arg-type]
    alarm.start()
    alarm.begin()
    assert told.acquire(timeout=10)
    assert told.acquire(timeout=10)
    alarm.end()
    alarm.begin()
    assert told.acquire(timeout=10)
    alarm.stop()
    alarm._thread.join(10)
    assert not alarm._thread.is_alive()


def test_between_turns_nobody_is_late() -> None:
    told = threading.Event()
    alarm = Alarm(0.2, told.set)
    alarm.start()
    for _ in range(1_000):  # each has its own time
        alarm.begin()
        alarm.end()
    assert not told.is_set()
    alarm.stop()
    alarm._thread.join(10)
    assert not told.is_set()
