"""WebSockets: one row per response turn, and memory that stays flat over a day-long session."""

from __future__ import annotations

import time
import weakref
from dataclasses import dataclass, field

from mitmproxy import ctx, http
from mitmproxy.websocket import WebSocketMessage

from usagetap.ending import Cut, End
from usagetap.mitm import recording
from usagetap.mitm.guard import fail_open
from usagetap.mitm.incoming import request_of
from usagetap.mitm.rows import conclude, open_row, take_seen, timed
from usagetap.model import Record, Request
from usagetap.rewrite import Untouchable, strip_model_prefix
from usagetap.turns import Answered, Ended, Event, Opened, Turn, Turns, turns_for

KEPT_MESSAGES = 200
"""Messages of a live session that mitmproxy keeps for its UI: it would keep all, and sum them up at every new one."""


@dataclass(eq=False)
class Open:
    """A turn that has begun and not ended."""

    record: Record
    began_at: float
    answered_at: float | None = None


@dataclass(eq=False)
class Socket:
    """One WebSocket that speaks one of the three protocols."""

    request: Request
    turns: Turns
    rows: dict[Turn, Open] = field(default_factory=dict)
    messages: int = 0
    ended: bool = False


_sockets: weakref.WeakKeyDictionary[http.HTTPFlow, Socket] = weakref.WeakKeyDictionary()


class Sockets:
    """Records every response turn of a WebSocket."""

    @fail_open
    def request(self, flow: http.HTTPFlow) -> None:
        """An upgrade: will this socket speak to a model?"""
        if "websocket" not in flow.request.headers.get("upgrade", "").lower():
            return
        here = recording.current()
        request = request_of(flow, None)
        if here.settings.hosts.excludes(request.host, request.port, request.path):
            return
        turns = turns_for(request, frame_limit=here.settings.frame_limit)
        if turns is not None:
            _sockets[flow] = Socket(request, turns)
            flow.request.headers.pop(here.settings.tag_header, None)

    @fail_open
    def websocket_message(self, flow: http.HTTPFlow) -> None:
        """A message: whose turn is it?"""
        socket = _sockets.get(flow)
        if socket is None or socket.ended or flow.websocket is None:
            return
        message = flow.websocket.messages[-1]
        if message.from_client:
            self._rename_model(message)
            self._take(flow, socket, socket.turns.sent(message.content))
        else:
            self._take(flow, socket, socket.turns.received(message.content))
        socket.messages += 1
        if flow.live and not ctx.options.save_stream_file and len(flow.websocket.messages) > 2 * KEPT_MESSAGES:
            del flow.websocket.messages[:-KEPT_MESSAGES]

    @fail_open
    def websocket_end(self, flow: http.HTTPFlow) -> None:
        """The socket is gone: turns that are still open end with it."""
        socket = _sockets.get(flow)
        if socket is None or flow.websocket is None:
            return
        killed = flow.error is not None and flow.error.msg == flow.error.KILLED_MESSAGE
        self._close(flow, socket, "killed" if killed else "client" if flow.websocket.closed_by_client else "upstream")

    def done(self) -> None:
        """The proxy stops; at a mere reload of the script everything goes on."""
        if ctx.master.should_exit.is_set():
            self.stop()

    @fail_open
    def stop(self) -> None:
        """End every open turn as `proxy_stopped`."""
        for flow, socket in list(_sockets.items()):
            self._close(flow, socket, "stopped")

    def _close(self, flow: http.HTTPFlow, socket: Socket, cut: Cut) -> None:
        if not socket.ended:
            socket.ended = True
            self._take(flow, socket, socket.turns.finish(), cut)

    def _take(self, flow: http.HTTPFlow, socket: Socket, events: list[Event], cut: Cut | None = None) -> None:
        for event in events:
            if isinstance(event, Opened):
                self._begin(flow, socket, event.turn)
            elif isinstance(event, Answered):
                socket.rows[event.turn].answered_at = time.monotonic()
            elif isinstance(event, Ended):
                self._end(flow, socket, event.turn, cut)

    def _begin(self, flow: http.HTTPFlow, socket: Socket, turn: Turn) -> None:
        here = recording.current()
        record = open_row(
            flow,
            socket.request,
            here,
            dialect=socket.turns.dialect.name,
            operation=turn.operation,
            model=turn.request_model,
            stream=True,
            turn=turn.number,
        )
        record.transport, record.http_status = "websocket", 101
        socket.rows[turn] = Open(record, time.monotonic())
        here.put(record)

    def _end(self, flow: http.HTTPFlow, socket: Socket, turn: Turn, cut: Cut | None) -> None:
        opened = socket.rows.pop(turn)
        record = opened.record
        if flow.live:
            first = opened.answered_at
            timed(record, time.monotonic() - opened.began_at, None if first is None else first - opened.began_at)
        take_seen(record, turn.seen)
        record.frames, record.chunks, record.body_bytes = turn.frames, turn.frames, turn.body_bytes
        record.truncated = turn.truncated
        end = End(cut=cut, http_status=101, transport="websocket", finish_ends=False, readable=not turn.truncated)
        conclude(record, turn.seen, end, socket.request, flow.error.msg if flow.error else None)
        recording.current().put(record)

    def _rename_model(self, message: WebSocketMessage) -> None:
        """Take a provider prefix off the model name of a `response.create` (option `usage_model_prefix`)."""
        prefixes = recording.current().settings.model_prefix
        content = message.content
        if not prefixes or b'"response.create"' not in content or b'"model"' not in content:
            return
        try:
            message.content = strip_model_prefix(content, prefixes)
        except (Untouchable, ValueError):
            return
