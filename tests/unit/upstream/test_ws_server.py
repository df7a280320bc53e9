"""WebSockets: turns in lanes, pace and cuts, with a client that shows every message."""

from __future__ import annotations

import json
import socket

import pytest
import wsproto
from wsproto import events
from wsproto.extensions import PerMessageDeflate


class Client:
    """One WebSocket, blocking."""

    def __init__(self, line, target, words=""):
        self.line = line
        self.ws = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        words_header = [(b"x-upstream", words.encode())]
        offered = {"extensions": [PerMessageDeflate()], "subprotocols": ["realtime"]}
        self.send(events.Request("x", target, extra_headers=words_header, **offered))
        self.waiting = []
        self.accepted = self.event()

    def send(self, event):
        self.line.sendall(self.ws.send(event))

    def event(self):
        """The next event; None when the connection ends without a close frame."""
        while not self.waiting:
            try:
                received = self.line.recv(65536)
            except ConnectionResetError:
                received = b""
            if not received:
                return None
            self.ws.receive_data(received)
            self.waiting = list(self.ws.events())
        return self.waiting.pop(0)

    def say(self, **message):
        self.send(events.TextMessage(json.dumps(message)))

    def hear(self):
        text = ""
        while True:
            event = self.event()
            text += event.data
            if event.message_finished:
                return json.loads(text)

    def hear_until(self, *types):
        told = [self.hear()]
        while told[-1]["type"] not in types:
            told.append(self.hear())
        return told


@pytest.fixture
def connect(upstream):
    lines = []

    def connect(target="/v1/responses", words=""):
        lines.append(socket.create_connection((upstream.host, upstream.port), timeout=10))
        return Client(lines[-1], target, words)

    yield connect
    for line in lines:
        line.close()


def test_a_hundred_turns_on_one_socket(connect, upstream):
    client = connect()
    ids = set()
    for _ in range(100):
        client.say(type="response.create", model="m@chunks=1")
        ids.add(client.hear_until("response.completed")[-1]["response"]["id"])
    assert len(ids) == 100
    assert upstream.requests[-1].status == 101


def test_lanes_interleave_and_one_lane_waits_its_turn(connect, upstream):
    client = connect()
    client.say(type="response.create", model="m@hold=2", stream_id="held")
    client.say(type="response.create", model="m", stream_id="held")
    client.say(type="response.create", model="m", stream_id="free")
    told = client.hear_until("response.completed")
    assert told[-1]["stream_id"] == "free"
    assert sum(message["stream_id"] == "held" for message in told) == 2
    upstream.release()
    told += client.hear_until("response.completed") + client.hear_until("response.completed")
    held = [message for message in told if message["stream_id"] == "held"]
    begun = [message["sequence_number"] == 0 for message in held]
    ended = [message["type"] == "response.completed" for message in held]
    assert begun.index(True, 1) == ended.index(True) + 1


def test_subprotocol_compression_and_ping(connect):
    client = connect()
    assert client.accepted.subprotocol == "realtime"
    assert client.accepted.extensions[0].enabled()
    client.send(events.Ping(b"x"))
    assert bytes(client.event().payload) == b"x"


def test_a_polite_close_is_answered(connect, upstream):
    client = connect()
    client.send(events.CloseConnection(1000))
    assert client.event().code == 1000
    assert upstream.requests[-1].done.wait(10)
    assert upstream.requests[-1].outcome == "complete"


@pytest.mark.parametrize(("cut", "code"), [("fin", None), ("rst", None), ("goaway", 1011)])
def test_cuts(connect, upstream, cut, code):
    client = connect(words=f"die=2;cut={cut}")
    client.say(type="response.create", model="m")
    assert [client.hear()["type"], client.hear()["type"]] == ["response.created", "response.in_progress"]
    end = client.event()
    assert (end and end.code) == code
    assert upstream.requests[-1].done.wait(10)
    assert upstream.requests[-1].outcome == "cut"


def test_a_client_that_leaves_is_noticed(connect, upstream):
    client = connect(words="hold=1")
    client.say(type="response.create", model="m")
    client.hear()
    client.line.close()
    assert upstream.requests[-1].done.wait(10)
    assert upstream.requests[-1].outcome == "client_gone"


def test_messages_in_pieces_are_put_together(connect):
    client = connect("/v1/realtime?model=m@chunks=1")
    assert client.hear()["session"]["model"] == "m"
    client.send(events.TextMessage('{"type": "response', message_finished=False))
    client.send(events.TextMessage('.create"}'))
    assert client.hear_until("response.done")[-1]["response"]["usage"]["output_tokens"] == 1


def test_nobody_speaks_there(connect, upstream):
    assert isinstance(connect("/v1/nowhere").accepted, events.RejectConnection)
    assert upstream.requests[-1].status == 404
