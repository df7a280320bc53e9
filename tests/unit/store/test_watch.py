"""Who takes too long is noticed, again and again; who is done in time, or has nothing to do, is not."""

from __future__ import annotations

import threading

from usagetap.store.watch import Watch


def test_a_turn_that_takes_too_long_is_told_of_until_it_ends() -> None:
    told = threading.Semaphore(0)
    watch = Watch(0.01, told.release)  # type: ignore[arg-type]
    watch.start()
    watch.begin()
    assert told.acquire(timeout=10)
    assert told.acquire(timeout=10)
    watch.end()
    watch.begin()
    assert told.acquire(timeout=10)
    watch.stop()
    watch._thread.join(10)
    assert not watch._thread.is_alive()


def test_between_turns_nobody_is_late() -> None:
    told = threading.Event()
    watch = Watch(0.2, told.set)
    watch.start()
    for _ in range(1_000):  # each has its own time
        watch.begin()
        watch.end()
    assert not told.is_set()
    watch.stop()
    watch._thread.join(10)
    assert not told.is_set()
