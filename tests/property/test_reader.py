"""Any split of any body gives the same observation; any bytes at any split leave the tap unchanged; `finish` twice is
once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.golden.cases import Case
from tests.property.wire import (
    CASES,
    STREAMS,
    WISHES,
    Wish,
    byte_by_byte,
    event_streams,
    found,
    frame_by_frame,
    read,
    split,
)

from usagetap.dialects import DIALECTS, UNKNOWN
from usagetap.dialects.base import Dialect
from usagetap.encoding import encode
from usagetap.reader import Reader

SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def between_cr_and_lf(body: bytes) -> list[bytes]:
    """A cut behind each CR."""
    return re.findall(rb"[^\r]*\r|[^\r]+\Z", body)


@given(event_streams(), WISHES)
@settings(SLOW, max_examples=400)
def test_any_split_of_any_event_stream_gives_the_same_observation(stream: tuple[Case, bytes], wish: Wish) -> None:
    case, body = stream
    whole = found(read(case.reader(), [body], through_tap=False))
    for chunks in (split(body, wish), frame_by_frame(body), between_cr_and_lf(body)):
        for through_tap in (False, True):
            reader = read(case.reader(), chunks, through_tap=through_tap)
            assert found(reader) == whole
            assert reader.chunks == sum(map(bool, chunks))


@given(event_streams())
@settings(SLOW, max_examples=50)
def test_byte_by_byte_gives_the_same_observation(stream: tuple[Case, bytes]) -> None:
    case, body = stream
    whole = found(read(case.reader(), [body], through_tap=False))
    assert found(read(case.reader(), byte_by_byte(body), through_tap=True)) == whole


@st.composite
def cut_captures(draw: st.DrawFn) -> tuple[Case, bytes]:
    """A capture whose body ends anywhere, after any number of blank bytes."""
    case = draw(st.sampled_from(CASES))
    blank = draw(st.sampled_from([b"", b"", b"\n", b"\r\n\r\n", b" " * 5000, b"\xef\xbb\xbf"]))
    if case.meta.get("content_type", "").startswith("application/vnd"):
        blank = b""
    return case, (blank + case.body)[: int(draw(st.just(1.0) | st.floats(0, 1)) * (len(blank) + len(case.body)))]


@given(cut_captures(), WISHES, st.booleans())
@settings(SLOW, max_examples=400)
def test_any_split_of_a_body_that_ends_anywhere_gives_the_same(
    capture: tuple[Case, bytes], wish: Wish, complete: bool
) -> None:
    case, body = capture
    whole = found(read(case.reader(), [body], through_tap=False, complete=complete))
    reader = read(case.reader(), split(body, wish), through_tap=True, complete=complete)
    assert found(reader) == whole
    assert reader.body_bytes == len(body)


def encoded_reader(case: Case, header: str) -> Reader:
    return Reader(
        case.dialect,
        content_type=case.meta.get("content_type", ""),
        content_encoding=header,
        http_status=case.meta["status"],
        headers={name.lower(): value for name, value in case.meta.get("headers", {}).items()},
        stream=case.dialect.streams(case.request),
    )


@given(st.sampled_from(CASES), st.sampled_from(["gzip", "deflate", "br", "zstd", "gzip, br", "identity"]), WISHES)
@settings(SLOW, max_examples=300)
def test_a_compressed_body_in_any_split_equals_the_plain_one(case: Case, header: str, wish: Wish) -> None:
    plain = found(read(case.reader(), [case.body], through_tap=False))
    chunks = split(encode(case.body, header), wish)
    assert found(read(encoded_reader(case, header), chunks, through_tap=True)) == plain | {
        "body_bytes": sum(map(len, chunks))
    }


@pytest.mark.parametrize("missing", [1, 4, 8])
@pytest.mark.parametrize("case", STREAMS, ids=lambda case: case.name)
def test_a_missing_gzip_trailer_takes_nothing_away(case: Case, missing: int) -> None:
    """vm0 #25133: the stream had told everything before it."""
    chunks = [encode(case.body, "gzip")[:-missing]]
    reader = read(encoded_reader(case, "gzip"), chunks, through_tap=True)
    plain = found(read(case.reader(), [case.body], through_tap=True))
    assert found(reader) == plain | {"body_bytes": len(chunks[0])}


