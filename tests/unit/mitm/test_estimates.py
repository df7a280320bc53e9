"""What passed of a stream, for an estimate: the same count however long it was, in memory that hardly grows."""

from __future__ import annotations

import pytest

from usagetap.mitm import estimates
from usagetap.mitm.estimates import Passed

pytest.importorskip("bpe_openai", reason="needs the extra `estimate`")

FRAME = b'data: {"id":"c","model":"gpt-4o","choices":[{"index":0,"delta":{"content":" word %d"}}]}\n\n'
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}


def counted(*texts: bytes) -> int | None:
    passed = Passed("gpt-4o", "openai_chat", BODY)
    for text in texts:
        passed.watch(text)
    return passed.output()


@pytest.mark.parametrize("cut", [1, 100, 5_000, 1 << 20])
def test_a_long_stream_counts_like_a_short_one(cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = b"".join(FRAME % number for number in range(500))
    whole = counted(stream)
    assert whole is not None
    assert whole > 1_000
    monkeypatch.setattr(estimates, "GATHERED", 2_000)
    monkeypatch.setattr(estimates, "_PIECE", 777)
    assert counted(*(stream[at : at + cut] for at in range(0, len(stream), cut))) == whole


def test_beyond_the_bound_nothing_is_kept_and_nothing_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "COUNTED", 2_000)
    frames = [FRAME % number for number in range(100)]
    assert counted(*frames) is None
    assert counted(*frames[:10]) is not None


def test_what_nobody_sent_is_not_counted() -> None:
    assert counted() is None


def test_ten_times_the_stream_is_nowhere_near_ten_times_the_memory() -> None:
    passed = Passed("gpt-4o", "openai_chat", BODY)
    for number in range(100_000):
        passed.watch(FRAME % number)
    kept = sum(map(len, [*passed._plain, *passed._packed]))
    assert passed._total > 8 * estimates.GATHERED
    assert kept < 1.5 * estimates.GATHERED
