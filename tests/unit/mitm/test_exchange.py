"""What is remembered of a flow, for as long as there is the flow."""

from __future__ import annotations

import gc

from mitmproxy.test import tflow

from usagetap.dialects.unknown import Unknown
from usagetap.mitm import exchange
from usagetap.mitm.exchange import Exchange
from usagetap.model import Record, Request


def known() -> Exchange:
    request = Request("POST", "h", 443, "/", body={"messages": ["a prompt"]})
    return Exchange(Record("u", "f", 0.0), request, Unknown(), 0.0, original=b"a prompt", credential="sk-1")


def test_an_exchange_is_found_by_its_flow_and_goes_with_it() -> None:
    flow = tflow.tflow()
    assert exchange.of(flow) is None
    exchange.begin(flow, known())
    assert exchange.of(flow) is not None
    number = flow.id
    assert number in [each.id for each, _ in exchange.in_flight()]
    del flow
    gc.collect()
    assert number not in [each.id for each, _ in exchange.in_flight()]


def test_a_replayed_flow_gets_a_new_one() -> None:
    flow = tflow.tflow()
    first, second = known(), known()
    exchange.begin(flow, first)
    exchange.begin(flow, second)
    assert exchange.of(flow) is second


def test_what_has_ended_is_not_in_flight_and_keeps_no_body_and_no_key() -> None:
    flow = tflow.tflow()
    mine = known()
    exchange.begin(flow, mine)
    mine.ended = True
    mine.forget()
    assert flow not in [each for each, _ in exchange.in_flight()]
    assert (mine.original, mine.credential, mine.request.body) == (None, None, None)
