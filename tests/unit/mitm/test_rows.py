"""Rows out of what mitmproxy knows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.test import tflow

from usagetap.ending import End
from usagetap.mitm.edits import Edit
from usagetap.mitm.rows import conclude, open_row, take_seen, timed, timed_by_flow
from usagetap.model import Observation, Record, Request

KEY = "sk-live-0123456789abcdef"
REQUEST = Request(
    "POST",
    "api.openai.com",
    443,
    "/v1/chat/completions",
    query={"key": "never"},
    headers={"authorization": f"Bearer {KEY}", "user-agent": "x" * 999, "x-usage-tag": " team "},
)


def recording() -> Any:
    settings = SimpleNamespace(tag_header="x-usage-tag")
    hashed: Any = lambda content: None if content is None else f"hash of {len(content)}"  # noqa: E731
    return SimpleNamespace(uid=lambda: "i-1", instance="i", fingerprint=hashed, settings=settings)


def opened(**named: Any) -> Record:
    flow = tflow.tflow()
    flow.live = True
    told: dict[str, Any] = {"dialect": "openai_chat", "operation": "chat", "model": "m", "stream": True}
    return open_row(flow, REQUEST, recording(), **(told | named))


def test_a_row_is_open_and_has_no_secret() -> None:
    record = opened(edit=Edit(injected=True, client_include_usage=False), raw=b"body")
    assert (record.status, record.tag, record.provider, record.uid) == ("open", "team", "openai", "i-1")
    assert (record.injected, record.client_include_usage, record.inject_skipped) == (True, False, None)
    assert (record.server_address, record.path) == ("api.openai.com:443", "/v1/chat/completions")
    assert (record.key_fingerprint, record.request_fingerprint) == (f"hash of {len(KEY)}", "hash of 4")
    assert len(record.client_agent or "") == 300
    assert KEY not in repr(record)


def test_a_flow_from_a_file_left_then_and_not_now() -> None:
    flow = tflow.tflow()
    flow.live = False
    flow.request.timestamp_end = 1234.5
    record = open_row(flow, REQUEST, recording(), dialect="d", operation="o", model=None, stream=False)
    assert record.started_at == 1234.5


def test_finish_reasons_stand_in_the_order_of_their_choices() -> None:
    record = Record("u", "f", 0.0)
    take_seen(record, Observation(finish_reasons={2: "c", 0: "a", 1: None}))
    assert record.finish_reasons == ["a", None, "c"]


def test_the_payloads_error_comes_before_mitmproxys() -> None:
    record, seen = Record("u", "f", 0.0), Observation()
    seen.fail("invalid_api_key", f"Incorrect API key provided: {KEY}")
    take_seen(record, seen)
    conclude(record, seen, End(http_status=401), REQUEST, "Client disconnected.")
    assert (record.status, record.end_reason) == ("error", "http_error")
    assert (record.error_type, record.error_message) == ("invalid_api_key", "Incorrect API key provided: ***")


def test_mitmproxys_message_is_the_error_where_the_payload_has_none() -> None:
    record = Record("u", "f", 0.0)
    conclude(record, Observation(), End(cut="upstream"), REQUEST, "m" * 900)
    assert (record.error_type, record.error_message) == ("upstream_disconnected", "m" * 500)


def test_an_abort_is_no_error() -> None:
    record = Record("u", "f", 0.0)
    conclude(record, Observation(), End(cut="client"), REQUEST, "Client disconnected.")
    assert (record.status, record.error_type) == ("aborted", None)


def test_times() -> None:
    record = Record("u", "f", 1000.0)
    timed(record, 2.00049, 0.5)
    assert (record.duration, record.ended_at, record.time_to_first_chunk) == (2.0, 1002.0, 0.5)


def test_times_of_a_flow_are_its_own_and_never_negative() -> None:
    flow = tflow.tflow(resp=True)
    assert flow.response is not None
    flow.response.timestamp_end = 999.0
    record = Record("u", "f", 1000.0)
    timed_by_flow(record, flow)
    assert record.duration == pytest.approx(0.0)
    flow = tflow.tflow(err=True)
    assert flow.error is not None
    record = Record("u", "f", flow.error.timestamp - 3)
    timed_by_flow(record, flow)
    assert record.duration == pytest.approx(3.0)
