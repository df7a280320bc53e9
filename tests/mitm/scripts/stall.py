"""A disk that stalls: `x-stall: on` stops the addon's writer, with 100 rows in memory, until `x-stall: off`."""

import threading

from mitmproxy import http

from usagetap.mitm import recording

_goes_on = threading.Event()


def requestheaders(flow: http.HTTPFlow) -> None:
    """Loaded after the addon."""
    told = flow.request.headers.pop("x-stall", "")
    if told == "on":
        writer = recording.current().writer
        writer._queue_limit = 100
        writer.submit(lambda _: _goes_on.wait(60))
    elif told == "off":
        _goes_on.set()
