"""Estimates of what the provider never counted: gathered while a stream passes, counted when it has ended badly.

What passed is kept, up to a bound, and counted when it has ended: a stream that ends with its usage costs no count.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from typing import Any

import orjson

from usagetap.framing import Framing
from usagetap.model import Record, Request
from usagetap.reader import framing_for

log = logging.getLogger(__name__)

GATHERED = 1 << 20
"""Bytes of a stream that are kept as they came: some 3,000 frames. What comes after them is compressed, fifty to one
(frames are alike), at a third of a microsecond a frame."""
COUNTED = 32 << 20
"""Bytes of a stream after which no estimate is made: no answer is that long."""
_PIECE = 1 << 20
"""Bytes that are counted at a time."""


class Passed:
    """The bytes of one stream that an estimate may need. `watch` is the reader's."""

    def __init__(self, model: str | None, dialect: str, body: Any) -> None:
        self.model, self.dialect, self.body = model, dialect, body
        self._total = 0
        self._plain: list[bytes] = []
        self._packed: list[bytes] = []
        self._packer: Any = None  # a quarter of a megabyte, that few streams need

    def watch(self, text: bytes) -> None:
        """Keep `text`."""
        self._total += len(text)
        if self._total <= GATHERED or not self._plain:
            self._plain.append(text)
        elif self._total <= COUNTED:
            self._packer = self._packer or zlib.compressobj(1)
            self._packed.append(self._packer.compress(text))
        else:
            self._plain.clear()
            self._packed.clear()

    def output(self) -> int | None:
        """Tokens of what has passed; after the end, on a thread that may take its time."""
        text = b"".join(self._plain)
        if not text or self._total > COUNTED:
            return None
        tally = estimator().tally(self.model, self.dialect, self.body)
        if tally is None:
            return None
        framing = framing_for(text)
        _count(tally, framing, text)
        packed = b"".join([*self._packed, self._packer.flush()]) if self._packer else b""
        unpacker = zlib.decompressobj()
        while packed:
            _count(tally, framing, unpacker.decompress(packed, _PIECE))
            packed = unpacker.unconsumed_tail
        return int(tally.total)

    def input(self) -> int | None:
        """Tokens of the request."""
        return None if self.body is None else estimator().count_request(self.model, self.body)


def _count(tally: Any, framing: Framing, text: bytes) -> None:
    for frame in framing.feed(text):
        payload = framing.payload(frame)
        if payload:
            try:
                tally.observe(orjson.loads(payload))
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
