"""One response body, read as it passes: encoding, framing, JSON, dialect.

    reader = Reader(dialect, content_type=…, content_encoding=…)
    reader.feed(chunk) …            # or: flow.response.stream = reader.tap(on_failure)
    reader.finish(complete=True)    # then reader.seen, reader.frames, reader.chunks, …

Memory per stream is bounded: one unfinished frame (`frame_limit`), one held frame, and what `watch` is owed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Mapping
from typing import Any

import orjson

from usagetap.dialects.base import Dialect, Weight, observe_error_body
from usagetap.encoding import DecodeError, Decoder, codings, sniff
from usagetap.eventstream import EventStream
from usagetap.framing import Document, Framing, JsonArray, Ndjson, Sse
from usagetap.model import Observation, Transport
from usagetap.skim import Skim

FRAME_LIMIT = 16 << 20
FIRST_FRAMES = 8
"""Frames that are parsed whatever their weight while the response's id or model is unknown (Azure's first has
neither)."""
LEARNED = 8
"""Shapes learned freely; then one in 64 frames, so that a stream without shapes costs no more than its search."""
BATCH = 256
"""Chunks that are put aside, and read together; fewer where they are large, as many as made up `BATCH_BYTES` lately."""
BATCH_BYTES = 128 << 10
FIRST_BATCH = 16

_SSE_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":", b"error:")
_LONGEST_START = 6
_NDJSON_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/stream+json")
_EVENT_STREAM = "application/vnd.amazon.eventstream"

type Watch = Callable[[bytes], None]


type State = Callable[[bytes], None]


class Reader:
    """Reads one response body into `seen`. After a failure it is blind (`broken` says why) and goes on
    counting bytes.
    """

    def __init__(
        self,
        dialect: Dialect,
        *,
        content_type: str = "",
        content_encoding: str | None = None,
        http_status: int = 200,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        frame_limit: int = FRAME_LIMIT,
        watch: Watch | None = None,
    ) -> None:
        self.dialect = dialect
        self.seen = Observation()
        self.transport: Transport | None = None
        self._frames = 0
        self.broken: str | None = None
        self.opaque = False
        """The body is no JSON and no stream: audio, subtitles, a page of HTML."""
        self._chunks = self._body_bytes = self._learned = 0
        self._http_status = http_status
        self._stream = stream
        self._content_type = content_type.partition(";")[0].strip().lower()
        self._frame_limit = frame_limit
        self._watch = watch
        self.keep: Watch | None = None
        """Gets every byte as it was on the wire, like `watch` gets it decoded."""
        self._framing: Framing | None = None
        self._sse: Sse | None = None
        self._head = b""
        self._skim = Skim(dialect.dull_event, dialect.dull_end)
        self._batch: list[bytes] = []
        self._room = FIRST_BATCH
        self._on_failure: Callable[[Exception], None] | None = None
        self._latest: bytes | None = None
        self._decoder: Decoder | None = None
        self._finished = self._complete = False
        self._codings = codings(content_encoding)
        self._wire: State = self._begin
        self._plain: State = self._undecided
        dialect.observe_headers(self.seen, headers or {})

    def __repr__(self) -> str:
        states = f"{self._wire.__name__}/{self._plain.__name__}".replace("_", "")
        return f"<Reader {self.dialect.name} {states} {self._frames} frames>"

    @property
    def truncated(self) -> bool:
        """Whether something was too large, or too broken, to be read."""
        return self.broken is not None or (self._framing is not None and self._framing.oversized)

    @property
    def frames(self) -> int:
        """Frames seen so far; comments and keep-alives are none."""
        self._settle()
        return self._frames

    @property
    def chunks(self) -> int:
        """Chunks fed so far."""
        self._settle()
        return self._chunks

    @property
    def body_bytes(self) -> int:
        """Bytes fed so far, as they were on the wire."""
        self._settle()
        return self._body_bytes

    def tap(self, on_failure: Callable[[Exception], None]) -> Callable[[bytes], bytes]:
        """A callable for `flow.response.stream`: takes each chunk, returns it as it came, whatever happens.

        A chunk is only put aside; many are read together, whenever there are enough or somebody asks. (A generator's
        `send` costs two thirds of a function call, which would have to look up what this one has at hand.)
        """
        self._on_failure = on_failure
        batch = self._batch

        def passing() -> Generator[bytes, bytes, None]:
            chunk = yield b""
            while True:
                for _ in range(self._room):
                    batch.append(chunk)
                    chunk = yield chunk
                self._settle()

        tap = passing()
        next(tap)
        return tap.send

    def feed(self, chunk: bytes) -> None:
        """Read one chunk of the body, as it was on the wire."""
        self._batch.append(chunk)
        self._settle()

    def finish(self, *, complete: bool) -> None:
        """The body has ended, cleanly (`complete`) or cut. Any number of times; only the first counts."""
        self._settle()
        if self._finished:
            return
        self._finished, self._complete = True, complete
        if self._framing is None and self._head.strip() and self.broken is None:
            self._choose(self._head)(self._head)
        if self._framing is not None and self.broken is None:
            self.peek()  # what is left may be half a frame: it must not replace the whole one that is held
            for frame in self._framing.finish():
                self._read_event(frame) if self._sse else self._read_frame(frame)
        self.peek()
        if complete and self.seen.usage_raw is not None:
            if self.transport == "json":
                self.seen.usage_final = True
            elif self.transport == "ndjson" and self._frames == 1:  # a document of one line
                self.seen.terminal = True
        self.blind("finished")

    def peek(self) -> Observation:
        """What is known by now, a held usage frame included; for those who watch a stream while it runs."""
        self._settle()
        if self._latest is not None:
            frame, self._latest = self._latest, None
            self._observe(frame)
        return self.seen

    def blind(self, why: str) -> None:
        """Read no more of this body; what was seen stays."""
        if not self._finished:
            self.broken = self.broken or why
        self._wire = self._ignore

    def _settle(self) -> None:
        """Read what was put aside."""
        batch = self._batch
        if not batch:
            return
        try:
            text, count = b"".join(batch), len(batch)
            self._chunks += count if all(batch) else count - batch.count(b"")
            self._body_bytes += len(text)
            self._room = min(BATCH, BATCH_BYTES * count // (len(text) + 1)) or 1
            batch.clear()
            if self.keep is not None:
                self.keep(text)
            self._wire(text)
        except Exception as error:
            batch.clear()
            self._latest = None
            self.blind(f"{type(error).__name__} while reading")
            if self._on_failure is None:
                raise
            self._on_failure(error)  # the one promise: the traffic goes on

    # -- states of the wire: each takes the next bytes as they came

    def _begin(self, text: bytes) -> None:
        """First bytes: which codings, by header, else by magic number."""
        self._head += text
        names = self._codings or sniff(self._head)
        if names is None:
            return
        text, self._head = self._head, b""
        try:
            self._decoder = Decoder(names) if names else None
        except DecodeError as error:
            self.blind(str(error))
            return
        self._wire = self._encoded if self._decoder else self._identity
        self._wire(text)

    def _identity(self, text: bytes) -> None:
        if self._watch is not None:
            self._watch(text)
        self._plain(text)

    def _encoded(self, text: bytes) -> None:
        assert self._decoder is not None
        try:
            for piece in self._decoder.feed(text):
                self._identity(piece)
        except DecodeError as error:
            self.blind(str(error))

    def _ignore(self, text: bytes) -> None:
        """Broken or finished: bytes are counted only."""

    # -- states of the plain text: framing unknown, SSE, any other

    def _undecided(self, text: bytes) -> None:
        # any number of blank bytes may precede a body: OpenRouter and DeepSeek keep a connection alive with them
        self._head = (self._head + text).lstrip(_BLANK)
        if len(self._head) < _LONGEST_START:
            return
        text, self._head = self._head, b""
        self._choose(text)(text)

    def _choose(self, head: bytes) -> State:
        """Settle the framing by Content-Type and first bytes; returns the state that reads from now on."""
        self.transport = transport = self._transport(head)
        if transport == "json" and self._http_status < 400 and not head.startswith((b"{", b"[", b'"')):
            self.opaque = True
            self._plain = self._ignore
        elif transport == "sse":
            self._framing = self._sse = Sse(self._frame_limit)
            self._plain = self._events
        else:
            self._framing = _FRAMINGS[transport](self._frame_limit)
            self._plain = self._framed
        return self._plain

    def _transport(self, start: bytes) -> Transport:
        if self._content_type == _EVENT_STREAM:
            return "eventstream"
        if start.startswith(_SSE_STARTS):
            return "sse"
        if self._content_type in _NDJSON_TYPES:
            return "ndjson"
        if self._content_type == "text/event-stream":  # Gemini answers errors as plain JSON under this type
            return "json" if start.startswith((b"{", b"[")) else "sse"
        hint = self.dialect.transport_hint if self._stream else None
        if hint and hint in _HINTED_STARTS:
            return hint if start.startswith(_HINTED_STARTS[hint]) else "json"
        if hint == "ndjson" and (start.startswith((b"{\n", b"{\r")) or not start.startswith(b"{")):
            return "json"  # an object over several lines, an array, a page of HTML: no line of it is an object
        return hint or "json"

    def _events(self, text: bytes) -> None:
        sse, skim = self._sse, self._skim
        assert sse is not None
        skim.mixed = False
        at = 0
        while at < len(text):
            if not sse.pending:
                at, passed = skim.past(text, at)
                self._frames += passed
                if skim.held is not None:
                    self._latest = text[slice(*skim.held)]
                if at == len(text):
                    break
            cut = sse.pending
            frame, at = sse.take(text, at)
            if frame:
                self._read_event(frame, cut=cut)

    def _framed(self, text: bytes) -> None:
        assert self._framing is not None
        for frame in self._framing.feed(text):
            self._read_frame(frame)
        if self._framing.broken:
            self.blind(self._framing.broken)

    # -- frames

    def _read_event(self, frame: bytes, *, cut: bool = False) -> None:
        """An SSE frame that `past` has not passed over; comments and blank lines are none."""
        if blank := _NO_FIELDS.match(frame):
            frame = frame[blank.end() :]
            if not frame:
                return
        if cut and self._skim.past(frame)[0] == len(frame):  # ordinary, only cut in two
            self._frames += 1
            self._latest = self._latest if self._skim.held is None else frame
            return
        weight = self._read_frame(frame)
        may_learn = weight is not Weight.PARSE and self._learned < LEARNED + self._frames // 64
        if may_learn and self._skim.learn(frame, usage=weight is Weight.LATEST):
            self._learned += 1
            self._observe(frame)  # the first of its shape may be the first of its choice

    def _read_frame(self, frame: bytes) -> Weight:
        self._frames += 1
        weight = Weight.PARSE if self.transport == "json" else self.dialect.weigh(frame)
        unknown = self.seen.response_id is None or self.seen.response_model is None
        if weight is Weight.PARSE or (unknown and self._frames <= FIRST_FRAMES) or _DONE in frame[-_DONE_TAIL:]:
            self.peek()
            self._observe(frame)
        elif weight is Weight.LATEST:
            self._latest = frame
        return weight

    def _observe(self, frame: bytes, *, whole: bool = True) -> None:
        assert self._framing is not None
        payload = self._framing.payload(frame)
        if payload is None:
            return
        if payload.strip() == _DONE:
            self.dialect.done(self.seen)
            return
        try:
            told = _parse(payload)
        except ValueError:
            for line in _frames_by_line(payload, self.transport):
                self._observe(line, whole=self._complete)
            if self._http_status >= 400 and self.transport == "json":
                observe_error_body(self.seen, payload.decode("utf-8", "replace"))
            return  # not JSON: garbage, or a frame that the end of the body cut
        self.dialect.observe(self.seen, told)
        if self._http_status >= 400:
            observe_error_body(self.seen, told)
        elif self.transport == "json" and whole and not self.seen.background:
            self.seen.terminal = True


_HINTED_STARTS: dict[Transport, bytes] = {"json_array": b"[", "eventstream": b"\0"}  # a length below 16 MiB
_BLANK = b" \t\r\n\xef\xbb\xbf"
_DONE = b"[DONE]"
_DONE_TAIL = 64
"""Bytes at the end of a frame in which `[DONE]` is looked for: an `id` or a comment may stand behind it."""
# comments and blank lines before an event
_NO_FIELDS = re.compile(rb"(?::[^\r\n]*+|[\r\n])++")
_FRAMINGS: dict[Transport, Callable[[int], Framing]] = {
    "json": Document,
    "ndjson": Ndjson,
    "json_array": JsonArray,
    "eventstream": EventStream,
}


def framing_for(head: bytes) -> Framing:
    """The framing of a streamed body (decoded) that begins with `head`, by its first bytes alone."""
    start = head.lstrip(_BLANK)
    if start.startswith(_SSE_STARTS):
        return Sse(FRAME_LIMIT)
    if start.startswith(b"["):
        return JsonArray(FRAME_LIMIT)
    return EventStream(FRAME_LIMIT) if head.startswith(b"\0") else Ndjson(FRAME_LIMIT)


def _frames_by_line(payload: bytes, transport: Transport | None) -> list[bytes]:
    """The frames in what is no JSON as a whole: events one line end apart, JSON lines under another type."""
    lines = payload.split(b"\n")
    if transport == "sse" and len(lines) > 1:
        return [b"data: " + line + b"\n\n" for line in lines]
    return lines if transport == "json" and lines[0].rstrip().endswith(b"}") and len(lines) > 1 else []


def _parse(payload: bytes) -> Any:
    """JSON, also with what orjson refuses and providers send: NaN, invalid UTF-8, lone surrogates.
    Else `ValueError`.
    """
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        try:
            return json.loads(payload.decode("utf-8", "replace"))
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
