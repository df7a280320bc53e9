"""AWS event stream (`application/vnd.amazon.eventstream`), incremental and CRC-checked.

https://smithy.io/2.0/aws/amazon-eventstream.html: total length, headers length, CRC of these eight bytes, headers,
payload, CRC of all before it; all big-endian. A frame leaves here as the JSON text of one object whose only key is the
event type, `{"metadata": {…}}`; an exception as `{"exception": {…}, "type": "throttlingException"}`; a `chunk` event of
invoke-with-response-stream as the model's own JSON that it carries in base64.
"""

from __future__ import annotations

import binascii
import struct
import zlib

import orjson

_PRELUDE = struct.Struct(">III")
_OVERHEAD = 16
_VALUE_SIZE = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_MESSAGE_LIMIT = 24 << 20
"""AWS allows 16 MiB of payload; what announces more than this is garbage, and nothing after it can be trusted."""


class EventStreamError(Exception):
    """The bytes are no event stream: a wrong CRC or an impossible length. What follows cannot be found again."""


class EventStream:
    """The framing; `feed` raises `EventStreamError` at the first broken message."""

    def __init__(self, limit: int) -> None:
        self.oversized = False
        self._limit = limit
        self._held = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        self._held += chunk
        frames: list[bytes] = []
        at = 0
        while len(self._held) - at >= _PRELUDE.size:
            total, headers_length, crc = _PRELUDE.unpack_from(self._held, at)
            if zlib.crc32(self._held[at : at + 8]) != crc or not _OVERHEAD <= total <= _MESSAGE_LIMIT:
                raise EventStreamError("broken event stream: prelude")
            if len(self._held) - at < total:
                break
            message = bytes(self._held[at : at + total])
            at += total
            if total > self._limit:
                self.oversized = True
            else:
                frames.append(_frame(message, headers_length))
        del self._held[:at]
        return frames

    def finish(self) -> list[bytes]:
        self._held.clear()
        return []

    def payload(self, frame: bytes) -> bytes | None:
        return frame


def _frame(message: bytes, headers_length: int) -> bytes:
    if zlib.crc32(message[:-4]) != int.from_bytes(message[-4:], "big"):
        raise EventStreamError("broken event stream: message")
    headers = _headers(message[12 : 12 + headers_length])
    payload = message[12 + headers_length : -4] or b"null"
    kind = headers.get(":exception-type") or headers.get(":error-code")
    if headers.get(":message-type", "event") != "event":
        message_text = headers.get(":error-message")
        told = payload if payload != b"null" else orjson.dumps({"message": message_text})
        return b'{"exception":' + told + b',"type":' + orjson.dumps(kind or "exception") + b"}"
    event = headers.get(":event-type", "")
    if event == "chunk":
        inner = _base64_bytes(payload)
        if inner is not None:
            return inner
    return b"{" + orjson.dumps(event) + b":" + payload + b"}"


def _base64_bytes(payload: bytes) -> bytes | None:
    start = payload.find(b'"bytes":"') + 9
    if start < 9:
        return None
    try:
        return binascii.a2b_base64(payload[start : payload.find(b'"', start)])
    except binascii.Error:
        return None


def _headers(block: bytes) -> dict[str, str]:
    """The string headers; others are stepped over. Raises `EventStreamError` where the block is impossible."""
    headers: dict[str, str] = {}
    at = 0
    try:
        while at < len(block):
            name_end = at + 1 + block[at]
            name = block[at + 1 : name_end].decode("ascii", "replace")
            kind = block[name_end]
            at = name_end + 1
            if kind in (6, 7):
                size = int.from_bytes(block[at : at + 2], "big")
                if kind == 7:
                    headers[name] = block[at + 2 : at + 2 + size].decode("utf-8", "replace")
                at += 2 + size
            else:
                at += _VALUE_SIZE[kind]
    except (IndexError, KeyError):
        raise EventStreamError("broken event stream: headers") from None
    return headers
