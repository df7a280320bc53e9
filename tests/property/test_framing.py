"""Any split of any body gives the same frames, and no more than the limit is held."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.property.wire import CASES, WISHES, Wish, split
from tests.unit.test_eventstream import event

from usagetap.eventstream import EventStream
from usagetap.framing import Document, Framing, JsonArray, Ndjson, Sse

SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
FRAMINGS: dict[str, Callable[[int], Framing]] = {
    "sse": Sse,
    "ndjson": Ndjson,
    "json_array": JsonArray,
    "document": Document,
    "eventstream": EventStream,
}
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 53), 1 << 53)
    | st.text(max_size=30)
    | st.sampled_from(['"', "]", "}{", '\\"', "\\"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
objects = st.lists(st.dictionaries(st.text(max_size=5), values, max_size=3), max_size=6)


def as_sse(payloads: list[Any], style: int) -> bytes:
    line_end = ("\n", "\r\n", "\r")[style % 3]
    return "".join(f"data:{' ' * (style % 2)}{json.dumps(each)}{line_end * 2}" for each in payloads).encode()


def as_ndjson(payloads: list[Any], style: int) -> bytes:
    return "".join(json.dumps(each) + ("\n", "\r\n", "\n\n")[style % 3] for each in payloads).encode()


def as_array(payloads: list[Any], style: int) -> bytes:
    return json.dumps(payloads, indent=(None, 1, 4)[style % 3], ensure_ascii=bool(style % 2)).encode()


def as_events(payloads: list[Any], style: int) -> bytes:
    return b"".join(event("chunk", each) for each in payloads)


WRITERS = {"sse": as_sse, "ndjson": as_ndjson, "json_array": as_array, "eventstream": as_events}


def frames_of(framing: Framing, chunks: Iterable[bytes]) -> list[bytes]:
    return [*(frame for chunk in chunks for frame in framing.feed(chunk)), *framing.finish()]


@pytest.mark.parametrize("name", WRITERS)
@given(payloads=objects, style=st.integers(0, 5), wish=WISHES)
@settings(SLOW, max_examples=120)
def test_what_was_written_is_read_at_any_split(name: str, payloads: list[Any], style: int, wish: Wish) -> None:
    framing = FRAMINGS[name](1 << 20)
    told = [framing.payload(frame) for frame in frames_of(framing, split(WRITERS[name](payloads, style), wish))]
    read = [json.loads(payload) for payload in told if payload is not None]
    assert read == ([{"chunk": each} for each in payloads] if name == "eventstream" else payloads)
    assert not framing.oversized
    assert framing.broken is None


BODIES = st.binary(max_size=120) | st.sampled_from([case.body[:3000] for case in CASES])
_BOM = b"\xef\xbb\xbf"
FRAGMENTS = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"data: x", b":", b"{", b"}", b"[", b"]", b'"', b"\\", _BOM, b"1"]),
    max_size=30,
).map(b"".join)


@pytest.mark.parametrize("name", FRAMINGS)
@given(body=BODIES | FRAGMENTS, wish=WISHES, limit=st.sampled_from([1, 7, 40, 300, 1 << 20]))
@settings(SLOW, max_examples=250)
def test_any_bytes_give_the_same_frames_at_any_split_whatever_the_limit(
    name: str, body: bytes, wish: Wish, limit: int
) -> None:
    whole, cut = FRAMINGS[name](limit), FRAMINGS[name](limit)
    frames = frames_of(whole, [body])
    assert frames_of(cut, split(body, wish)) == frames
    assert cut.oversized == whole.oversized
    assert cut.broken == whole.broken
    if name != "eventstream":  # whose frames are not as they were on the wire, and as long as their base64 is short
        assert all(len(frame) <= limit for frame in frames)
    for frame in frames:
        whole.payload(frame)


@given(FRAGMENTS, WISHES, st.booleans())
@settings(SLOW, max_examples=300)
def test_an_event_ends_where_the_standard_says(fragments: bytes, wish: Wish, marked: bool) -> None:
    """Told by another reading of it: lines first, then events. https://html.spec.whatwg.org/#event-stream-interpretation"""
    body = (_BOM if marked else b"") + fragments.replace(_BOM, b"")
    sse = Sse(1 << 20)
    told = [sse.payload(frame) for frame in frames_of(sse, split(body, wish))]
    lines = re.split(rb"\r\n|\n|\r", body.removeprefix(_BOM))
    expected = []
    for blank, event_lines in itertools.groupby(lines, key=lambda line: line == b""):
        fields = [line.partition(b":") for line in event_lines if not blank]
        data = [value.removeprefix(b" ") for name, _, value in fields if name == b"data"]
        expected += [b"\n".join(data)] if data else []
    assert [payload for payload in told if payload is not None] == expected


