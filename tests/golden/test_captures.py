"""Every capture, whole, byte by byte and event by event: always what `expected.json` says."""

from __future__ import annotations

import dataclasses
import re

import pytest
from tests.golden.cases import Case, cases

from usagetap.dialects import DIALECTS
from usagetap.providers import HOSTS, SUFFIXES

CASES = cases()
HTTP = [case for case in CASES if not case.websocket]


def named(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_capture_gives_what_is_expected(case: Case) -> None:
    assert case.run() == case.expected


@pytest.mark.parametrize("case", HTTP, ids=named)
def test_a_capture_gives_the_same_byte_by_byte(case: Case) -> None:
    assert case.run([case.body[at : at + 1] for at in range(len(case.body))]) == case.expected


@pytest.mark.parametrize("case", HTTP, ids=named)
def test_a_capture_gives_the_same_event_by_event(case: Case) -> None:
    assert case.run(re.findall(rb".+?(?:\r?\n\r?\n|\Z)", case.body, re.DOTALL)) == case.expected


@pytest.mark.parametrize("case", HTTP, ids=named)
def test_a_capture_is_detected_as_the_dialect_of_its_folder(case: Case) -> None:
    assert case.dialect.name == case.folder.parent.name


@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_capture_names_its_source(case: Case) -> None:
    assert case.meta["source"].startswith(("https://", "recorded: "))


def test_every_dialect_has_captures() -> None:
    assert {dialect.name for dialect in DIALECTS} <= {case.folder.parent.name for case in CASES}


#: where somebody's chat is served: every host that we know, and a gateway nobody knows
PLACES = [*HOSTS, *(f"mine{suffix}" for suffix, _ in SUFFIXES), "gateway.example", "127.0.0.1"]
QUIRKS = [case for case in HTTP if case.folder.parent.name in ("openai_chat", "openai_completions", "openai_responses")]


@pytest.mark.parametrize("case", QUIRKS, ids=named)
def test_a_quirk_is_read_alike_whoever_serves_it(case: Case) -> None:
    """Usage on any frame, reasoning apart, no `[DONE]`: each was met at one provider, and gateways pass it on."""
    path = case.request.path
    found = {
        host: dataclasses.replace(case, request=dataclasses.replace(case.request, host=host, path=prefix + path)).run()
        for host in PLACES
        for prefix in ("", "/acme/proxy")
    }
    assert {host: told for host, told in found.items() if told != case.expected} == {}
