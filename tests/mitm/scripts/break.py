"""Breaks the function of ours that a request names (`x-break: usagetap.reader.Reader.feed`), until the next request."""

from __future__ import annotations

import importlib
from typing import Any

from mitmproxy import http

_broken: list[tuple[Any, str, Any]] = []


def requestheaders(flow: http.HTTPFlow) -> None:
    """Load this before the addon: its hooks come after ours."""
    while _broken:
        setattr(*_broken.pop())
    if target := flow.request.headers.get("x-break"):
        owner, name = _find(target)
        _broken.append((owner, name, vars(owner)[name]))
        setattr(owner, name, _raise)


def _find(target: str) -> tuple[Any, str]:
    names = target.split(".")
    for length in range(len(names) - 1, 0, -1):
        try:
            owner: Any = importlib.import_module(".".join(names[:length]))
        except ModuleNotFoundError:
            continue
        for name in names[length:-1]:
            owner = getattr(owner, name)
        return owner, names[-1]
    raise LookupError(target)


def _raise(*_: object, **__: object) -> Any:
    raise RuntimeError("broken on purpose")
