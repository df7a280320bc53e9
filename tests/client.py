"""A client that decides when and how it leaves: HTTP/1.1 or HTTP/2, plain or TLS, one request per connection."""

from __future__ import annotations

import json
import socket
import ssl
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h11

STREAM: dict[str, Any] = {"model": "gpt-4o-mini", "stream": True, "messages": [{"role": "user", "content": "?"}]}
WHOLE: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "?"}]}
CHAT = "/v1/chat/completions"


@dataclass
class Received:
    """What has come so far. `ending` is None while more may come, then `complete`, `fin`, `rst` or `reset` (HTTP/2)."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ending: str | None = None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Common to both protocols. Reading has a time limit: a test that hangs fails."""

    alpn = "http/1.1"

    def __init__(self, port: int, *, tls: bool = False, timeout: float = 15) -> None:
        self.received = Received()
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._plain = self.socket
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_alpn_protocols([self.alpn])
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def post(
        self, body: Any = STREAM, path: str = CHAT, headers: Mapping[str, str] | None = None, **named: str
    ) -> Client:
        """Send a request. `named` are headers whose `_` stand for `-`; a body that is no bytes is sent as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = {"host": "localhost", "content-type": "application/json", "content-length": str(len(content))}
        told = lines | dict(headers or {}) | {name.replace("_", "-"): value for name, value in named.items()}
        self.send(path, {name: value for name, value in told.items() if value}, content)
        return self

    def send(self, path: str, headers: Mapping[str, str], body: bytes) -> None:
        raise NotImplementedError

    def read(self, until: Callable[[Received], object] | None = None) -> Received:
        """Read until `until` holds, or the end."""
        while self.received.ending is None and not (until and until(self.received)):
            try:
                piece = self.socket.recv(1 << 16)
            except ConnectionResetError:
                self.received.ending = "rst"
                break
            except ssl.SSLError:  # cut without a TLS farewell
                piece = b""
            self._take(piece)
        return self.received

    def _take(self, piece: bytes) -> None:
        raise NotImplementedError

    def leave(self, how: str = "fin") -> None:
        """`fin`, `rst`, `half` (no more to say, still listening)."""
        if how == "half":
            self._plain.shutdown(socket.SHUT_WR) if self._plain is self.socket else self._half_tls()
            return
        if how == "rst":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _half_tls(self) -> None:
        socket.socket.shutdown(self.socket, socket.SHUT_WR)


class Http1(Client):
    """HTTP/1.1 by h11."""

    def __init__(self, port: int, *, tls: bool = False, timeout: float = 15) -> None:
        super().__init__(port, tls=tls, timeout=timeout)
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)

    def send(self, path: str, headers: Mapping[str, str], body: bytes) -> None:
        head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        # h11 learns of the request, the wire gets our own bytes: headers that h11 would refuse are part of some tests
        self._h11.send(h11.Request(method="POST", target="/", headers=[("host", "x"), ("content-length", "0")]))
        self._h11.send(h11.EndOfMessage())
        self.socket.sendall(head.encode() + b"\r\n" + body)

    def _take(self, piece: bytes) -> None:
        try:
            self._h11.receive_data(piece)
            while True:
                event = self._h11.next_event()
                if isinstance(event, h11.Response):
                    self.received.status = event.status_code
                    self.received.headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
                elif isinstance(event, h11.Data):
                    self.received.body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    self.received.ending = "complete"
                    return
                elif not isinstance(event, h11.InformationalResponse):
                    break
        except h11.RemoteProtocolError:
            self.received.ending = "fin"
            return
        if not piece:
            self.received.ending = self.received.ending or "fin"


class Http2(Client):
    """HTTP/2 by h2; over TLS."""

    alpn = "h2"

    def __init__(self, port: int, *, tls: bool = True, timeout: float = 15) -> None:
        super().__init__(port, tls=tls, timeout=timeout)
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(1 << 24)
        self._flush()
        self.stream = 1

    def send(self, path: str, headers: Mapping[str, str], body: bytes) -> None:
        pseudo = [(":method", "POST"), (":scheme", "https"), (":authority", headers.get("host", "x")), (":path", path)]
        rest = [(name.lower(), value) for name, value in headers.items() if name.lower() not in ("host", "connection")]
        self._h2.send_headers(self.stream, pseudo + rest)
        while body:
            room = min(self._h2.local_flow_control_window(self.stream), self._h2.max_outbound_frame_size, len(body))
            if room == 0:
                self._take(self.socket.recv(1 << 16))
                continue
            self._h2.send_data(self.stream, body[:room])
            self._flush()
            body = body[room:]
        self._h2.end_stream(self.stream)
        self._flush()

    def _flush(self) -> None:
        if waiting := self._h2.data_to_send():
            self.socket.sendall(waiting)

    def _take(self, piece: bytes) -> None:
        if not piece:
            self.received.ending = "fin"
            return
        for event in self._h2.receive_data(piece):
            match event:
                case h2.events.ResponseReceived(headers=headers):
                    told = dict(headers or [])
                    self.received.status = int(told.pop(":status"))
                    self.received.headers = told
                case h2.events.DataReceived(data=data, flow_controlled_length=length):
                    self.received.body += data or b""
                    if length:
                        self._h2.acknowledge_received_data(length, self.stream)
                case h2.events.StreamEnded():
                    self.received.ending = "complete"
                case h2.events.StreamReset() | h2.events.ConnectionTerminated():
                    self.received.ending = self.received.ending or "reset"
        try:
            self._flush()
        except OSError:
            self.received.ending = self.received.ending or "fin"

    def leave(self, how: str = "fin") -> None:
        """Also `cancel`: RST_STREAM, and the connection lives on."""
        if how == "cancel":
            self._h2.reset_stream(self.stream, h2.errors.ErrorCodes.CANCEL)
            self._flush()
        else:
            super().leave(how)


def call(
    port: int, body: Any = STREAM, path: str = CHAT, *, client: type[Client] = Http1, tls: bool = False, **named: str
) -> Received:
    """One whole call."""
    with client(port, tls=tls or client is Http2) as line:
        return line.post(body, path, **named).read()
