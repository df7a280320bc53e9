"""A WebSocket client that sends when it is told and leaves as it likes."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
from typing import Any

import wsproto.events
from wsproto.connection import Connection, ConnectionType


class WebSocketClient:
    """One socket through a proxy: `target` is a path, or a whole `http://` URL for a regular one."""

    def __init__(self, port: int, target: str, host: str = "localhost", timeout: float = 15, **headers: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = {"host": host, "upgrade": "websocket", "connection": "upgrade", "sec-websocket-version": "13"}
        lines |= {"sec-websocket-key": key} | {name.replace("_", "-"): value for name, value in headers.items()}
        head = f"GET {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.socket.sendall(head.encode() + b"\r\n")
        received = b""
        while b"\r\n\r\n" not in received:
            piece = self.socket.recv(65536)
            assert piece, f"no upgrade: {received!r}"
            received += piece
        head_bytes, _, rest = received.partition(b"\r\n\r\n")
        assert b" 101 " in head_bytes.partition(b"\r\n")[0], received
        self._connection = Connection(ConnectionType.CLIENT)
        self._waiting: list[str | bytes] = []
        self._parts: list[Any] = []
        self.closed: int | None = None
        self._take(rest)

    def __enter__(self) -> WebSocketClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, message: str | bytes | dict[str, Any]) -> None:
        """Send one message; a dict as JSON."""
        text = json.dumps(message) if isinstance(message, dict) else message
        event = wsproto.events.TextMessage(text) if isinstance(text, str) else wsproto.events.BytesMessage(text)
        self.socket.sendall(self._connection.send(event))

    def hear(self) -> str | bytes | None:
        """The next message; None at the end, however it came (`closed` has a close frame's code)."""
        while not self._waiting and self.closed is None:
            try:
                piece = self.socket.recv(65536)
            except ConnectionResetError:
                piece = b""
            if not piece:
                return None
            self._take(piece)
        return self._waiting.pop(0) if self._waiting else None

    def hear_until(self, kind: str) -> list[Any]:
        """Messages as JSON up to the first of type `kind`, or the end."""
        heard: list[Any] = []
        while (message := self.hear()) is not None:
            heard.append(json.loads(message))
            if heard[-1].get("type") == kind:
                break
        return heard

    def close(self) -> None:
        """A close frame, answered, and the connection's end."""
        self.socket.sendall(self._connection.send(wsproto.events.CloseConnection(code=1000)))
        while self.hear() is not None:
            pass
        self.socket.close()

    def leave(self, how: str = "fin") -> None:
        """Without a close frame."""
        if how == "rst":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _take(self, piece: bytes) -> None:
        self._connection.receive_data(piece)
        for event in self._connection.events():
            match event:
                case wsproto.events.TextMessage() | wsproto.events.BytesMessage():
                    self._parts.append(event.data)
                    if event.message_finished:
                        self._waiting.append(self._parts[0][:0].join(self._parts))
                        self._parts = []
                case wsproto.events.CloseConnection(code=code):
                    self.closed = code
                case wsproto.events.Ping():
                    self.socket.sendall(self._connection.send(event.response()))
