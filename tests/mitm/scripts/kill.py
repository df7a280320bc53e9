"""Kills flows as a person does in the UI: at the request, or after as many chunks as the header `x-kill: N` says."""

from collections.abc import Callable, Iterable

from mitmproxy import http


def request(flow: http.HTTPFlow) -> None:
    """Kill before anything leaves."""
    if flow.request.headers.get("x-kill") == "0":
        flow.kill()


def responseheaders(flow: http.HTTPFlow) -> None:
    """Kill in mid-stream, by a callable around the addon's own."""
    after = int(flow.request.headers.get("x-kill", "0"))
    if flow.response and after:
        flow.response.stream = _killing(flow, after)


def _killing(flow: http.HTTPFlow, after: int) -> Callable[[bytes], bytes | Iterable[bytes]]:
    assert flow.response
    tap = flow.response.stream
    seen = 0

    def kill(chunk: bytes) -> bytes | Iterable[bytes]:
        nonlocal seen
        seen += 1
        if seen == after and flow.killable:
            flow.kill()
        return tap(chunk) if callable(tap) else chunk

    return kill
