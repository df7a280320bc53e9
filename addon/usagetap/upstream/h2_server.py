"""HTTP/2 over h2, with its own ways to end and to break: trailers, RST_STREAM, GOAWAY, a lost connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import hyperframe.frame

from usagetap.upstream.exchange import Exchange, Headers
from usagetap.upstream.h1_server import Line

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_RESETS = {
    "stream": h2.errors.ErrorCodes.INTERNAL_ERROR,
    "cancel": h2.errors.ErrorCodes.CANCEL,
    "late_reset": h2.errors.ErrorCodes.NO_ERROR,
}


@dataclass(slots=True)
class Stream:
    """One request being received or answered."""

    exchange: Exchange
    body: bytearray = field(default_factory=bytearray)
    work: asyncio.Task[None] | None = None


Serve = Callable[[Exchange, "Http2Wire"], Awaitable[None]]


class Http2Connection:
    """One client's connection; answers its streams side by side."""

    def __init__(self, line: Line, serve: Serve) -> None:
        self.line = line
        self.window = asyncio.Condition()
        """Notified whenever the client lets us send more."""
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self._serve = serve
        self._streams: dict[int, Stream] = {}

    async def run(self) -> None:
        """Serve until either side ends the connection; what was being answered then is `client_gone`."""
        try:
            self.h2.initiate_connection()
            await self.flush()
            while self.line.buffer or await self.line.fill():
                received = bytes(self.line.buffer)
                self.line.buffer.clear()
                for event in self.h2.receive_data(received):
                    await self._take(event)
                await self.flush()
        except h2.exceptions.ProtocolError:
            self.line.close()
        finally:
            for stream in self._streams.values():
                self._gone(stream)

    async def flush(self) -> None:
        """Send what h2 has to say."""
        if waiting := self.h2.data_to_send():
            await self.line.write(waiting)

    async def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived(stream_id=number, headers=headers):
                self._streams[number] = Stream(_exchange(headers, self.line.number))
            case h2.events.DataReceived(stream_id=number, data=data, flow_controlled_length=length):
                self._streams[number].body += data
                self.h2.acknowledge_received_data(length, number)
            case h2.events.StreamEnded(stream_id=number):
                stream = self._streams[number]
                stream.exchange.body = bytes(stream.body)
                stream.work = asyncio.ensure_future(self._answer(stream, Http2Wire(self, number)))
            case h2.events.StreamReset(stream_id=number):
                self._gone(self._streams[number])
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                async with self.window:
                    self.window.notify_all()

    async def _answer(self, stream: Stream, wire: Http2Wire) -> None:
        try:
            await self._serve(stream.exchange, wire)
            stream.exchange.end("complete")
        except (OSError, h2.exceptions.ProtocolError):
            stream.exchange.end("client_gone")

    def _gone(self, stream: Stream) -> None:
        stream.exchange.end("client_gone")
        if stream.work:
            stream.work.cancel()


def _exchange(headers: Iterable[tuple[Any, Any]], connection: int) -> Exchange:
    told = [(str(name), str(value)) for name, value in headers]
    pseudo = {name: value for name, value in told if name.startswith(":")}
    plain = [("host", pseudo.get(":authority", "")), *(pair for pair in told if not pair[0].startswith(":"))]
    return Exchange(pseudo[":method"], pseudo[":path"], plain, version="2", connection=connection)


class Http2Wire:
    """One answer's way out over an HTTP/2 stream."""

    def __init__(self, connection: Http2Connection, number: int) -> None:
        self._connection = connection
        self._number = number

    async def hints(self) -> None:
        """A 103 of its own."""
        self._h2.send_headers(self._number, [(":status", "103"), ("link", "</style.css>; rel=preload")])
        await self._connection.flush()

    async def head(self, status: int, headers: Headers, framing: str, length: int | None) -> None:
        """The headers; `chunked` and `close` mean nothing here."""
        counted = [("content-length", str(length))] if framing == "length" else []
        self._h2.send_headers(self._number, [(":status", str(status)), *headers, *counted])
        await self._connection.flush()

    async def piece(self, piece: bytes) -> None:
        """DATA frames, as many as the client's window and frame size want."""
        while piece:
            async with self._connection.window:
                await self._connection.window.wait_for(lambda: self._h2.local_flow_control_window(self._number) > 0)
            room = min(self._h2.local_flow_control_window(self._number), self._h2.max_outbound_frame_size)
            self._h2.send_data(self._number, piece[:room])
            piece = piece[room:]
            await self._connection.flush()

    async def end(self, trailers: Headers) -> None:
        """END_STREAM, on trailers if there are any."""
        if trailers:
            self._h2.send_headers(self._number, trailers, end_stream=True)
        else:
            self._h2.end_stream(self._number)
        await self._connection.flush()

    async def cut(self, how: str) -> None:
        """Any of the cuts that HTTP/2 has; those of HTTP/1.1 close the connection like `fin`."""
        line = self._connection.line
        if how in _RESETS:
            # h2 refuses to reset a stream that it has seen end; the wire does not
            await line.write(hyperframe.frame.RstStreamFrame(self._number, _RESETS[how]).serialize())
        elif how == "graceful":
            # h2 would refuse to send anything after a GOAWAY of its own
            await line.write(hyperframe.frame.GoAwayFrame(0, last_stream_id=self._number).serialize())
        elif how == "rst":
            line.reset()
        elif how != "silence":
            if how == "goaway":
                self._h2.close_connection(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
                await self._connection.flush()
            line.close()

    @property
    def _h2(self) -> h2.connection.H2Connection:
        return self._connection.h2