KINDS = st.sampled_from(
    ["", "application/json", "text/event-stream", "application/x-ndjson", "application/vnd.amazon.eventstream", "x"]
)
PIECES = st.lists(
    st.binary(max_size=40)
    | st.sampled_from(
        [b"data: ", b"\n\n", b"\r\n\r\n", b"{", b"[", b'{"usage":{', b"[DONE]", b"event: x\n", b"\0" * 12]
    )
    | st.sampled_from([case.body[at : at + 200] for case in CASES for at in (0, 100, 1000)]),
    max_size=12,
)


def tapped(reader: Reader, pieces: Sequence[bytes]) -> list[Exception]:
    """Feed `pieces` through the tap, which must return each; what it told of failures."""
    failures: list[Exception] = []
    tap = reader.tap(failures.append)
    for piece in pieces:
        assert tap(piece) is piece
    reader.finish(complete=False)
    return failures


@given(
    st.sampled_from([*DIALECTS, UNKNOWN]),
    PIECES,
    KINDS,
    st.sampled_from([None, "gzip", "deflate", "br", "zstd", "br,gzip", "aes"]),
    st.sampled_from([200, 500]),
    st.booleans(),
    st.sampled_from([1, 50, 1 << 24]),
)
@settings(SLOW, max_examples=1200)
def test_any_bytes_at_any_split_leave_the_tap_unchanged_and_standing(
    dialect: Dialect, pieces: list[bytes], kind: str, coding: str | None, status: int, stream: bool, limit: int
) -> None:
    reader = Reader(
        dialect,
        content_type=kind,
        content_encoding=coding,
        http_status=status,
        stream=stream,
        frame_limit=limit,
    )
    assert tapped(reader, pieces) == []
    assert reader.body_bytes == sum(map(len, pieces))
    assert reader.chunks == sum(map(bool, pieces))


class Faulty:
    """A dialect with a bug: it fails at its `at`th word."""

    name = "faulty"
    transport_hint = dull_event = None

    def __init__(self, real: Dialect, at: int) -> None:
        self._real = real
        self._left = at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def observe(self, seen: Any, payload: Any) -> None:
        self._left -= 1
        if self._left < 0:
            raise LookupError("a bug of ours")
        self._real.observe(seen, payload)


@given(event_streams(), WISHES, st.integers(0, 3))
@settings(SLOW, max_examples=100)
def test_our_own_failure_leaves_the_tap_unchanged_and_is_told_once(
    stream: tuple[Case, bytes], wish: Wish, at: int
) -> None:
    case, body = stream
    reader = case.reader()
    reader.dialect = Faulty(case.dialect, at)  # type: ignore[assignment]
    try:
        failures = tapped(reader, split(body, wish))
    except LookupError:  # from `finish`, which the caller guards
        return
    assert len(failures) <= 1
    assert reader.body_bytes == len(body)
    if failures:
        assert reader.broken == "LookupError while reading"
        assert reader.truncated


@given(cut_captures(), WISHES, st.booleans(), st.booleans())
@settings(SLOW, max_examples=150)
def test_finish_twice_is_once(capture: tuple[Case, bytes], wish: Wish, first: bool, second: bool) -> None:
    case, body = capture
    reader = read(case.reader(), split(body, wish), through_tap=True, complete=first)
    once = found(reader)
    reader.finish(complete=second)
    reader.peek()
    assert found(reader) == once


@given(event_streams())
@settings(SLOW, max_examples=150)
def test_looking_while_it_runs_changes_nothing(stream: tuple[Case, bytes]) -> None:
    """`peek`, and the counts that the tap has put off, at any moment."""
    case, body = stream
    whole = found(read(case.reader(), [body], through_tap=False))
    reader = case.reader()
    tap = reader.tap(pytest.fail)
    passed = 0
    for number, chunk in enumerate(frame_by_frame(body)):
        tap(chunk)
        passed += len(chunk)
        if number % 3 == 0:
            reader.peek()
            assert reader.body_bytes == passed
            assert repr(reader).startswith("<Reader ")
    reader.finish(complete=True)
    assert found(reader) == whole


@given(event_streams(), WISHES, st.sampled_from([None, "gzip"]))
@settings(SLOW, max_examples=150)
def test_who_watches_sees_every_byte_in_order(stream: tuple[Case, bytes], wish: Wish, coding: str | None) -> None:
    case, body = stream
    watched: list[bytes] = []
    reader = Reader(
        case.dialect, content_type="text/event-stream", content_encoding=coding, stream=True, watch=watched.append
    )
    encoded = encode(body, coding)
    tap = reader.tap(pytest.fail)
    for chunk in split(encoded, wish):
        tap(chunk)
    reader.finish(complete=True)
    assert b"".join(watched) == body
