"""What is changed in a request, why not, and the word for it."""

from __future__ import annotations

import dataclasses
import gzip
import json
from typing import Any

import pytest
from mitmproxy.options import Options
from mitmproxy.test import tflow

from usagetap.dialects import detect
from usagetap.mitm import edits, options
from usagetap.mitm.edits import Edit
from usagetap.mitm.options import Settings
from usagetap.mitm.refusals import Refusals
from usagetap.model import Request

STREAM: dict[str, Any] = {"model": "openai/gpt-4o", "stream": True, "messages": []}


def settings(**named: Any) -> Settings:
    known = Options()
    options.declare(known.add_option)
    known.update(**named)
    return options.read(known)


def edit(body: Any = STREAM, host: str = "h", coding: str | None = None, refused: bool = False, **named: Any) -> Edit:
    request = Request("POST", host, 443, "/v1/chat/completions", body=body)
    dialect = detect(request)
    assert dialect is not None
    refusals = Refusals()
    if refused:
        refusals.add(request)
    return edits.edit(request, dialect, json.dumps(body).encode(), coding, settings(**named), refusals)


def test_the_field_is_added_and_said() -> None:
    outcome = edit()
    assert json.loads(outcome.body or b"")["stream_options"] == {"include_usage": True}
    assert (outcome.injected, outcome.skipped, outcome.client_include_usage, outcome.usage_asked) == (
        True,
        None,
        None,
        True,
    )


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ({"usage_include": "off"}, "off"),
        ({"usage_no_inject": ["h"]}, "no_inject"),
        ({"refused": True}, "refused_before"),
        ({"host": "api.mistral.ai"}, "host_refuses"),
        ({"coding": "compress"}, "encoding"),
    ],
)
def test_reasons_against_it(named: dict[str, Any], reason: str) -> None:
    outcome = edit(**named)
    assert (outcome.body, outcome.injected, outcome.skipped) == (None, False, reason)
    assert not outcome.usage_asked


def test_nothing_to_add_needs_no_reason() -> None:
    assert edit(STREAM | {"stream": False}) == Edit()
    asked = edit(STREAM | {"stream_options": {"include_usage": True}})
    assert (asked.body, asked.injected, asked.skipped, asked.usage_asked) == (None, False, None, True)


def test_a_prefix_goes_also_where_nothing_is_injected() -> None:
    outcome = edit(usage_include="off", usage_model_prefix=["openai/"])
    assert json.loads(outcome.body or b"")["model"] == "gpt-4o"
    assert not outcome.injected


def test_the_body_is_encoded_again() -> None:
    outcome = edit(coding="gzip")
    assert b"include_usage" in gzip.decompress(outcome.body or b"")


def test_apply_sets_the_length_but_not_beside_chunks() -> None:
    flow = tflow.tflow()
    edits.apply(flow, Edit(body=b"12345"))
    assert (flow.request.raw_content, flow.request.headers["content-length"]) == (b"12345", "5")
    chunked = tflow.tflow()
    del chunked.request.headers["content-length"]
    chunked.request.headers["transfer-encoding"] = "chunked"
    edits.apply(chunked, Edit(body=b"12345"))
    assert "content-length" not in chunked.request.headers


@pytest.mark.parametrize(
    ("strip", "injected", "said", "expected"),
    [
        ("never", True, None, False),
        ("injected", True, None, True),
        ("injected", True, False, True),
        ("injected", False, True, False),
        ("injected", True, True, False),
        ("always", False, True, True),
    ],
)
def test_whose_frame_is_withheld(strip: str, injected: bool, said: bool | None, expected: bool) -> None:
    outcome = dataclasses.replace(Edit(), injected=injected, client_include_usage=said)
    assert edits.strips(outcome, strip) is expected
