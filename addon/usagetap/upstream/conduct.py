"""Sends an answer over any wire, at the pace and with the accidents that its behaviour asks for."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterable, Iterator
from itertools import batched, pairwise
from typing import Protocol

from usagetap.upstream.behaviour import Behaviour
from usagetap.upstream.compress import Stack, codings_of, content_encoding
from usagetap.upstream.exchange import Answer, Exchange, Headers


class Wire(Protocol):
    """One answer's way out: HTTP/1.1 or an HTTP/2 stream."""

    async def hints(self) -> None:
        """103 Early Hints."""
        ...

    async def head(self, status: int, headers: Headers, framing: str, length: int | None) -> None:
        """Status and headers; `framing` is `chunked`, `length` or `close`."""
        ...

    async def piece(self, piece: bytes) -> None:
        """A piece of the body, as one chunk or DATA frame."""
        ...

    async def end(self, trailers: Headers) -> None:
        """The body's proper end."""
        ...

    async def cut(self, how: str) -> None:
        """Break off. Afterwards nothing more may be sent, except after `graceful`."""
        ...


async def conduct(answer: Answer, exchange: Exchange, wire: Wire) -> None:
    """Send it all, or as much as the behaviour allows; `silent` waits until it is cancelled."""
    how = answer.behaviour
    exchange.status = answer.status
    if how.silent:
        await _for_ever()
    await asyncio.sleep(how.first)
    if how.hints:
        await wire.hints()
    if how.die == -1 or how.cut == "half_head":
        await _cut(how, exchange, wire)
        return
    codings = _codings(how, exchange)
    pieces: Iterable[bytes] = sliced(encoded(joined(answer.body, how), codings, how.unfinished), how)
    framing = how.framing or ("chunked" if answer.streamed else "length")
    length = None
    if framing == "length":
        pieces = list(pieces)
        length = sum(map(len, pieces))
    await wire.head(answer.status, _headers(answer, codings), framing, length)
    if await _send(pieces, how, exchange, wire):
        await wire.end([("x-upstream-trailer", "yes")] if how.trailers else [])
        if how.cut == "late_reset":
            await wire.cut("late_reset")
        exchange.end("complete")


async def _send(pieces: Iterable[bytes], how: Behaviour, exchange: Exchange, wire: Wire) -> bool:
    """Send the body; False if it was cut."""
    for number, piece in enumerate(pieces):
        if number == how.hold:
            await exchange.released.wait()
        if number == how.die and not await _cut(how, exchange, wire):
            return False
        # also a zero delay yields to the loop, so that other connections and the client's farewell are heard
        await asyncio.sleep(how.delay)
        exchange.note(piece)
        await wire.piece(piece)
    at_the_end = how.die is None and how.cut not in (None, "late_reset")
    return not at_the_end or await _cut(how, exchange, wire)


async def _cut(how: Behaviour, exchange: Exchange, wire: Wire) -> bool:
    """Break off as told; True if the answer goes on all the same."""
    cut = how.cut or "fin"
    await wire.cut(cut)
    if cut == "silence":
        await _for_ever()
    if cut != "graceful":
        exchange.end("cut")
    return cut == "graceful"


async def _for_ever() -> None:
    await asyncio.Event().wait()


def _codings(how: Behaviour, exchange: Exchange) -> list[str]:
    codings = codings_of(how.encoding)
    accepted = exchange.header("accept-encoding")
    if how.stubborn or accepted is None or "*" in accepted:
        return codings
    names = {part.partition(";")[0].strip().lower() for part in accepted.split(",")}
    return codings if all(content_encoding([coding]) in names for coding in codings) else []


def _headers(answer: Answer, codings: list[str]) -> Headers:
    headers = [pair for pair in answer.headers if not (answer.behaviour.untyped and pair[0] == "content-type")]
    return headers + ([("content-encoding", content_encoding(codings))] if codings else [])


def joined(frames: Iterable[bytes], how: Behaviour) -> Iterator[bytes]:
    """Frames as the behaviour wants their line ends and their company."""
    if how.crlf:
        frames = (frame.replace(b"\n", b"\r\n") for frame in frames)
    if how.join <= 1:
        yield from frames
        return
    for group in batched(frames, how.join):
        yield b"".join(group)


def encoded(pieces: Iterable[bytes], codings: list[str], unfinished: bool = False) -> Iterator[bytes]:
    """Pieces under their content codings, each flushed, then the trailer unless it is to be left out."""
    if not codings:
        yield from pieces
        return
    stack = Stack(codings)
    for piece in pieces:
        yield stack.feed(piece)
    if not unfinished:
        yield stack.finish()


def sliced(pieces: Iterable[bytes], how: Behaviour) -> Iterator[bytes]:
    """The same bytes, cut anew: into `slice` bytes each, or into random lengths by `seed`. Never an empty piece."""
    if how.slice == 0:
        yield from filter(None, pieces)
    elif how.slice > 0:
        for piece in pieces:
            yield from (piece[at : at + how.slice] for at in range(0, len(piece), how.slice))
    else:
        yield from random_pieces(b"".join(pieces), how.seed)


#: where a cut hurts most: inside CR LF, inside the blank line, inside a character
_SORE = re.compile(rb"\r(?=\n)|\n(?=\n)|[\xc2-\xf4](?=[\x80-\xbf])")


def random_pieces(body: bytes, seed: int) -> Iterator[bytes]:
    """`body` in pieces of random length, from single bytes to kilobytes, some of the cuts where they hurt."""
    chance = random.Random(seed)
    sore = [found.end() for found in _SORE.finditer(body)]
    cuts = set(chance.sample(sore, min(len(sore), 30)))
    at = 0
    while at < len(body):
        at += chance.choice((1, 1, chance.randint(2, 16), chance.randint(17, 400), chance.randint(401, 9000)))
        cuts.add(min(at, len(body)))
    for begin, end in pairwise(sorted(cuts | {0})):
        yield body[begin:end]
