"""One response body, read as it passes. (At any split: tests/property/test_reader.py.)"""

from __future__ import annotations

import json
from typing import Any

import pytest

from usagetap.dialects import DIALECTS, UNKNOWN
from usagetap.dialects.base import Dialect
from usagetap.dialects.bedrock_converse import BedrockConverse
from usagetap.dialects.ollama import Ollama
from usagetap.encoding import encode
from usagetap.eventstream import EventStream
from usagetap.framing import JsonArray, Ndjson, Sse
from usagetap.reader import BATCH, FRAME_LIMIT, Reader, framing_for

BY_NAME: dict[str, Dialect] = {type(dialect).__name__: dialect for dialect in DIALECTS}
CHAT, GEMINI, OLLAMA, ANTHROPIC = (BY_NAME[name] for name in ("OpenAIChat", "Gemini", "Ollama", "Anthropic"))
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
WHOLE = {"id": "c", "model": "m", "choices": [{"index": 0, "finish_reason": "stop"}], "usage": USAGE}


def sse(*payloads: Any) -> bytes:
    return b"".join(
        b"data: " + (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n\n" for each in payloads
    )


def chunk(text: str = "Hi", **more: Any) -> dict[str, Any]:
    return {
        "id": "c",
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
        **more,
    }


def read(*chunks: bytes, dialect: Dialect = CHAT, complete: bool = True, **more: Any) -> Reader:
    reader = Reader(dialect, **{"content_type": "text/event-stream", "stream": True} | more)
    for each in chunks:
        reader.feed(each)
    reader.finish(complete=complete)
    return reader


@pytest.mark.parametrize(
    ("dialect", "content_type", "stream", "body", "transport"),
    [
        (CHAT, "application/json", False, b'{"id":"c"}', "json"),
        (CHAT, "text/event-stream; charset=utf-8", True, b"data: {}\n\n", "sse"),
        # ChatGPT's Codex backend sends no Content-Type (teamclaude #456)
        (CHAT, "", True, b"event: x\ndata: {}\n\n", "sse"),
        (CHAT, "application/json", True, b": keep-alive\n\n", "sse"),
        # an error, as JSON under the stream's type (Gemini)
        (GEMINI, "text/event-stream", True, b'{"error":{"code":429}}', "json"),
        (GEMINI, "text/event-stream", True, b"unknown: field\n\n", "sse"),
        (GEMINI, "application/json", True, b'[{"candidates":[]}]', "json_array"),
        (GEMINI, "application/json", True, b'{"error":{"code":429}}', "json"),
        (OLLAMA, "application/x-ndjson", True, b'{"done":false}\n', "ndjson"),
        (OLLAMA, "application/json", True, b'{"done":false}\n', "ndjson"),
        (OLLAMA, "text/html", True, b"<html>Not here</html>", "json"),
        (OLLAMA, "application/json", True, b'{\n "error": "no"}', "json"),
        (CHAT, "application/vnd.amazon.eventstream", True, b"\0" * 12, "eventstream"),
        (CHAT, "application/json", False, b'\xef\xbb\xbf\r\n {"id":1}', "json"),
    ],
)
def test_the_framing_is_told_by_type_and_first_bytes(
    dialect: Dialect, content_type: str, stream: bool, body: bytes, transport: str
) -> None:
    for chunks in ([body], [body[at : at + 1] for at in range(len(body))]):
        assert read(*chunks, dialect=dialect, content_type=content_type, stream=stream).transport == transport


@pytest.mark.parametrize("body", [b"ID3\x04audio", b"1\n00:00:01,000 --> 00:00:02,000\nHi", b"<html>"])
def test_what_is_neither_json_nor_stream_is_opaque(body: bytes) -> None:
    reader = read(body, content_type="x/y", stream=False)
    assert reader.opaque
    assert reader.frames == 0
    assert reader.body_bytes == len(body)
    assert not reader.truncated


@pytest.mark.parametrize("blank", [b"\n", b" ", b"\r\n"])
def test_any_number_of_blank_bytes_may_keep_a_connection_alive(blank: bytes) -> None:
    """DeepSeek, OpenRouter: for minutes, before a JSON answer too."""
    reader = read(*[blank] * 3_000, json.dumps(WHOLE).encode(), content_type="application/json", stream=False)
    assert reader.seen.usage.total_tokens == 7
    assert reader.seen.usage_final
    assert not reader.opaque


@pytest.mark.parametrize(
    ("body", "frames", "finish"),
    [
        (sse(chunk(), WHOLE, b"[DONE]"), 3, "stop"),
        (sse(chunk(), WHOLE) + b"data: [DONE]\nid: 1234567890123\n\n", 3, "stop"),
        (sse(chunk(), WHOLE) + b": bye\ndata: [DONE]\n\n", 3, "stop"),
        (sse(chunk(), WHOLE) + b"data: [DONE]", 3, "stop"),
        # events apart by one line end
        (b"data: " + json.dumps(WHOLE).encode() + b"\ndata: [DONE]\n\n", 1, "stop"),
    ],
    ids=["plain", "id-behind", "comment", "no-blank-line", "one-line-end"],
)
def test_done_is_seen(body: bytes, frames: int, finish: str) -> None:
    reader = read(body)
    assert reader.seen.terminal
    assert reader.frames == frames
    assert reader.seen.finish_reasons == {0: finish}
    assert reader.seen.usage.total_tokens == 7


@pytest.mark.parametrize(
    "nothing", [b": OPENROUTER PROCESSING\n\n", b"\n\n", b"\r\n\r\n", b":\r\r", b": a\n: b\n\n", b": bye"]
)
def test_comments_and_blank_lines_are_no_frames(nothing: bytes) -> None:
    assert read(sse(chunk()), nothing).frames == 1
    assert (
        read(
            sse(chunk()) + nothing + sse(chunk()) if nothing.endswith((b"\n", b"\r")) else sse(chunk(), chunk())
        ).frames
        == 2
    )


def test_an_error_field_behind_a_comment_is_read() -> None:
    reader = read(sse(chunk()) + b': hi\nerror: {"message":"no slot","type":"unavailable"}\n\n')
    assert (reader.seen.error_type, reader.seen.error_message) == ("unavailable", "no slot")


def test_json_that_only_python_reads() -> None:
    body = b'{"id":"c","model":"m\xff","x":NaN,"usage":{"total_tokens":7}}'
    assert read(body, content_type="application/json", stream=False).seen.usage.total_tokens == 7


def test_json_lines_under_json_s_type_are_whole_only_where_the_body_is() -> None:
    lines = b"".join(json.dumps(chunk()).encode() + b"\n" for _ in range(3))
    assert read(lines, content_type="application/json").seen.terminal
    for cut in (lines, lines[:-1], lines[:-20]):
        assert not read(cut, content_type="application/json", complete=False).seen.terminal
    over = lines + b"[DONE]\n"
    assert read(over, content_type="application/json", complete=False).seen.terminal


def test_json_nested_too_deeply_is_nothing() -> None:
    reader = read(b'{"a":' * 200_000, content_type="application/json", stream=False)
    assert reader.seen.usage_raw is None
    assert not reader.seen.terminal


@pytest.mark.parametrize("coding", ["gzip", "zstd", "br"])
def test_broken_coding_keeps_what_was_told(coding: str) -> None:
    first, rest = sse(chunk(), WHOLE), sse(*[chunk(str(number)) for number in range(400)])
    encoded = bytearray(encode(first + rest, coding))
    encoded[-9:] = b"\xff" * 9
    reader = read(bytes(encoded), content_encoding=coding)
    assert reader.body_bytes == len(encoded)
    assert reader.broken is None or (reader.truncated and reader.broken.startswith("broken Content-Encoding"))


def test_an_unknown_coding_is_said_and_counted() -> None:
    reader = read(b"abc", b"def", content_encoding="aes128gcm")
    assert reader.broken == "unknown Content-Encoding 'aes128gcm'"
    assert reader.truncated
    assert (reader.chunks, reader.body_bytes) == (2, 6)


def test_a_frame_over_the_limit_is_passed_over_and_flagged() -> None:
    reader = read(sse(chunk()), sse({"odd": "x" * 5_000}), sse(WHOLE, b"[DONE]"), frame_limit=1_000)
    assert reader.truncated
    assert reader.broken is None
    assert reader.seen.terminal
    assert reader.seen.usage.total_tokens == 7


def test_half_a_frame_at_the_end_does_not_replace_the_whole_one_that_is_held() -> None:
    cumulative = [chunk(usage={"prompt_tokens": 3, "completion_tokens": count}) for count in range(1, 6)]
    body = sse(*cumulative)
    reader = read(body[:-20], complete=False)
    assert reader.seen.usage.output_tokens == 4


def tapped(reader: Reader, *chunks: bytes) -> None:
    tap = reader.tap(pytest.fail)
    for each in chunks:
        assert tap(each) is each


def test_who_looks_while_it_runs_knows_the_usage_that_the_tap_holds() -> None:
    reader = Reader(CHAT, content_type="text/event-stream", stream=True)
    for count in range(1, 6):
        if count == 1:
            tap = reader.tap(pytest.fail)
        tap(sse(chunk("a" * count, usage={"prompt_tokens": 3, "completion_tokens": count})))
        assert reader.peek().usage.output_tokens == count
        assert reader.frames == count


def test_batches_are_settled_by_whoever_asks_and_by_themselves() -> None:
    delta = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"a"}}\n\n'
    reader = Reader(ANTHROPIC, content_type="text/event-stream", stream=True)
    tapped(reader, *[delta] * (3 * BATCH + 7))
    assert len(reader._batch) < BATCH
    assert (reader.frames, reader.chunks) == (3 * BATCH + 7, 3 * BATCH + 7)
    assert reader._batch == []


