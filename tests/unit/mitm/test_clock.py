"""A clock that is set back is told of, once; one that is set ahead, or steered, is not."""

from __future__ import annotations

import logging
import time

import pytest

from usagetap.mitm.clock import Clock


def test_a_clock_that_is_set_back_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    true = time.time
    clock = Clock()
    with caplog.at_level(logging.INFO):
        for ahead, told in ((0, 0), (-0.5, 0), (3600, 0), (0, 1), (0, 1), (-60, 2)):
            monkeypatch.setattr(time, "time", lambda ahead=ahead: true() + ahead)
            clock.look()
            assert len(caplog.records) == told
    assert "3600 s" in caplog.messages[0]
