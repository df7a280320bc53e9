"""Content-Encoding, undone incrementally on a copy of the stream: gzip, deflate, br, zstd and stacks of them.

Output comes in bounded pieces, so that a compression bomb costs neither memory nor more than a bounded time.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import brotli

PIECE = 1 << 20
"""Bytes of decoded output handed on at a time."""
BOMB_FLOOR = 16 << 20
"""Decoded bytes that are always allowed, whatever the ratio: small bodies can be very regular."""
BOMB_RATIO = 200
"""Beyond the floor: decoded bytes allowed per encoded byte. Recorded SSE streams reach 40; a bomb has
1,000 and more."""


class DecodeError(Exception):
    """The bytes are not what Content-Encoding says, or expand beyond all measure."""


class Stage(Protocol):
    """One coding of a stack."""

    def feed(self, encoded: bytes) -> Iterator[bytes]:
        """Yield what `encoded` adds, in pieces of about `PIECE` bytes."""


class _Zlib:
    """gzip (also several members in a row), zlib and raw deflate; a body that is declared gzip but plain passes."""

    def __init__(self, *, raw_allowed: bool) -> None:
        self._raw_allowed = raw_allowed
        self._head = b""
        self._inflate: Any = None
        self._members = 0
        self._plain = self._over = False

    def feed(self, encoded: bytes) -> Iterator[bytes]:
        if self._plain:
            yield encoded
            return
        encoded, self._head = self._head + encoded, b""
        full = False
        while (encoded or full) and not self._over:
            if self._inflate is None:
                if len(encoded) < 2:
                    self._head = encoded
                    return
                if self._begin(encoded):
                    continue
                yield encoded
                return
            piece = self._inflate.decompress(encoded, PIECE)
            full = len(piece) >= PIECE  # then zlib may hold more, although it has taken in all that it was given
            encoded = self._inflate.unconsumed_tail
            if self._inflate.eof:
                encoded, full, self._inflate = self._inflate.unused_data, False, None
            yield piece

    def _begin(self, head: bytes) -> bool:
        """Set up the next member; false where there is none to undo."""
        first = int.from_bytes(head[:2], "big")
        self._members += 1
        if self._members > 1 and first != 0x1F8B:
            self._over = True  # padding after the last member is not ours to judge
        elif first == 0x1F8B or (head[0] & 15 == 8 and first % 31 == 0):
            self._inflate = zlib.decompressobj(47)
        else:  # "deflate" is zlib by the standard and raw by habit; "gzip" without its magic is a plain body
            self._plain = not self._raw_allowed
            self._inflate = None if self._plain else zlib.decompressobj(-15)
        return not self._plain


class _Brotli:
    def __init__(self) -> None:
        self._decompressor = brotli.Decompressor()
        self._bounded = hasattr(self._decompressor, "can_accept_more_data")

    def feed(self, encoded: bytes) -> Iterator[bytes]:
        if not self._bounded:  # brotli up to 1.1 (mitmproxy 12.1) has no output limit: small slices are the next best
            for start in range(0, len(encoded), 16):
                yield self._decompressor.process(encoded[start : start + 16])
            return
        piece = self._decompressor.process(encoded, output_buffer_limit=PIECE)
        # also with all input taken it may owe more: of one flushed block it gives 32 KiB a call (brotli 1.2)
        while piece or not self._decompressor.can_accept_more_data():
            yield piece
            piece = self._decompressor.process(b"", output_buffer_limit=PIECE)


class _Zstd:
    """zstd through the standard-library interface (`compression.zstd`, `backports.zstd`); frames may follow another."""

    def __init__(self, new: Callable[[], Any]) -> None:
        self._new = new
        self._decompressor = new()

    def feed(self, encoded: bytes) -> Iterator[bytes]:
        while True:
            if self._decompressor.eof:
                encoded = self._decompressor.unused_data + encoded
                if not encoded:
                    return
                self._decompressor = self._new()
            yield self._decompressor.decompress(encoded, PIECE)
            encoded = b""
            if not self._decompressor.eof and self._decompressor.needs_input:
                return


class _Zstandard:
    """zstd through the `zstandard` package, which mitmproxy up to 12.2 brings."""

    def __init__(self, module: Any) -> None:
        self._decompressor = module.ZstdDecompressor().decompressobj(read_across_frames=True)

    def feed(self, encoded: bytes) -> Iterator[bytes]:
        # decompressobj has no output limit: small slices bound what one call can make (4 bytes may be a 128 KiB block)
        for start in range(0, len(encoded), 256):
            yield self._decompressor.decompress(encoded[start : start + 256])


def _zstd() -> Stage:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return _Zstd(importlib.import_module(name).ZstdDecompressor)
        except ImportError:
            continue
    return _Zstandard(importlib.import_module("zstandard"))


_STAGES: dict[str, Callable[[], Stage]] = {
    "gzip": lambda: _Zlib(raw_allowed=False),
    "x-gzip": lambda: _Zlib(raw_allowed=False),
    "deflate": lambda: _Zlib(raw_allowed=True),
    "br": _Brotli,
    "zstd": _zstd,
}


def codings(header: str | None) -> list[str]:
    """The codings that a Content-Encoding header names, in the order they were applied, without `identity`."""
    names = (name.strip().lower() for name in (header or "").split(","))
    return [name for name in names if name and name != "identity"]


_MAGIC = {b"\x28\xb5\x2f\xfd": "zstd", b"\x1f\x8b\x08": "gzip"}


def sniff(head: bytes) -> list[str] | None:
    """The coding that undeclared bytes give away by their magic number (cc-switch #3901: zstd without a header).

    `None` for a beginning too short to tell.
    """
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return [name]
        if magic.startswith(head):
            return None
    return []


class Decoder:
    """Undoes a stack of codings: `feed` yields pieces of plain bytes as soon as they can be had.

    Raises `DecodeError` for an unknown coding, for broken input and for a bomb; after that it is of no more use.
    """

    def __init__(self, names: Sequence[str]) -> None:
        unknown = [name for name in names if name not in _STAGES]
        if unknown:
            raise DecodeError(f"unknown Content-Encoding {unknown[0]!r}")
        if len(names) > 4:
            raise DecodeError("more than four stacked Content-Encodings")
        self._stages = [_STAGES[name]() for name in reversed(names)]
        self._encoded = self._decoded = 0

    def feed(self, encoded: bytes) -> Iterator[bytes]:
        """Yield the plain bytes that `encoded` adds; empty pieces are left out."""
        self._encoded += len(encoded)
        try:
            yield from self._through(encoded, 0)
        except DecodeError:
            raise
        except Exception as error:  # zlib.error, brotli.error, ZstdError: no common base but this one
            raise DecodeError(f"broken Content-Encoding: {error}") from error

    def _through(self, encoded: bytes, stage: int) -> Iterator[bytes]:
        if stage == len(self._stages):
            yield encoded
            return
        for piece in self._stages[stage].feed(encoded):
            self._decoded += len(piece)
            if self._decoded > BOMB_FLOOR and self._decoded > BOMB_RATIO * self._encoded:
                raise DecodeError(f"expands more than {BOMB_RATIO} times: not decoded further")
            if piece:
                yield from self._through(piece, stage + 1)


def decode(body: bytes, header: str | None, limit: int) -> bytes:
    """The plain bytes of a whole body; raises `DecodeError` where it cannot be had within `limit` bytes."""
    names = codings(header)
    if not names:
        return body
    plain = bytearray()
    for piece in Decoder(names).feed(body):
        plain += piece
        if len(plain) > limit:
            raise DecodeError(f"more than {limit} bytes when decoded")
    return bytes(plain)


def encode(body: bytes, header: str | None) -> bytes:
    """`body` encoded again as `header` says; raises `DecodeError` for a coding that we cannot write."""
    for name in codings(header):
        if name in ("gzip", "x-gzip", "deflate"):
            compress = zlib.compressobj(6, zlib.DEFLATED, 15 if name == "deflate" else 31)
            body = compress.compress(body) + compress.flush()
        elif name == "br":
            body = brotli.compress(body, quality=4)
        elif name == "zstd":
            body = _zstd_compress(body)
        else:
            raise DecodeError(f"unknown Content-Encoding {name!r}")
    return body


def _zstd_compress(body: bytes) -> bytes:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            plain: bytes = importlib.import_module(name).compress(body)
            return plain
        except ImportError:
            continue
    packed: bytes = importlib.import_module("zstandard").ZstdCompressor().compress(body)
    return packed