@pytest.mark.parametrize(
    "odd",
    [
        [b"event: content_block_delta\n", b'event: content_block_delta\ndata: {"a":1}\n\nDATA'],
        [b'event: content_block_delta\ndata: {"a":1}\n\nDATA'],
        [b'event: content_block_delta\ndata: {"a":1}\r\rDATA'],
        [b'event: content_block_delta\ndata: {"a":', b"1}\n\nDATA"],
    ],
    ids=["twice-the-name", "two-in-one", "lone-cr", "cut"],
)
def test_what_stands_behind_an_ordinary_frame_is_read(odd: list[bytes]) -> None:
    delta = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"a"}}\n\n'
    stop = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    reader = Reader(ANTHROPIC, content_type="text/event-stream", stream=True)
    tapped(reader, delta)
    assert reader.frames == 1
    tapped(reader, *[delta] * 5, *(each.replace(b"DATA", stop) for each in odd), *[delta] * 5)
    reader.finish(complete=True)
    assert reader.seen.terminal


def test_after_a_failure_it_is_blind_and_goes_on_counting() -> None:
    reader = Reader(CHAT, content_type="text/event-stream", stream=True)
    failures: list[Exception] = []
    tap = reader.tap(failures.append)
    tap(sse(chunk(), WHOLE))
    reader.peek()
    reader._wire = None  # type: ignore[assignment]
    assert tap(b"x") == b"x"
    assert reader.chunks == 2
    assert tap(sse(b"[DONE]")) == sse(b"[DONE]")
    reader.finish(complete=True)
    assert [type(error) for error in failures] == [TypeError]
    assert reader.broken == "TypeError while reading"
    assert reader.seen.usage.total_tokens == 7
    assert not reader.seen.terminal
    assert reader.body_bytes == len(sse(chunk(), WHOLE)) + 1 + len(sse(b"[DONE]"))


