"""Where an event ends, by whatever line ends."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from usagetap.framing import BLANK_LINE, Sse, _blank_line_end

LINES = st.text("a\r\n", max_size=12).map(str.encode)


@given(LINES, st.integers(0, 12))
def test_hopping_finds_the_blank_line_that_a_search_finds(chunk: bytes, at: int) -> None:
    found = BLANK_LINE.search(chunk, at)
    assert _blank_line_end(chunk, at) == (found.end() if found else None)


EVENTS = st.lists(st.sampled_from(["data: a", "event: x\ndata: b", ": c", "data: d\ndata: e"]), max_size=4)


@given(EVENTS, st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(0, 120)))
def test_any_split_gives_the_same_events(events: list[str], line_end: str, cuts: list[int]) -> None:
    body = "".join(event + "\n\n" for event in events).replace("\n", line_end).encode()
    edges = [0, *sorted(cut for cut in cuts if cut < len(body)), len(body)]
    sse = Sse(1 << 20)
    frames = [frame for start, end in pairwise(edges) for frame in sse.feed(body[start:end])] + sse.finish()
    whole = Sse(1 << 20)
    assert [sse.payload(frame) for frame in frames] == [
        whole.payload(frame) for frame in [*whole.feed(body), *whole.finish()]
    ]
