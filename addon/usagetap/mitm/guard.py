"""Fail open: whatever goes wrong in a hook is logged, once per flow, and the traffic goes on."""

from __future__ import annotations

import functools
import logging
import traceback
import weakref
from collections.abc import Callable
from pathlib import Path

from mitmproxy import http

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


_reported: weakref.WeakSet[http.HTTPFlow] = weakref.WeakSet()


def report(flow: object, where: str, error: Exception) -> None:
    """Log a failure of ours; of one flow only the first."""
    if isinstance(flow, http.HTTPFlow):
        if flow in _reported:
            return
        _reported.add(flow)
    log.error("usage: %s: this flow goes on unrecorded from here", failure(error, where))


def failure(error: Exception, where: str) -> str:
    """A failure of ours in one line, with the way to it. What the exception says may quote traffic: it is left out."""
    way = traceback.extract_tb(error.__traceback__)[-4:]
    steps = " < ".join(f"{Path(step.filename).name}:{step.lineno} {step.name}" for step in reversed(way))
    return f"{type(error).__name__} in {where} ({steps or 'no trace'})"
