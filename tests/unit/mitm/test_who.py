"""Who ended an exchange, by what mitmproxy leaves to be read. (Real endings: tests/mitm/test_ends.py.)"""

from __future__ import annotations

import pytest
from mitmproxy.connection import ConnectionState
from mitmproxy.flow import Error
from mitmproxy.http import HTTPFlow
from mitmproxy.test import taddons, tflow

from usagetap.dialects.unknown import Unknown
from usagetap.mitm.exchange import Exchange
from usagetap.mitm.who import cut_of, killed
from usagetap.model import Record, Request

OPEN, CLOSED = ConnectionState.OPEN, ConnectionState.CLOSED


def ended(message: str, *, client: ConnectionState = OPEN, server: ConnectionState = OPEN, **named: bool) -> HTTPFlow:
    flow = tflow.tflow(resp=named.get("resp", True))
    flow.live = named.get("live", True)
    flow.error = Error(message)
    flow.client_conn.state, flow.server_conn.state = client, server
    flow.server_conn.timestamp_tcp_setup = 1.0 if named.get("connected", True) else None
    return flow


@pytest.mark.parametrize(
    ("flow", "cut"),
    [
        (ended("Client disconnected.", client=CLOSED, server=CLOSED), "client"),
        (ended("peer closed connection", client=CLOSED), "client"),
        (ended("HTTP/1 protocol error: … (incomplete chunked read)", server=CLOSED), "upstream"),
        (ended("server closed connection", server=CLOSED, resp=False), "upstream"),
        (ended("[Errno 111] Connect call failed", server=CLOSED, resp=False, connected=False), "connect"),
        (ended("client disconnected", client=CLOSED, server=CLOSED, resp=False, connected=False), "client"),
        (ended("Connection killed."), "killed"),
        (ended("stream reset by client (CANCEL)"), "client"),
        (ended("stream reset by client (INTERNAL_ERROR)"), "upstream"),
        (ended("Client disconnected.", live=False, client=CLOSED, server=CLOSED), "client"),
        (ended("server closed connection", live=False, client=CLOSED, server=CLOSED), "upstream"),
    ],
)
def test_who(flow: HTTPFlow, cut: str) -> None:
    with taddons.context():  # without a proxyserver nobody can be asked: the words decide
        assert cut_of(flow) == cut


@pytest.mark.parametrize(("was", "is_", "expected"), [(True, False, True), (True, True, False), (False, False, False)])
def test_a_killed_flow_is_live_no_more(was: bool, is_: bool, expected: bool) -> None:
    known = Exchange(Record("u", "f", 0.0), Request("POST", "h", 443, "/"), Unknown(), 0.0, live=was)
    assert killed(ended("anything", live=is_), known) is expected
