"""The proxy to compare with: it streams what our addon streams, and does nothing else."""

from mitmproxy import http


def responseheaders(flow: http.HTTPFlow) -> None:
    """Stream every answer that says it is a stream."""
    if flow.response and "event-stream" in flow.response.headers.get("content-type", ""):
        flow.response.stream = True
