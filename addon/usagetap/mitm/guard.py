"""Fail open: whatever goes wrong in a hook is logged, once per flow, and the traffic goes on."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

from mitmproxy import http

from usagetap.mitm import exchange

log = logging.getLogger(__name__)


def fail_open[**P, T](hook: Callable[P, T]) -> Callable[P, T | None]:
    """A hook that never raises; where it fails it returns `None`."""

    @functools.wraps(hook)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return hook(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the one promise
            report(args[1] if len(args) > 1 else None, hook.__name__, error)
            return None

    return guarded


def report(flow: object, where: str, error: Exception) -> None:
    """Log a failure of ours; of one flow only the first."""
    known = exchange.of(flow) if isinstance(flow, http.HTTPFlow) else None
    if known is not None:
        if known.reported:
            return
        known.reported = True
    log.error("usage: %s in %s: this flow goes on unrecorded from here", type(error).__name__, where, exc_info=error)
