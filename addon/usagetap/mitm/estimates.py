"""Estimates of what the provider never counted: gathered while a stream passes, counted when it has ended badly.

What passed is kept as raw bytes up to a bound; only a longer stream is counted on the way, on a thread of its own. So a
stream that ends with its usage costs no count at all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import orjson

from usagetap.framing import Framing
from usagetap.model import Record, Request
from usagetap.reader import framing_for

log = logging.getLogger(__name__)

GATHERED = 1 << 20
"""Bytes of a stream that wait for a count: some 3,000 frames, more than nearly any answer has. Beyond, they are
counted on the way, at some 10 µs a frame."""
COUNTED = 32 << 20
"""Bytes of a stream after which no estimate is made: no answer is that long, and counting takes the
proxy's own time."""

_counting = ThreadPoolExecutor(max_workers=1, thread_name_prefix="usage-estimate")


class Passed:
    """The bytes of one stream that an estimate may need. `watch` is the reader's."""

    def __init__(self, model: str | None, dialect: str, body: Any) -> None:
        self.model, self.dialect, self.body = model, dialect, body
        self._waiting: list[bytes] = []
        self._size = self._total = 0
        self._tally: Any = None
        self._framing: Framing | None = None
        self._running: Future[None] | None = None

    def watch(self, text: bytes) -> None:
        """Keep `text`; beyond the bound, have it counted on another thread."""
        if self._total > COUNTED:
            return
        if self._size > GATHERED and self._running is not None and not self._running.done():
            self._total = COUNTED + 1  # it comes faster than it can be counted: no person reads that
            self._waiting.clear()
            return
        self._waiting.append(text)
        self._size += len(text)
        self._total += len(text)
        if self._size > GATHERED and (self._running is None or self._running.done()):
            taken, self._waiting, self._size = b"".join(self._waiting), [], 0
            self._running = _counting.submit(self._count, taken)

    def output(self) -> int | None:
        """Tokens of what has passed, by now; on the writer's thread, after the end."""
        if self._total > COUNTED:
            return None
        if self._running is not None:
            self._running.result(timeout=10)
        self._count(b"".join(self._waiting))
        self._waiting.clear()
        return None if self._tally is None else int(self._tally.total)

    def input(self) -> int | None:
        """Tokens of the request."""
        return None if self.body is None else estimator().count_request(self.model, self.body)

    def _count(self, taken: bytes) -> None:
        if self._tally is None:
            self._tally = estimator().tally(self.model, self.dialect, self.body)
            self._framing = framing_for(taken)
        if self._tally is None or self._framing is None:
            return
        for frame in self._framing.feed(taken):
            payload = self._framing.payload(frame)
            if payload:
                try:
                    self._tally.observe(orjson.loads(payload))
                except orjson.JSONDecodeError:
                    continue  # `[DONE]`, or no JSON


def estimator() -> Any:
    """The estimator; imported where it is used, on another thread than the proxy's."""
    from usagetap.estimate import Estimator

    return Estimator()


def available() -> bool:
    """Whether the extra `estimate` is installed."""
    from importlib.util import find_spec

    return find_spec("bpe_openai") is not None


def passed_for(request: Request, model: str | None, dialect: str) -> Passed:
    """What gathers for the estimate of one response."""
    return Passed(model, dialect, request.body)


def finish_for(record: Record, passed: Passed | None) -> Callable[[Record], None] | None:
    """The writer's `finish` for a record that has ended: estimates; `None` where the provider has the last word."""
    if passed is None or record.usage_quality not in ("missing", "partial"):
        return None

    def finish(record: Record) -> None:
        if record.usage.input_tokens is None:
            record.estimated_input_tokens = passed.input()
        record.estimated_output_tokens = passed.output()
        estimated = (record.estimated_input_tokens, record.estimated_output_tokens)
        if record.usage_quality == "missing" and estimated != (None, None):
            record.usage_quality = "estimated"

    return finish
