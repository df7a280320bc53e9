from __future__ import annotations

import asyncio
import json

import pytest

from usagetap.upstream.chunks import Text
from usagetap.upstream.formats import async_frames, compact, frames, sse, without_none


class Plain:
    """A dialect of one line per chunk."""

    def start(self):
        return ["start"]

    def feed(self, chunk):
        return [chunk.text]

    def finish(self):
        return ["end"]

    def fail(self, error):
        return [f"failed: {error}"]


def broken():
    yield Text("a")
    raise ValueError("late")


def test_a_stream_is_start_chunks_end():
    assert list(frames(Plain(), [Text("a"), Text("b")])) == ["start", "a", "b", "end"]


def test_an_exception_takes_the_place_of_the_end():
    assert list(frames(Plain(), broken())) == ["start", "a", "failed: late"]


def test_async_streams_are_closed_when_the_reader_leaves():
    left = []

    async def generated():
        try:
            yield Text("a")
            yield Text("b")
        finally:
            left.append(True)

    async def leave():
        stream = async_frames(Plain(), generated())
        assert [await anext(stream), await anext(stream)] == ["start", "a"]
        await stream.aclose()

    asyncio.run(leave())
    assert left == [True]


def test_sse_is_one_line_of_data_and_a_blank_one():
    assert sse({"text": "ü\n"}) == 'data: {"text":"ü\\n"}\n\n'.encode()
    assert sse("[DONE]") == b"data: [DONE]\n\n"
    assert sse({}, "ping") == b"event: ping\ndata: {}\n\n"


def test_compact_json_never_says_nan():
    assert json.loads(compact({"a": [1, None]})) == {"a": [1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        compact(float("nan"))


def test_without_none_keeps_zero_and_empty():
    assert without_none(a=None, b=0, c="", d=[]) == {"b": 0, "c": "", "d": []}
