"""Another addon that takes its time: `x-slow: request` or `x-slow: response`, until the client has gone."""

import asyncio

from mitmproxy import http
from mitmproxy.connection import ConnectionState


async def request(flow: http.HTTPFlow) -> None:
    """Before the request leaves."""
    await _wait(flow, "request")


async def response(flow: http.HTTPFlow) -> None:
    """Before the end reaches the client."""
    await _wait(flow, "response")


async def _wait(flow: http.HTTPFlow, where: str) -> None:
    if flow.request.headers.get("x-slow") == where:
        for _ in range(500):
            if flow.client_conn.state is not ConnectionState.OPEN:
                break
            await asyncio.sleep(0.01)
