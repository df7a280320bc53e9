"""A clock that can be set: a request with the header `x-clock: SECONDS` sets it off by so many."""

import time

from mitmproxy import http

_true = time.time
_off = 0.0


def _time() -> float:
    return _true() + _off


time.time = _time


def requestheaders(flow: http.HTTPFlow) -> None:
    """Set it before anything else looks at it."""
    global _off  # noqa: PLW0603 - there is one clock
    if told := flow.request.headers.pop("x-clock", ""):
        _off = float(told)
