"""Content codings, piece by piece: whatever goes in comes out at once, so that a compressed stream still streams."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from typing import Any, Protocol

import brotli


class Compressor(Protocol):
    """One coding of one body."""

    def feed(self, data: bytes) -> bytes:
        """Compress and flush, so that the other side can decode all of `data` now."""
        ...

    def finish(self) -> bytes:
        """The coding's trailer."""
        ...


class _Zlib:
    def __init__(self, wbits: int) -> None:
        self._zlib = zlib.compressobj(6, zlib.DEFLATED, wbits)

    def feed(self, data: bytes) -> bytes:
        return self._zlib.compress(data) + self._zlib.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._zlib.flush()


class _Brotli:
    def __init__(self) -> None:
        self._brotli = brotli.Compressor(quality=4)

    def feed(self, data: bytes) -> bytes:
        return bytes(self._brotli.process(data) + self._brotli.flush())

    def finish(self) -> bytes:
        return bytes(self._brotli.finish())


class _Zstd:
    """mitmproxy up to 12.2 brings `zstandard`, later ones `backports.zstd` or Python 3.14's own module."""

    def __init__(self) -> None:
        module = zstd_module()
        compressor: Any
        self._flush: Callable[[bytes], bytes]
        if module.__name__ == "zstandard":
            compressor = module.ZstdCompressor().compressobj()
            self._flush = lambda data: compressor.compress(data) + compressor.flush(module.COMPRESSOBJ_FLUSH_BLOCK)
        else:
            compressor = module.ZstdCompressor()
            self._flush = lambda data: compressor.compress(data, compressor.FLUSH_BLOCK)
        self._end: Callable[[], bytes] = compressor.flush

    def feed(self, data: bytes) -> bytes:
        return self._flush(data)

    def finish(self) -> bytes:
        return self._end()


def zstd_module() -> Any:
    """Whichever zstd library is there; ModuleNotFoundError if none is."""
    for name in ("zstandard", "backports.zstd", "compression.zstd"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError("no zstd library is installed; `pip install zstandard`")


class Stack:
    """Several codings, applied in the order in which `Content-Encoding` names them; none of them is identity."""

    def __init__(self, codings: list[str]) -> None:
        self._compressors = [_COMPRESSORS[coding]() for coding in codings]

    def feed(self, data: bytes) -> bytes:
        """Through all of them, flushed."""
        for compressor in self._compressors:
            data = compressor.feed(data)
        return data

    def finish(self) -> bytes:
        """The trailers, each through the codings after it."""
        tail = b""
        for compressor in self._compressors:
            tail = (compressor.feed(tail) if tail else b"") + compressor.finish()
        return tail


_COMPRESSORS: dict[str, Any] = {
    "gzip": lambda: _Zlib(31),
    "deflate": lambda: _Zlib(15),
    "deflate_raw": lambda: _Zlib(-15),
    "br": _Brotli,
    "zstd": _Zstd,
}


def codings_of(encoding: str | None) -> list[str]:
    """The codings of a behaviour's `encoding` (`gzip+br`), identity left out."""
    return [coding for coding in (encoding or "").split("+") if coding and coding != "identity"]


def content_encoding(codings: list[str]) -> str:
    """The header's value: both forms of deflate bear one name."""
    return ", ".join("deflate" if coding == "deflate_raw" else coding for coding in codings)


def decompress_request(body: bytes, encoding: str) -> bytes:
    """A request body as the client meant it, to look into. An unknown coding or broken bytes raise."""
    for coding in reversed([part.strip().lower() for part in encoding.split(",") if part.strip()]):
        match coding:
            case "gzip" | "x-gzip":
                body = zlib.decompress(body, 31)
            case "deflate":
                body = zlib.decompress(body, 15 if body[:1] == b"\x78" else -15)
            case "br":
                body = brotli.decompress(body)
            case "zstd":
                body = _unzstd(body)
            case "identity":
                pass
            case _:
                raise ValueError(f"content-encoding {coding} is not supported")
    return body


def _unzstd(body: bytes) -> bytes:
    module = zstd_module()
    if module.__name__ == "zstandard":
        return bytes(module.ZstdDecompressor().decompressobj().decompress(body))
    return bytes(module.decompress(body))