def held(framing: Framing) -> int:
    """Bytes that it keeps."""
    return len(vars(framing)["_held"])


ENDLESS = {
    "sse": b'data: {"text": "' + b"x" * 100_000,
    "ndjson": b'{"text": "' + b"x" * 100_000,
    "json_array": b'[{"a":1},{"text": "' + b'x\\"[' * 25_000,
    "document": b'{"text": "' + b"x" * 100_000,
    "eventstream": event("chunk", {"bytes": "A" * 100_000}),
}
REST = {"sse": b'"}\n\ndata: 2\n\n', "ndjson": b'"}\n2\n', "json_array": b'"}, {"b":2}]', "document": b'"}'}


@pytest.mark.parametrize("name", FRAMINGS)
@pytest.mark.parametrize("step", [1, 37, 5_000, 200_000])
def test_no_more_than_the_limit_is_held_and_reading_goes_on_behind_it(name: str, step: int) -> None:
    limit = 1_000
    framing = FRAMINGS[name](limit)
    body = ENDLESS[name] + REST.get(name, event("end", 2))
    frames = []
    for at in range(0, len(body), step):
        frames += framing.feed(body[at : at + step])
        assert held(framing) <= limit
    frames += framing.finish()
    assert framing.oversized
    payloads = [orjson.loads(framing.payload(frame) or b"") for frame in frames]
    after = {"sse": [2], "ndjson": [2], "json_array": [{"a": 1}, {"b": 2}], "document": [], "eventstream": [{"end": 2}]}
    assert payloads == after[name]


class Counting(bytearray):
    """What is held, counting the bytes that are copied or moved when it changes."""

    work = 0

    def __iadd__(self, more: Any) -> Any:
        Counting.work += len(more)
        return super().__iadd__(more)

    def __delitem__(self, what: Any) -> None:
        start, stop, _ = what.indices(len(self))
        Counting.work += len(self) - stop if stop > start else 0
        super().__delitem__(what)

    def __getitem__(self, what: Any) -> Any:
        taken = super().__getitem__(what)
        Counting.work += len(taken) if isinstance(taken, bytes | bytearray) else 0
        return taken


@pytest.mark.parametrize("name", [name for name in FRAMINGS if name != "eventstream"])
@pytest.mark.parametrize("shape", ["one frame", "many frames"])
def test_twice_the_body_in_small_pieces_is_twice_the_work(name: str, shape: str) -> None:
    """Bytes moved in what is held, counted; not seconds."""

    def work(size: int) -> int:
        one = b'{"text": "%b"}' % (b"x" * (size if shape == "one frame" else 50))
        parts = [one] * (1 if shape == "one frame" else size // 50)
        wrapped = {
            "sse": b"".join(b"data: " + each + b"\n\n" for each in parts),
            "ndjson": b"\n".join(parts) + b"\n",
            "json_array": b"[" + b",".join(parts) + b"]",
            "document": b"".join(parts),
        }[name]
        framing = FRAMINGS[name](1 << 24)
        vars(framing)["_held"] = Counting()
        Counting.work = 0
        for at in range(0, len(wrapped), 100):
            framing.feed(wrapped[at : at + 100])
        framing.finish()
        return Counting.work

    assert 0 < work(200_000) <= 2.5 * work(100_000)
