"""AWS event stream (`application/vnd.amazon.eventstream`), incremental and CRC-checked.

https://smithy.io/2.0/aws/amazon-eventstream.html: total length, headers length, CRC of these eight bytes, headers,
payload, CRC of all before it; all big-endian. A frame leaves here as the JSON text of one object whose only key is the
event type, `{"metadata": {…}}`; an exception as `{"exception": {…}, "type": "throttlingException"}`; a `chunk` event of
invoke-with-response-stream as the model's own JSON that it carries in base64.
"""

from __future__ import annotations

import binascii
import re
import struct
import zlib

import orjson

_PRELUDE = struct.Struct(">III")
_CRC_SIZE = 4
_OVERHEAD = _PRELUDE.size + _CRC_SIZE
_HEADERS_LIMIT = 128 << 10
_MESSAGE_LIMIT = (24 << 20) + _HEADERS_LIMIT + _OVERHEAD
"""The format allows 24 MiB of payload and 128 KiB of headers; what announces more is garbage, and so is the rest."""
_VALUE_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type: true, false, byte, short, int, long, timestamp, uuid."""
_BYTES, _STRING = 6, 7
_CARRIED = re.compile(rb'"bytes"\s*:\s*"([^"]*)"')


class EventStream:
    """The framing. At the first broken message `broken` says why, and nothing is read any more: what follows a wrong
    length cannot be found again. A message over `limit` is passed over without being held."""

    def __init__(self, limit: int) -> None:
        self.oversized = False
        self.broken: str | None = None
        self._limit = limit
        self._held = bytearray()
        self._skip = 0  # bytes still to come of a message that is too long

    def feed(self, chunk: bytes) -> list[bytes]:
        """The frames that `chunk` completes; none from the first broken message on."""
        if self.broken is not None:
            return []
        if self._skip:
            skipped = min(self._skip, len(chunk))
            self._skip -= skipped
            chunk = chunk[skipped:]
        self._held += chunk
        frames: list[bytes] = []
        try:
            at = self._read(frames)
        except _BrokenError as error:
            self.broken = f"broken event stream: {error}"
            self._held.clear()
        else:
            del self._held[:at]
        return frames

    def _read(self, frames: list[bytes]) -> int:
        """Add the frames that are whole to `frames`; returns where the first one that is not begins."""
        held, at = self._held, 0
        while len(held) - at >= _PRELUDE.size:
            total, headers_size, crc = _PRELUDE.unpack_from(held, at)
            if zlib.crc32(held[at : at + 8]) != crc:
                raise _BrokenError("wrong CRC of a length")
            if total > _MESSAGE_LIMIT or headers_size > _HEADERS_LIMIT or total < headers_size + _OVERHEAD:
                raise _BrokenError("impossible length")
            left = len(held) - at - total
            if total > self._limit:
                self.oversized = True
                self._skip = max(0, -left)
            elif left < 0:
                break
            else:
                frames.append(_frame(memoryview(bytes(held[at : at + total])), headers_size))
            at += min(total, len(held) - at)
        return at

    def finish(self) -> list[bytes]:
        """Nothing: a message without its CRC is none."""
        self._held.clear()
        return []

    def payload(self, frame: bytes) -> bytes | None:
        """A frame is JSON already."""
        return frame


class _BrokenError(Exception):
    """A wrong CRC, an impossible length, headers that do not fit."""


def _frame(message: memoryview, headers_size: int) -> bytes:
    if zlib.crc32(message[:-_CRC_SIZE]) != int.from_bytes(message[-_CRC_SIZE:], "big"):
        raise _BrokenError("wrong CRC of a message")
    headers = _headers(bytes(message[_PRELUDE.size : _PRELUDE.size + headers_size]))
    payload = bytes(message[_PRELUDE.size + headers_size : -_CRC_SIZE])
    if headers.get(":message-type", "event") != "event":
        return _exception(headers, payload)
    event = headers.get(":event-type", "")
    if event == "chunk":
        inner = _base64_bytes(payload)
        if inner is not None:
            return inner
    return b"{" + orjson.dumps(event) + b":" + (payload or b"null") + b"}"


def _exception(headers: dict[str, str], payload: bytes) -> bytes:
    """A modelled exception (its payload is JSON), or an error, which has two headers and no payload."""
    kind = headers.get(":exception-type") or headers.get(":error-code") or "exception"
    told = payload or orjson.dumps({"message": headers.get(":error-message")})
    return b'{"exception":' + told + b',"type":' + orjson.dumps(kind) + b"}"


def _base64_bytes(payload: bytes) -> bytes | None:
    """What `{"bytes":"…"}` carries; searched, not parsed: this is every frame of an invoke stream."""
    found = _CARRIED.search(payload)
    if found is None:
        return None
    try:
        return binascii.a2b_base64(found[1])
    except binascii.Error:
        return None


def _headers(block: bytes) -> dict[str, str]:
    """The string headers; others are stepped over. Raises where the block is impossible."""
    headers: dict[str, str] = {}
    at = 0
    try:
        while at < len(block):
            name_end = at + 1 + block[at]
            name = block[at + 1 : name_end].decode("ascii", "replace")
            kind = block[name_end]
            at = name_end + 1
            if kind in (_BYTES, _STRING):
                size = int.from_bytes(block[at : at + 2], "big")
                if kind == _STRING:
                    headers[name] = block[at + 2 : at + 2 + size].decode("utf-8", "replace")
                at += 2 + size
            else:
                at += _VALUE_SIZES[kind]
    except (IndexError, KeyError):
        raise _BrokenError("impossible headers") from None
    if at != len(block):
        raise _BrokenError("impossible headers")
    return headers
