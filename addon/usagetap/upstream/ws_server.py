"""WebSocket over wsproto: a socket on which several responses may be on their way at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import wsproto
from wsproto import events
from wsproto.extensions import PerMessageDeflate

from usagetap.upstream.behaviour import Behaviour
from usagetap.upstream.exchange import Exchange
from usagetap.upstream.h1_server import Line

Message = str | bytes | dict[str, Any]


@dataclass(slots=True)
class Turn:
    """What the server says to one message of the client: sent in order within its lane, beside the other lanes'."""

    messages: Iterable[Message]
    lane: str = ""
    behaviour: Behaviour = field(default_factory=Behaviour)


class Session(Protocol):
    """What a dialect says on a socket."""

    def greet(self) -> Turn:
        """On connecting."""
        ...

    def receive(self, text: str | bytes) -> Turn | None:
        """To a message; None says nothing."""
        ...


class Socket:
    """The server's end of one WebSocket."""

    def __init__(self, exchange: Exchange, line: Line, session: Session) -> None:
        self._exchange = exchange
        self._line = line
        self._session = session
        self._ws = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        self._lanes: dict[str, asyncio.Queue[Turn]] = {}
        self._work: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Speak until either side closes."""
        try:
            await self._accept()
            self._say(self._session.greet())
            async for message in self._messages():
                if turn := self._session.receive(message):
                    self._say(turn)
        finally:
            for task in self._work:
                task.cancel()
            self._exchange.end("client_gone")

    async def _accept(self) -> None:
        headers = [(name.encode(), value.encode()) for name, value in self._exchange.headers]
        self._ws.initiate_upgrade_connection(headers, self._exchange.target)
        request = next(self._ws.events())
        assert isinstance(request, events.Request)
        chosen = request.subprotocols[0] if request.subprotocols else None
        self._exchange.status = 101
        await self._send(events.AcceptConnection(subprotocol=chosen, extensions=[PerMessageDeflate()]))

    async def _messages(self) -> AsyncIterator[str | bytes]:
        parts: list[Any] = []
        while self._line.buffer or await self._line.fill():
            self._ws.receive_data(bytes(self._line.buffer))
            self._line.buffer.clear()
            for event in self._ws.events():
                match event:
                    case events.TextMessage() | events.BytesMessage():
                        parts.append(event.data)
                        if event.message_finished:
                            yield parts[0][:0].join(parts)
                            parts = []
                    case events.Ping():
                        await self._send(event.response())
                    case events.CloseConnection():
                        self._exchange.end("complete")
                        await self._send(event.response())
                        return

    def _say(self, turn: Turn) -> None:
        """Queue a turn behind its lane's earlier ones."""
        if turn.lane not in self._lanes:
            self._lanes[turn.lane] = asyncio.Queue()
            self._work.add(asyncio.ensure_future(self._speak(self._lanes[turn.lane])))
        self._lanes[turn.lane].put_nowait(turn)

    async def _speak(self, lane: asyncio.Queue[Turn]) -> None:
        while True:
            turn = await lane.get()
            how = turn.behaviour
            await asyncio.sleep(how.first)
            for number, message in enumerate(turn.messages):
                if number == how.hold:
                    await self._exchange.released.wait()
                if number == how.die:
                    await self._cut(how.cut or "fin")
                await asyncio.sleep(how.delay)
                await self._tell(message)

    async def _tell(self, message: Message) -> None:
        text = json.dumps(message, ensure_ascii=False) if isinstance(message, dict) else message
        self._exchange.note(text.encode() if isinstance(text, str) else text)
        if isinstance(text, str):
            await self._send(events.TextMessage(data=text))
        else:
            await self._send(events.BytesMessage(data=text))

    async def _cut(self, how: str) -> None:
        self._exchange.end("cut")
        if how == "rst":
            self._line.reset()
        elif how != "silence":
            if how == "goaway":
                await self._send(events.CloseConnection(code=1011, reason="keepalive ping timeout"))
            self._line.close()
        await asyncio.Event().wait()

    async def _send(self, event: wsproto.events.Event) -> None:
        await self._line.write(self._ws.send(event))