def test_memory_is_bounded_however_long_a_stream_is() -> None:
    """Nothing of ten thousand frames is left but counts and shapes."""
    reader = Reader(CHAT, content_type="text/event-stream", stream=True)
    tap = reader.tap(pytest.fail)
    for number in range(10_000):
        tap(sse(chunk(f"word {number}", usage={"prompt_tokens": 3, "completion_tokens": number})))
        if number % 1000 == 0:
            tap(sse({"odd": number}))
    assert reader.frames == 10_010
    assert reader._sse is not None
    assert reader._sse.held == 0
    assert len(reader._batch) == 0
    assert len(reader._skim._shapes) <= 4
    assert reader.peek().usage.output_tokens == 9_999


def test_it_says_what_it_is_doing() -> None:
    reader = Reader(UNKNOWN)
    assert repr(reader) == "<Reader unknown begin/undecided 0 frames>"
    reader.feed(sse(chunk()))
    assert repr(reader) == "<Reader unknown identity/events 1 frames>"
    reader.finish(complete=True)
    assert repr(reader) == "<Reader unknown ignore/events 1 frames>"


@pytest.mark.parametrize(
    ("head", "framing"),
    [
        (b"\xef\xbb\xbfdata: {}", Sse),
        (b"\n: hi", Sse),
        (b" [{", JsonArray),
        (b"\0\0\0\x1b", EventStream),
        (b'{"done":false}', Ndjson),
    ],
)
def test_the_framing_of_a_body_by_its_first_bytes_alone(head: bytes, framing: type) -> None:
    assert type(framing_for(head)) is framing
    assert framing_for(head)._limit == FRAME_LIMIT  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("start", "transport"), [(b"\0\0\0\x10\0\0\0\0", "eventstream"), (b'{"message": "no"}', "json")]
)
def test_a_stream_of_bedrock_s_is_told_by_its_first_byte_where_no_type_is(start: bytes, transport: str) -> None:
    reader = Reader(BedrockConverse(), stream=True)
    reader.feed(start)
    assert reader.transport == transport


def test_an_answer_of_one_line_to_a_wish_for_lines_is_whole() -> None:
    for told, whole in ((b'{"model": "m", "eval_count": 3}', True), (b'{"model": "m"}', False)):
        reader = Reader(Ollama(), stream=True)
        reader.feed(told)
        reader.finish(complete=True)
        assert reader.seen.terminal is whole
