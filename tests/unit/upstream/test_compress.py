from __future__ import annotations

import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from usagetap.upstream.compress import Stack, codings_of, content_encoding, decompress_request

CODINGS = ["gzip", "deflate", "deflate_raw", "br", "zstd"]


def decoder(coding):
    """What a client would use: `feed` must give back all that went in so far."""
    match coding:
        case "br":
            return brotli.Decompressor().process
        case "zstd":
            return zstandard.ZstdDecompressor().decompressobj().decompress
        case _:
            return zlib.decompressobj({"gzip": 31, "deflate": 15, "deflate_raw": -15}[coding]).decompress


@pytest.mark.parametrize("coding", CODINGS)
@given(pieces=st.lists(st.binary(min_size=1, max_size=300), max_size=6))
def test_every_piece_can_be_decoded_at_once(coding, pieces):
    stack, decode = Stack([coding]), decoder(coding)
    for piece in pieces:
        assert decode(stack.feed(piece)) == piece
    decode(stack.finish())


@given(st.lists(st.sampled_from(CODINGS), max_size=3), st.lists(st.binary(max_size=300), max_size=4))
def test_stacks_decode_as_the_header_names_them(codings, pieces):
    stack = Stack(codings)
    body = b"".join([*(stack.feed(piece) for piece in pieces), stack.finish()])
    assert decompress_request(body, content_encoding(codings)) == b"".join(pieces)


def test_names():
    assert codings_of("gzip+br") == ["gzip", "br"]
    assert codings_of(None) == codings_of("identity") == []
    assert content_encoding(["deflate_raw", "gzip"]) == "deflate, gzip"


def test_an_unknown_coding_is_named():
    with pytest.raises(ValueError, match="content-encoding rot13 is not supported"):
        decompress_request(b"", "rot13")
