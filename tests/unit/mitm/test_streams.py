"""The callables in a stream: what goes in comes out, with others before and behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import ctx
from mitmproxy.addons.save import Save
from mitmproxy.addons.view import View
from mitmproxy.http import Headers, HTTPFlow
from mitmproxy.test import taddons, tflow

from usagetap.dialects.openai_chat import OpenAIChat
from usagetap.mitm import exchange, streams
from usagetap.mitm.comments import write
from usagetap.mitm.exchange import Exchange
from usagetap.mitm.streams import keep_whole, keep_whole_once_shown, tap_response
from usagetap.model import Record, Request
from usagetap.reader import Reader

FRAMES = [
    b'data: {"id":"r","model":"m","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n',
    b'data: {"id":"r","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b'data: {"id":"r","model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n',
    b"data: [DONE]\n\n",
]
WITHOUT = b"".join(frame for frame in FRAMES if b'"usage"' not in frame)


def tapped(keep: int = 0, strip: bool = False, other: Any = True, coding: str = "") -> tuple[HTTPFlow, Exchange]:
    flow = tflow.tflow(resp=True)
    assert flow.response is not None
    flow.response.headers = Headers(content_type="text/event-stream")
    if coding:
        flow.response.headers["content-encoding"] = coding
    flow.response.stream = other
    flow.response.raw_content = None
    known = Exchange(Record("u", "f", 0.0), Request("POST", "h", 443, "/"), OpenAIChat(), 0.0, strip=strip)
    known.reader = Reader(known.dialect, content_type="text/event-stream", content_encoding=coding or None)
    tap_response(flow, known, keep, failed)
    return flow, known


def failed(error: Exception) -> None:
    raise AssertionError from error


def feed(flow: HTTPFlow, chunks: Iterable[bytes]) -> list[bytes]:
    """As mitmproxy does: the callable that is there at each chunk, and `b""` at the end."""
    out: list[bytes] = []
    for chunk in [*chunks, b""]:
        assert flow.response is not None
        assert callable(flow.response.stream)
        passed = flow.response.stream(chunk)
        out += [passed] if isinstance(passed, bytes) else passed
    return out


def split(body: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(body) + 1) for cut in cuts} | {0, len(body)})
    return [body[a:b] for a, b in pairwise(places)]


@given(st.lists(st.integers(0, 1000)), st.sampled_from([0, 10, 1 << 20]))
def test_any_split_leaves_the_chunks_as_they_came(cuts: list[int], keep: int) -> None:
    flow, known = tapped(keep)
    chunks = split(b"".join(FRAMES), cuts)
    assert [piece for piece in feed(flow, chunks) if piece] == chunks
    assert known.reader is not None
    assert known.reader.frames == 4
    assert b"".join(known.kept) == b"".join(FRAMES)[:keep]


@given(st.lists(st.integers(0, 1000)))
def test_stripping_withholds_the_frame_and_never_sends_an_empty_chunk_in_between(cuts: list[int]) -> None:
    flow, known = tapped(strip=True)
    out = feed(flow, split(b"".join(FRAMES), cuts))
    assert b"".join(out) == WITHOUT
    assert b"" not in out
    assert known.stripper is not None
    assert known.stripper.stripped == 1


def test_a_compressed_stream_is_not_stripped() -> None:
    _, known = tapped(strip=True, coding="gzip")
    assert known.stripper is None


def test_who_was_there_before_us_gets_every_chunk_after_us() -> None:
    flow, _ = tapped(other=lambda chunk: [chunk.upper(), b"!"])
    assert b"".join(feed(flow, [b"data: a\n\n"])) == b"DATA: A\n\n!!"


def test_who_comes_after_us_stays() -> None:
    flow, known = tapped()
    assert flow.response is not None
    ours, seen = flow.response.stream, []

    def around(chunk: bytes) -> Any:
        seen.append(chunk)
        assert callable(ours)
        return ours(chunk)

    flow.response.stream = around
    feed(flow, FRAMES)
    assert seen == [*FRAMES, b""]
    assert known.reader is not None
    assert known.reader.frames == 4


def test_the_first_chunk_has_its_time() -> None:
    flow, known = tapped()
    assert known.first_chunk_at is None
    feed(flow, FRAMES[:1])
    first = known.first_chunk_at
    assert first is not None
    feed(flow, FRAMES[1:])
    assert known.first_chunk_at == first


def test_what_was_kept_is_shown_and_then_let_go() -> None:
    flow, known = tapped(keep=1 << 20)
    feed(flow, FRAMES)
    assert known.reader is not None
    known.reader.finish(complete=True)
    assert keep_whole(flow, known)
    assert flow.response is not None
    assert flow.response.raw_content == b"".join(FRAMES)
    assert known.kept == []
    assert not keep_whole(flow, known)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterable[list[bytes | None]]:
    """The body at each update of a flow, where there is a UI to show it."""
    monkeypatch.setattr(streams, "SHOWN_WITHIN", 0.0)
    bodies: list[bytes | None] = []

    def update(flow: HTTPFlow) -> None:  # mitmproxy's signals hold on to nobody: a lambda would be gone
        assert flow.response is not None
        bodies.append(flow.response.raw_content)

    with taddons.context(Save()) as context:
        master: Any = context.master
        master.view = View()
        master.addons.add(master.view)
        master.view.sig_view_update.connect(update)
        yield bodies


def ended() -> tuple[HTTPFlow, Exchange]:
    """A flow in the UI, whose stream has ended."""
    flow, known = tapped(keep=1 << 20)
    feed(flow, FRAMES)
    assert known.reader is not None
    known.reader.finish(complete=True)
    exchange.begin(flow, known)
    known.ended = True
    master: Any = ctx.master
    master.view.add([flow])
    return flow, known


def test_the_ui_hears_of_a_body_once_with_its_comment(seen: list[bytes | None]) -> None:
    async def play() -> None:
        flow, known = ended()
        keep_whole_once_shown(flow, known)
        write(flow, "1→2", "", also=keep_whole(flow, known))
        await asyncio.sleep(0.01)

    asyncio.run(play())
    assert seen == [b"".join(FRAMES)]


def test_a_body_without_a_comment_is_shown_a_moment_later(seen: list[bytes | None]) -> None:
    async def play() -> None:
        flow, known = ended()
        keep_whole_once_shown(flow, known)
        assert flow.response is not None
        assert flow.response.raw_content is None
        await asyncio.sleep(0.01)

    asyncio.run(play())
    assert seen == [b"".join(FRAMES)]


def test_a_replayed_flow_does_not_get_the_former_body(seen: list[bytes | None]) -> None:
    flow, known = ended()

    async def play() -> None:
        keep_whole_once_shown(flow, known)
        exchange.begin(flow, replace(known))
        await asyncio.sleep(0.01)

    asyncio.run(play())
    assert seen == []
    assert flow.response is not None
    assert flow.response.raw_content is None


def test_a_flow_that_is_saved_when_it_ends_has_its_body_then(seen: list[bytes | None], tmp_path: Path) -> None:
    flow, known = ended()
    ctx.options.save_stream_file = str(tmp_path / "flows")
    keep_whole_once_shown(flow, known)
    ctx.options.save_stream_file = None
    assert flow.response is not None
    assert flow.response.raw_content == b"".join(FRAMES)


def test_a_broken_stripper_gives_back_what_it_held(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Exception] = []
    monkeypatch.setitem(globals(), "failed", told.append)
    flow, _ = tapped(strip=True)
    body = b"".join(FRAMES)
    at = body.index(b'"usage"') + 20
    out = feed(flow, [body[:at]])
    monkeypatch.setattr("usagetap.rewrite.is_usage_frame", _raise)
    out += feed(flow, [body[at:]])
    assert b"".join(out) == body
    assert len(told) == 1


def _raise(_: bytes) -> bool:
    raise RuntimeError("broken on purpose")
