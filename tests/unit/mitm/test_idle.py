"""When a stream is idle. (That it is then cut: tests/mitm/test_idle.py.)"""

from __future__ import annotations

import logging

import pytest
from mitmproxy.test import taddons, tflow

from usagetap.dialects.openai_chat import OpenAIChat
from usagetap.mitm.exchange import Exchange
from usagetap.mitm.idle import cut_upstream, idle
from usagetap.model import Record, Request
from usagetap.reader import Reader

FRAME = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


def streaming() -> Exchange:
    known = Exchange(Record("u", "f", 0.0), Request("POST", "h", 443, "/"), OpenAIChat(), 0.0, tapped=True)
    known.reader = Reader(known.dialect, content_type="text/event-stream")
    return known


def test_frames_keep_it_awake_and_comments_do_not() -> None:
    known = streaming()
    assert known.reader is not None
    known.reader.feed(FRAME)
    assert not idle(known, 100.0, 10)
    known.reader.feed(FRAME)
    assert not idle(known, 109.0, 10)
    known.reader.feed(b": keep-alive\n\n")
    assert not idle(known, 118.0, 10)
    assert idle(known, 119.0, 10)


def test_what_does_not_stream_is_never_idle() -> None:
    known = streaming()
    known.tapped = False
    assert not idle(known, 1e9, 1)
    known = streaming()
    known.reader = None
    assert not idle(known, 1e9, 1)


def test_what_cannot_be_cut_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with taddons.context(), caplog.at_level(logging.WARNING):
        cut_upstream(tflow.tflow())
    assert "is idle, but cannot be cut" in caplog.text
