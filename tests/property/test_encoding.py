"""Compressed in any split equals plain; cut short, what was complete is kept; a bomb is not expanded beyond the
limit."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable

import brotli
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.property.wire import STREAMS, WISHES, Wish, found, read, reader_for, split

from usagetap.dialects import UNKNOWN
from usagetap.encoding import BOMB_FLOOR, BOMB_RATIO, PIECE, DecodeError, Decoder, decode, encode, sniff

SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def raw_deflate(body: bytes) -> bytes:
    compress = zlib.compressobj(6, zlib.DEFLATED, -15)
    return compress.compress(body) + compress.flush()


def gzip_members(body: bytes) -> bytes:
    """Three members in a row, the middle one empty, as `cat a.gz b.gz` makes them."""
    half = len(body) // 2
    return encode(body[:half], "gzip") + encode(b"", "gzip") + encode(body[half:], "gzip")


def zstd_frames(body: bytes) -> bytes:
    half = len(body) // 2
    return encode(body[:half], "zstd") + encode(body[half:], "zstd")


def flushed(body: bytes, *, every: int = 20) -> bytes:
    """gzip as servers stream it: flushed event by event."""
    compress = zlib.compressobj(6, zlib.DEFLATED, 31)
    pieces = [body[at : at + every] for at in range(0, len(body), every)]
    return b"".join(compress.compress(piece) + compress.flush(zlib.Z_SYNC_FLUSH) for piece in pieces) + compress.flush()


WAYS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", lambda body: encode(body, "gzip")),
    "x-gzip": ("X-GZIP", lambda body: encode(body, "x-gzip")),
    "gzip, flushed": ("gzip", flushed),
    "gzip, three members": ("gzip", gzip_members),
    "gzip, padded": ("gzip", lambda body: encode(body, "gzip") + b"\0\x1f\0"),
    "gzip, but plain": ("gzip", lambda body: b"data: " + body),
    "deflate as zlib": ("deflate", lambda body: encode(body, "deflate")),
    "deflate, raw": ("deflate", raw_deflate),
    "br": ("br", lambda body: encode(body, "br")),
    "zstd": ("zstd", lambda body: encode(body, "zstd")),
    "zstd, two frames": ("zstd", zstd_frames),
    "two codings": ("gzip, br", lambda body: encode(body, "gzip, br")),
    "four codings": ("identity, deflate, zstd,br , gzip", lambda body: encode(body, "deflate, zstd, br, gzip")),
}
BODIES = st.binary(max_size=400) | st.sampled_from([case.body for case in STREAMS])


def codings_of(header: str) -> list[str]:
    return [name.strip().lower() for name in header.split(",") if name.strip() != "identity"]


@pytest.mark.parametrize("way", WAYS)
@given(body=BODIES, wish=WISHES)
@settings(SLOW, max_examples=60)
def test_compressed_in_any_split_equals_plain(way: str, body: bytes, wish: Wish) -> None:
    header, compress = WAYS[way]
    decoder = Decoder(codings_of(header))
    plain = b"".join(piece for chunk in split(compress(body), wish) for piece in decoder.feed(chunk))
    assert plain == (b"data: " + body if way == "gzip, but plain" else body)


@pytest.mark.parametrize("way", WAYS)
@given(body=BODIES, wish=WISHES, at=st.floats(0, 1))
@settings(SLOW, max_examples=30)
def test_cut_short_what_was_complete_is_kept(way: str, body: bytes, wish: Wish, at: float) -> None:
    """Whatever the cut, and whatever nonsense follows it, what comes out begins the plain body."""
    header, compress = WAYS[way]
    encoded = compress(body)
    body = b"data: " + body if way == "gzip, but plain" else body
    encoded = encoded[: int(at * len(encoded))]
    decoder = Decoder(codings_of(header))
    plain = b"".join(piece for chunk in split(encoded, wish) for piece in decoder.feed(chunk))
    assert body.startswith(plain)


def test_every_flushed_event_comes_out_at_once() -> None:
    events = [b'data: {"n":%d}\n\n' % number for number in range(50)]
    compress = zlib.compressobj(6, zlib.DEFLATED, 31)
    decoder = Decoder(["gzip"])
    for event in events:
        assert b"".join(decoder.feed(compress.compress(event) + compress.flush(zlib.Z_SYNC_FLUSH))) == event


@given(over=st.integers(-1, 300), way=st.sampled_from([-15, 15, 31]), left_off=st.sampled_from([0, 4, 8]))
@settings(SLOW, max_examples=60)
def test_what_zlib_holds_back_at_the_edge_of_a_piece_comes_too(over: int, way: int, left_off: int) -> None:
    """zlib may have taken in all its input and still owe output where a piece is full."""
    compress = zlib.compressobj(9, zlib.DEFLATED, way)
    encoded = compress.compress(bytes(PIECE + over)) + compress.flush()
    encoded = encoded[: len(encoded) - left_off]
    decoder = Decoder(["gzip" if way == 31 else "deflate"])
    assert b"".join(decoder.feed(encoded)) == zlib.decompressobj(way).decompress(encoded)


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "br, zstd"])
@given(wish=WISHES)
@settings(SLOW, max_examples=3)
def test_a_bomb_is_not_expanded_beyond_the_limit(name: str, wish: Wish) -> None:
    bomb = encode(bytes(80 << 20), name)
    decoder = Decoder(codings_of(name))
    expanded = largest = 0

    def explode() -> None:
        nonlocal expanded, largest
        for chunk in split(bomb, wish):
            for piece in decoder.feed(chunk):
                expanded += len(piece)
                largest = max(largest, len(piece))

    with pytest.raises(DecodeError, match="expands more than 200 times"):
        explode()
    assert expanded <= max(BOMB_FLOOR, BOMB_RATIO * len(bomb))
    assert largest <= 8 << 20


def test_what_compresses_well_is_no_bomb() -> None:
    body = bytes(BOMB_FLOOR)
    assert len(body) > BOMB_RATIO * len(encode(body, "gzip"))
    assert decode(encode(body, "gzip"), "gzip", BOMB_FLOOR) == body


@given(st.binary(max_size=60), WISHES, st.lists(st.sampled_from(["gzip", "deflate", "br", "zstd"]), max_size=4))
@settings(SLOW, max_examples=300)
def test_any_bytes_are_decoded_or_refused(garbage: bytes, wish: Wish, names: list[str]) -> None:
    decoder = Decoder(names)
    with contextlib.suppress(DecodeError):
        for chunk in split(garbage, wish):
            assert all(piece or not chunk for piece in decoder.feed(chunk))


@given(st.sampled_from(["gzip", "zstd", "br", None]), st.lists(st.integers(0, 40), max_size=6))
@settings(SLOW, max_examples=120)
def test_what_nobody_declared_is_found_by_its_first_bytes_at_any_split(name: str | None, cuts: list[int]) -> None:
    """But for brotli, which has no magic number: those bytes are no JSON and no stream."""
    body = b'data: {"model":"m","id":"r","usage":{"total_tokens":3}}\n\ndata: [DONE]\n\n'
    encoded = encode(body, name)
    wish = [cut / len(encoded) for cut in cuts if cut < len(encoded)]
    reader = read(reader_for(UNKNOWN), split(encoded, wish), through_tap=True)
    plain = read(reader_for(UNKNOWN), [body], through_tap=False)
    if name == "br":
        assert reader.seen.usage_raw is None
    else:
        assert found(reader) | {"body_bytes": 0} == found(plain) | {"body_bytes": 0}


@given(st.sampled_from([b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08"]), st.integers(0, 4), st.binary(min_size=1, max_size=3))
def test_too_few_bytes_are_not_judged_and_enough_are(magic: bytes, length: int, more: bytes) -> None:
    head = magic[:length]
    assert (sniff(head) is None) == (head != magic)
    if not magic.startswith((head + more)[: len(magic)]):
        assert sniff(head + more) == ([] if head != magic else sniff(magic))


def test_padding_behind_the_last_member_costs_nothing() -> None:
    """It was gathered, and copied with each chunk: a megabyte in chunks of 1 KB cost seconds."""
    decoder = Decoder(["gzip"])
    assert b"".join(decoder.feed(encode(b"all", "gzip"))) == b"all"
    for _ in range(100):
        assert list(decoder.feed(bytes(1000))) == []
    (stage,) = decoder._stages
    held = [value for value in vars(stage).values() if isinstance(value, bytes)]
    assert sum(map(len, held)) < 2
    assert vars(stage)["_inflate"] is None


def test_brotli_without_an_output_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """brotli up to 1.1, which mitmproxy 12.1 pins, knows neither the limit nor how to ask for more."""
    new = brotli.Decompressor

    class Old:
        def __init__(self) -> None:
            self._real = new()

        def process(self, encoded: bytes) -> bytes:
            return self._real.process(encoded)

    monkeypatch.setattr(brotli, "Decompressor", Old)
    assert decode(encode(b"data: {}\n\n" * 500, "br"), "br", 1 << 20) == b"data: {}\n\n" * 500
