"""HTTP/1.1 by hand: each byte, chunk boundary, cut and reset is ours to decide."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

from usagetap.upstream.exchange import Exchange, Headers

REASONS = {100: "Continue", 101: "Switching Protocols", 103: "Early Hints", 200: "OK", 400: "Bad Request"}
REASONS |= {401: "Unauthorized", 404: "Not Found", 422: "Unprocessable Entity", 429: "Too Many Requests"}
REASONS |= {500: "Internal Server Error", 503: "Service Unavailable", 529: "Overloaded"}

#: requests with a larger head are cut off: nobody sends such to an LLM, and a test that does wants to see it refused
HEAD_LIMIT = 1 << 20


class Line:
    """A client's connection: what it sent and we have not read, and the ways to break it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number
        self.buffer = bytearray()

    async def fill(self) -> bool:
        """Take in what comes next; False at the end, however it came."""
        try:
            piece = await self.reader.read(1 << 16)
        except OSError:
            piece = b""
        self.buffer += piece
        return bool(piece)

    async def write(self, piece: bytes) -> None:
        """Hand bytes to the socket, waiting while the client is slow. A client that is gone raises OSError."""
        self.writer.write(piece)
        await self.writer.drain()

    def close(self) -> None:
        """Close politely: FIN after what was written."""
        self.writer.close()

    def reset(self) -> None:
        """RST: what was written and not yet sent is lost, too."""
        line: socket.socket = self.writer.get_extra_info("socket")
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


async def read_request(line: Line) -> Exchange | None:
    """The next request with its whole body; None if the client has no more. Nonsense raises ValueError."""
    while (end := line.buffer.find(b"\r\n\r\n")) < 0:
        if len(line.buffer) > HEAD_LIMIT:
            raise ValueError("request head is larger than 1 MiB")
        if not await line.fill():
            return None
    head = line.buffer[:end].decode("latin-1")
    del line.buffer[: end + 4]
    first, *rest = head.split("\r\n")
    method, target, version = first.split(" ")
    headers = [(name.strip(), value.strip()) for name, _, value in (text.partition(":") for text in rest)]
    exchange = Exchange(method, target, headers, version=version.removeprefix("HTTP/"), connection=line.number)
    if (exchange.header("expect") or "").lower() == "100-continue":
        await line.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    exchange.body = await _read_body(line, exchange)
    return exchange


async def _read_body(line: Line, exchange: Exchange) -> bytes:
    if "chunked" in (exchange.header("transfer-encoding") or "").lower():
        return await _read_chunked(line)
    return await _take(line, int(exchange.header("content-length") or 0))


async def _read_chunked(line: Line) -> bytes:
    body = bytearray()
    while True:
        size = int((await _take_line(line)).partition(b";")[0], 16)
        if size == 0:
            break
        body += await _take(line, size)
        await _take_line(line)
    while await _take_line(line):  # trailers, up to the empty line
        pass
    return bytes(body)


async def _take(line: Line, count: int) -> bytes:
    while len(line.buffer) < count:
        if not await line.fill():
            raise ConnectionError("client left in the middle of its request")
    taken = bytes(line.buffer[:count])
    del line.buffer[:count]
    return taken


async def _take_line(line: Line) -> bytes:
    while (end := line.buffer.find(b"\r\n")) < 0:
        if not await line.fill():
            raise ConnectionError("client left in the middle of its request")
    return (await _take(line, end + 2))[:-2]


_LAST_WORDS = {"bad_chunk": b"zz\r\nnonsense\r\n", "half_head": b"HTTP/1.1 200 O"}


class Http1Wire:
    """One answer's way out over HTTP/1.1."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._chunked = False
        self.reusable = False
        """The body ended so that another request may follow on the connection."""

    async def hints(self) -> None:
        """A 103 of its own."""
        await self._line.write(b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n")

    async def head(self, status: int, headers: Headers, framing: str, length: int | None) -> None:
        """Status line, headers, and the header that `framing` needs."""
        match framing:
            case "chunked":
                headers = [*headers, ("transfer-encoding", "chunked")]
            case "length":
                headers = [*headers, ("content-length", str(length))]
            case _:
                headers = [*headers, ("connection", "close")]
        self._chunked = framing == "chunked"
        self.reusable = framing != "close"
        await self._line.write(head_bytes(status, headers))

    async def piece(self, piece: bytes) -> None:
        """One HTTP chunk, or bare bytes."""
        await self._line.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece)

    async def end(self, trailers: Headers) -> None:
        """The last chunk; a body with a length ends by itself, and a close-delimited one with the connection."""
        if self._chunked:
            lines = "".join(f"{name}: {value}\r\n" for name, value in trailers)
            await self._line.write(f"0\r\n{lines}\r\n".encode("latin-1"))

    async def cut(self, how: str) -> None:
        """Any of the cuts that HTTP/1.1 has; those of HTTP/2 close the connection like `fin`."""
        self.reusable = False
        if how == "rst":
            self._line.reset()
        elif how != "silence":
            await self._line.write(_LAST_WORDS.get(how, b""))
            self._line.close()


def head_bytes(status: int, headers: Headers) -> bytes:
    """Status line and headers."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}\r\n{lines}\r\n".encode("latin-1")


async def until_gone(line: Line, answering: Coroutine[Any, Any, None]) -> bool:
    """Await an answer for as long as the client listens; False if it hung up first (a half-closed client counts as
    gone, as every proxy in between would have it)."""
    async with AsyncExitStack() as ended:
        work = asyncio.create_task(answering)
        ended.push_async_callback(_cancel, work)
        while not work.done():
            listening = asyncio.create_task(line.fill())
            try:
                await asyncio.wait({work, listening}, return_when=asyncio.FIRST_COMPLETED)
                if listening.done() and not listening.result() and not work.done():
                    return False
            finally:
                await _cancel(listening)
        try:
            work.result()
        except OSError:
            return False
        return True


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait({task})


Serve = Callable[[Exchange, Http1Wire], Coroutine[Any, Any, None]]


async def serve_h1(line: Line, serve: Serve, upgrade: Callable[[Exchange, Line], Awaitable[None]]) -> None:
    """Answer one request after the other, until the client or an answer ends the connection."""
    while exchange := await read_request(line):
        if (exchange.header("upgrade") or "").lower() == "websocket":
            await upgrade(exchange, line)
            return
        wire = Http1Wire(line)
        try:
            stayed = await until_gone(line, serve(exchange, wire))
            exchange.end("complete" if stayed else "client_gone")
        finally:
            exchange.end("cut")  # by the server's end
        last = (exchange.header("connection") or "").lower() == "close" or exchange.version == "1.0"
        if last or not stayed or not wire.reusable:
            return
