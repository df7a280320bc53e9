"""How a response ended: the whole table of contract.md, section 3.

An error frame in the payload first, then the payload's terminal event, then a kill by hand, then which side cut.
"""

from __future__ import annotations

import itertools
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.ending import Cut, End, end_reason, usage_quality
from usagetap.model import STATUS_OF_END, Observation, Usage

CUTS: list[Cut | None] = [None, *get_args(Cut)]
OF_CUT = {
    None: "upstream_disconnected",
    "client": "client_disconnected",
    "upstream": "upstream_disconnected",
    "connect": "connect_failed",
    "killed": "killed",
    "idle": "idle_timeout",
    "stopped": "proxy_stopped",
}


def seen(told: str = "") -> Observation:
    """What was told, in words: `finished`, `half` (one of two choices), `usage`, `terminal`, `error`, `background`."""
    words = told.split()
    found = Observation(terminal="terminal" in words, background="background" in words)
    if "finished" in words or "half" in words:
        found.finish_reasons = {0: "stop"} | ({1: None} if "half" in words else {})
    if "usage" in words or "final" in words:
        found.usage, found.usage_raw = Usage(input_tokens=0), {"input_tokens": 0}
        found.usage_final = "final" in words
    if "error" in words:
        found.fail("overloaded", "no")
    return found


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("told", ["", "usage", "half usage"])
def test_cut_before_its_end_it_is_whoever_cut(told: str, cut: Cut | None) -> None:
    """`None`: the body ended politely, but not its payload."""
    assert end_reason(seen(told), End(cut, 200, "sse")) == OF_CUT[cut]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("told", ["terminal", "terminal half", "terminal usage", "terminal background"])
def test_a_terminal_event_is_the_end_whoever_cut_then(told: str, cut: Cut | None) -> None:
    """Codex closes right after it (gh-aw-firewall)."""
    assert end_reason(seen(told), End(cut, 200, "sse")) == "complete"


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("told", ["error", "error terminal", "error finished usage", "error background"])
def test_an_error_frame_is_an_error_whatever_else(told: str, cut: Cut | None) -> None:
    assert end_reason(seen(told), End(cut, 200, "sse", usage_due=True)) == "upstream_error"


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("http_status", [400, 404, 429, 500, 529])
@pytest.mark.parametrize("told", ["", "error", "terminal usage"])
def test_a_refusal_is_told_by_its_status(told: str, http_status: int, cut: Cut | None) -> None:
    assert end_reason(seen(told), End(cut, http_status, "json")) == "http_error"


@pytest.mark.parametrize(
    ("told", "cut", "due", "ends", "reason"),
    [
        # no [DONE] (Cerebras, Writer): finish reasons and a clean end will do
        ("finished", None, False, True, "complete"),
        ("finished usage", None, True, True, "complete"),
        # a client that hangs up after the finish reasons: it was over, unless usage was still due
        ("finished", "client", False, True, "complete"),
        ("finished usage", "client", True, True, "complete"),
        ("finished", "client", True, True, "client_disconnected"),
        ("finished", "killed", True, True, "killed"),
        ("finished", "idle", True, True, "idle_timeout"),
        ("finished", "stopped", True, True, "proxy_stopped"),
        ("finished", "upstream", True, True, "upstream_disconnected"),
        ("finished", "upstream", False, True, "complete"),
        # one choice of two
        ("half", None, False, True, "upstream_disconnected"),
        # a dialect whose terminal event never fails to come
        ("finished usage", None, False, False, "upstream_disconnected"),
        ("finished usage", "client", False, False, "client_disconnected"),
        # asked for, ended well, never came
        ("finished", None, True, True, "no_usage"),
        ("terminal", None, True, True, "no_usage"),
        ("terminal", "client", True, True, "no_usage"),
        ("terminal usage", None, True, True, "complete"),
        # Responses in the background: told elsewhere
        ("background", None, False, True, "complete"),
        ("background", "client", False, True, "client_disconnected"),
    ],
)
def test_finish_reasons_and_usage_that_is_due(told: str, cut: Cut | None, due: bool, ends: bool, reason: str) -> None:
    assert end_reason(seen(told), End(cut, 200, "sse", finish_ends=ends, usage_due=due)) == reason


@pytest.mark.parametrize(("cut", "reason"), [(None, "complete"), *((cut, OF_CUT[cut]) for cut in CUTS[1:])])
def test_what_could_not_be_read_ended_as_its_connection_did(cut: Cut | None, reason: str) -> None:
    """No usage is missed in what we cannot read."""
    assert end_reason(seen(), End(cut, 200, "sse", usage_due=True, readable=False)) == reason


@pytest.mark.parametrize("http_status", [204, 301, 304, 307, 308])
def test_an_answer_that_is_elsewhere_has_no_usage_to_miss(http_status: int) -> None:
    """FastAPI answers `…/completions` for `…/completions/` with a 307: the next request has the usage."""
    reason = end_reason(seen(), End(None, http_status))
    assert (reason, usage_quality(seen(), reason, http_status)) == ("complete", None)
    assert end_reason(seen(), End("client", http_status)) == "client_disconnected"


def test_an_empty_200_is_no_answer() -> None:
    assert end_reason(seen(), End(None, 200)) == "upstream_disconnected"


def test_no_answer_at_all() -> None:
    assert end_reason(seen(), End("connect")) == "connect_failed"
    assert end_reason(seen(), End("client")) == "client_disconnected"


WORDS = ["finished", "half", "usage", "final", "terminal", "error", "background"]
EVERY = [
    (told, End(cut, http_status, "sse", ends, due, readable))
    for cut, http_status, ends, due, readable in itertools.product(
        CUTS, [None, 200, 399, 400, 599], [True, False], [True, False], [True, False]
    )
    for told in [*WORDS, ""]
]


@given(st.sets(st.sampled_from(WORDS)).map(" ".join), st.sampled_from([end for _, end in EVERY]))
def test_every_end_has_a_reason_and_every_reason_a_status(told: str, end: End) -> None:
    found = seen(told)
    reason = end_reason(found, end)
    assert STATUS_OF_END[reason] in ("ok", "aborted", "error")
    assert (STATUS_OF_END[reason] == "aborted") == (reason in ("client_disconnected", "killed"))
    quality = usage_quality(found, reason)
    # "no usage" is never taken for "no cost": what was told is exact or a lower bound, what was not is missing
    assert (quality in ("exact", "partial")) == (found.usage_raw is not None)
    assert quality != "estimated"


def test_every_reason_can_be_reached_but_what_a_later_start_finds() -> None:
    reached = {end_reason(seen(told), end) for told, end in EVERY}
    reached |= {end_reason(seen("finished"), End(None, 200, "sse", usage_due=True))}
    assert reached == set(STATUS_OF_END) - {"proxy_died"}


@pytest.mark.parametrize(
    ("told", "reason", "quality"),
    [
        ("usage", "complete", "exact"),
        ("final", "client_disconnected", "exact"),
        ("final", "upstream_error", "exact"),
        ("usage", "client_disconnected", "partial"),
        ("usage", "upstream_error", "partial"),
        ("usage", "idle_timeout", "partial"),
        ("", "complete", "missing"),
        ("", "no_usage", "missing"),
        ("", "client_disconnected", "missing"),
        ("", "upstream_error", "missing"),
        ("", "http_error", None),
        ("", "connect_failed", None),
        ("background", "complete", None),
    ],
)
def test_how_good_the_usage_is(told: str, reason: str, quality: str | None) -> None:
    assert usage_quality(seen(told), reason) == quality
