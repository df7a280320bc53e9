"""Content-Encoding, undone as it arrives. (At any split: tests/property/test_encoding.py.)"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from typing import Any

import pytest

from usagetap import encoding
from usagetap.encoding import DecodeError, Decoder, codings, decode, encode, sniff
from usagetap.upstream.compress import Stack

ZSTD_MODULES = [
    name for name in ("compression.zstd", "backports.zstd", "zstandard") if importlib.util.find_spec(name.split(".")[0])
]
BODY = b'data: {"usage":null}\n\n' * 30


@pytest.mark.parametrize(
    ("header", "names"),
    [
        (None, []),
        ("", []),
        ("identity", []),
        ("GZIP", ["gzip"]),
        (" br , gzip", ["br", "gzip"]),
        ("gzip,,identity, zstd", ["gzip", "zstd"]),
    ],
)
def test_what_a_header_names(header: str | None, names: list[str]) -> None:
    assert codings(header) == names


@pytest.mark.parametrize(
    ("head", "names"),
    [
        (b"\x1f\x8b\x08\x00", ["gzip"]),
        (b"\x28\xb5\x2f\xfd", ["zstd"]),
        (b"data", []),
        (b"(b", []),
        (b"\x1f\x8b", None),
        (b"", None),
    ],
)
def test_first_bytes_give_a_coding_away(head: bytes, names: list[str] | None) -> None:
    assert sniff(head) == names


@pytest.mark.parametrize("name", ["gzip", "x-gzip", "deflate", "br", "zstd", "gzip, zstd"])
def test_there_and_back(name: str) -> None:
    encoded = encode(BODY, name)
    assert encoded != BODY
    assert decode(encoded, name, len(BODY)) == BODY
    with pytest.raises(DecodeError, match="more than 100 bytes when decoded"):
        decode(encoded, name, 100)


@pytest.mark.parametrize("name", ["identity", "", None])
def test_plain_stays_plain(name: str | None) -> None:
    assert encode(BODY, name) is BODY
    assert decode(BODY, name, 1) is BODY


@pytest.mark.parametrize("name", ["aes128gcm", "compress", "gzip, dcb"])
def test_an_unknown_coding_is_named(name: str) -> None:
    unknown = name.rpartition(" ")[2]
    with pytest.raises(DecodeError, match=f"unknown Content-Encoding '{unknown}'"):
        Decoder(codings(name))
    with pytest.raises(DecodeError, match=f"unknown Content-Encoding '{unknown}'"):
        encode(BODY, name)


def test_nobody_stacks_five() -> None:
    with pytest.raises(DecodeError, match="more than four"):
        Decoder(["gzip"] * 5)


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_broken_input_keeps_what_came_before(name: str) -> None:
    noise = bytes(range(256)) * 40
    body = noise[::-1] + BODY * 200
    encoded = bytearray(encode(body, name))
    half = len(encoded) // 2
    encoded[half:] = b"\xff" * half
    decoder, plain = Decoder([name]), b""
    with contextlib.suppress(DecodeError):  # zlib may read sense into it
        for at in range(0, half, 10):
            for piece in decoder.feed(bytes(encoded[at : at + 10])):
                plain += piece
    assert body.startswith(plain[:100])
    if name in ("gzip", "deflate"):
        assert len(plain) > 100


def test_noise_is_broken() -> None:
    for name, noise in (("gzip", b"\x1f\x8b" + b"\xff" * 40), ("br", b"\xff" * 40), ("zstd", b"\xff" * 40)):
        with pytest.raises(DecodeError, match="broken Content-Encoding"):
            list(Decoder([name]).feed(noise))


@pytest.fixture(params=ZSTD_MODULES)
def zstd_module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One of the packages that may be there: as if it were the only one."""
    real = importlib.import_module
    try:
        real(request.param)
    except ImportError:
        return "zstandard" if "zstandard" in ZSTD_MODULES else ZSTD_MODULES[0]

    def only(name: str, *more: Any) -> Any:
        if name in ("compression.zstd", "backports.zstd", "zstandard") and name != request.param:
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(encoding.importlib, "import_module", only)
    return str(request.param)


def test_zstd_by_whichever_package_is_there(zstd_module: str) -> None:
    assert zstd_module in ZSTD_MODULES
    two_frames = encode(BODY, "zstd") + encode(b"more", "zstd")
    assert decode(two_frames, "zstd", 1 << 20) == BODY + b"more"


@pytest.mark.parametrize("count", [100, 5_000, 150_000])
@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd", "gzip+br"])
def test_all_that_was_flushed_comes_out_at_once(name: str, count: int) -> None:
    """The end of a stream may be all that a chunk has, and the coding's own trailer may never come."""
    body = b"".join(b'data: {"usage":null,"n":%d}\n\n' % number for number in range(count))
    flushed = Stack(name.split("+")).feed(body)
    assert b"".join(Decoder(name.split("+")).feed(flushed)) == body
