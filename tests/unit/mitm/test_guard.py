"""A failure of ours is told once per flow, in one line, without what the exception says."""

from __future__ import annotations

import logging

import pytest
from mitmproxy.test import tflow

from usagetap.mitm.guard import fail_open, report


def buggy(quoted: str) -> None:
    raise ValueError(f"invalid literal: {quoted!r}\x1b[31m\nTraceback")


class Hooks:
    @fail_open
    def request(self, flow: object) -> str:
        buggy("a prompt")
        return "never"


def test_a_hook_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    assert Hooks().request(tflow.tflow()) is None
    assert len(caplog.records) == 1


def test_a_flow_is_told_of_once_whatever_is_known_of_it(caplog: pytest.LogCaptureFixture) -> None:
    """A WebSocket's hook is called for each of its messages."""
    flow, other = tflow.twebsocketflow(), tflow.twebsocketflow()
    for _ in range(3):
        Hooks().request(flow)
    Hooks().request(other)
    assert len(caplog.records) == 2


def test_the_line_shows_the_way_and_quotes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    Hooks().request(tflow.tflow())
    (record,) = caplog.records
    text = logging.Formatter().format(record)
    assert text.startswith("usage: ValueError in request (test_guard.py:")
    assert " buggy < test_guard.py:" in text
    assert "prompt" not in text
    assert text.isprintable()


def test_an_exception_that_was_never_raised_has_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    report(None, "the tap", ValueError("a prompt"))
    assert caplog.messages == ["usage: ValueError in the tap (no trace): this flow goes on unrecorded from here"]
