"""Recorded exchanges as somebody else would have recorded them: what we read must not hang on how.

Of every provider's every API a few exchanges, each changed in one way at a time: another host and prefix, other spacing
and key order, other line ends, cuts and codings, no Content-Type, no `[DONE]`. They must be detected as they were and
read as they were. That the reading itself is right is the matter of the other two files here.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from tests import corpus, oracle

from usagetap.dialects import detect
from usagetap.dialects.base import Dialect
from usagetap.encoding import encode
from usagetap.model import Observation, Request, Transport
from usagetap.reader import Reader
from usagetap.turns import Ended, Event, turns_for

pytestmark = [corpus.needs_corpus, pytest.mark.timeout(120)]

EACH = 3
"""Exchanges of one provider, API, status and kind of answer."""
FRAGMENT = "8c85498548184408e015"
"""One line of a stream, kept as a whole answer."""
LARGE = 40_000
"""Bytes above which a body is not fed byte by byte."""


@dataclass(frozen=True)
class Wire:
    """One answer as it came."""

    dialect: Dialect
    body: bytes
    content_type: str
    status: int
    headers: dict[str, str]
    stream: bool
    """Whether the request asked for a stream."""
    transport: Transport | None = None
    coding: str | None = None
    piece: int = 1 << 30

    def read(self) -> Reader:
        reader = Reader(
            self.dialect,
            content_type=self.content_type,
            content_encoding=self.coding,
            http_status=self.status,
            headers=self.headers,
            stream=self.stream,
        )
        tap = reader.tap(_raise)
        for start in range(0, len(self.body), self.piece):
            tap(self.body[start : start + self.piece])
        reader.finish(complete=True)
        return reader


def _raise(error: Exception) -> None:
    raise error


def _wire(exchange: dict[str, Any], request: Request, dialect: Dialect) -> Wire:
    headers = {name.lower(): value for name, value in exchange["usage_headers"].items()}
    type_ = exchange["content_type"] or ""
    wire = Wire(dialect, oracle.body_of(exchange), type_, exchange["status"], headers, dialect.streams(request))
    return dataclasses.replace(wire, transport=wire.read().transport)


@pytest.fixture(scope="module")
def sample() -> list[tuple[str, Request, Wire]]:
    kinds: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for exchange in corpus.exchanges():
        kind = ("provider", "api", "stream", "status", "content_type")
        kinds[tuple(exchange[name] for name in kind)].append(exchange)
    draw = random.Random(0)
    chosen = (exchange for kind in kinds.values() for exchange in draw.sample(kind, min(EACH, len(kind))))
    found = []
    for exchange in chosen:
        if exchange["id"] == FRAGMENT:
            continue
        request = oracle.request_of(exchange)
        dialect = detect(request)
        if dialect is not None:
            found.append((exchange["id"], request, _wire(exchange, request, dialect)))
    return found


# -- the question


def _model(request: Request) -> Request:
    named = isinstance(request.body, dict) and "model" in request.body
    return dataclasses.replace(request, body={**request.body, "model": "house/own-model@3"}) if named else request


ASKED: dict[str, Callable[[Request], Request]] = {
    "behind a prefix": lambda request: dataclasses.replace(request, path=f"/router/v2/acme{request.path}"),
    "doubled slash": lambda request: dataclasses.replace(request, path=f"/{request.path}"),
    "trailing slash": lambda request: dataclasses.replace(request, path=f"{request.path}/"),
    "another port": lambda request: dataclasses.replace(request, port=8443),
    "unknown headers": lambda request: dataclasses.replace(request, headers={"x-stainless-lang": "python"}),
    "a query": lambda request: dataclasses.replace(request, query={**request.query, "beta": "true"}),
    "another model": _model,
    "keys turned round": lambda request: dataclasses.replace(request, body=_turned(request.body)),
}


@pytest.mark.parametrize("how", ASKED)
def test_a_request_is_known_however_it_comes(sample: list[tuple[str, Request, Wire]], how: str) -> None:
    wrong = []
    for name, request, wire in sample:
        otherwise = ASKED[how](request)
        found = detect(otherwise)
        if found is not wire.dialect or found.streams(otherwise) is not wire.stream:
            wrong.append((name, request.path, wire.dialect.name, found and found.name))
    assert wrong == []


BY_HOST = {"cohere", "rerank", "openai_chat"}
"""Of whom two share a path: `/v1/rerank`, and `/v1/chat` where the request tells nothing."""


@pytest.mark.parametrize("host", ["gateway.example", "127.0.0.1"])
def test_a_request_is_known_on_any_host(sample: list[tuple[str, Request, Wire]], host: str) -> None:
    wrong = []
    for name, request, wire in sample:
        found = detect(dataclasses.replace(request, host=host))
        shared = request.path in ("/v1/chat", "/v1/rerank") and (found is None or found.name in BY_HOST)
        if found is not wire.dialect and not shared:
            wrong.append((name, request.path, wire.dialect.name, found and found.name))
    assert wrong == []


def test_a_request_whose_body_is_gone_is_never_taken_for_another(sample: list[tuple[str, Request, Wire]]) -> None:
    wrong = []
    for name, request, wire in sample:
        found = detect(dataclasses.replace(request, body=None))
        if found is not None and found is not wire.dialect:
            wrong.append((name, request.path, wire.dialect.name, found.name))
    assert wrong == []


# -- the answer


def _turned(value: Any) -> Any:
    """Every object's keys in the opposite order."""
    if isinstance(value, dict):
        return {name: _turned(inner) for name, inner in reversed(value.items())}
    return [_turned(inner) for inner in value] if isinstance(value, list) else value


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _spaced(value: Any) -> bytes:
    return json.dumps(value, separators=(" , ", " : "), ensure_ascii=True).encode()


def _indented(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode()


def _json_lines(wire: Wire) -> Wire:
    """A stream's payloads one a line, as if they were one document."""
    if wire.transport != "sse":
        return wire
    payloads = re.findall(rb"(?m)^data: ?(\{.*\})\r?$", wire.body)
    return dataclasses.replace(wire, body=b"\n".join(payloads), content_type="application/json")


def _written(wire: Wire, write: Callable[[Any], bytes]) -> Wire:
    """The same payloads, written by another JSON library."""

    def line(found: re.Match[bytes]) -> bytes:
        try:
            return found[1] + write(json.loads(found[2]))
        except ValueError:
            return found[0]

    if wire.transport == "sse":
        body = re.sub(rb"(?m)^(data: ?)(.*?)(?=\r?$)", line, wire.body)
    elif wire.transport == "ndjson":
        body = re.sub(rb"(?m)^()(.+)$", line, wire.body)
    elif wire.transport in ("json", "json_array"):
        body = re.sub(rb"(?s)\A()(.+)\Z", line, wire.body)
    else:
        return wire
    return dataclasses.replace(wire, body=body)


def _sse(wire: Wire, pattern: bytes, by: bytes) -> Wire:
    """An event stream with LF line ends, in which `pattern` became `by`."""
    if wire.transport != "sse":
        return wire
    return dataclasses.replace(wire, body=re.sub(pattern, by, wire.body.replace(b"\r\n", b"\n")))


def _lines(wire: Wire, end: bytes) -> Wire:
    if wire.transport not in ("sse", "ndjson"):
        return wire
    return dataclasses.replace(wire, body=re.sub(rb"\r?\n", end, wire.body))


def _coded(wire: Wire, coding: str, *, told: bool = True) -> Wire:
    return dataclasses.replace(wire, body=encode(wire.body, coding), coding=coding if told else None, piece=701)


def _document(wire: Wire, before: bytes) -> Wire:
    return dataclasses.replace(wire, body=before + wire.body) if wire.transport == "json" else wire


TEXTS = frozenset(
    {"content", "text", "delta", "reasoning", "reasoning_content", "arguments", "partial_json", "thinking"}
)
UNTRUE = """He wrote: "usage":{"prompt_tokens":5},"finish_reason":"stop" \\" \u2028

data: [DONE]

event: error
data: {"type":"message_stop","error":{"message":"no"},"usageMetadata":{"promptTokenCount":3}}

"""
"""What a model may say about an API like its own."""
ABSENT = ("usage", "error", "choices", "x_groq", "service_tier", "usageMetadata", "promptFeedback", "copilot_usage")


def _everywhere(value: Any, change: Callable[[str, Any], Any], name: str = "") -> Any:
    """`change` of everything that is no object and no list, by the name it has."""
    if isinstance(value, dict):
        return {key: _everywhere(inner, change, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_everywhere(inner, change, name) for inner in value]
    return change(name, value)


def _talking_of_apis(value: Any) -> bytes:
    return _compact(_everywhere(value, lambda name, it: it + UNTRUE if name in TEXTS and isinstance(it, str) else it))


def _in_floats(value: Any) -> bytes:
    """Counts as Cohere's and Titan's: `28.0`."""
    return _compact(_everywhere(value, lambda name, it: float(it) if "oken" in name and type(it) is int else it))


def _with_nulls(value: Any) -> bytes:
    return _compact(dict.fromkeys(ABSENT) | value if isinstance(value, dict) else value)


def _with_empties(value: Any) -> bytes:
    objects = [name for name in ABSENT if name not in ("choices", "service_tier")]
    return _compact({name: {} for name in objects} | value if isinstance(value, dict) else value)


def _with_unknown(value: Any) -> bytes:
    new = {"vendor": {"id": "none", "parts": [1, None, {"tier": "t:{}"}]}, "took": 0.25}
    return _compact(new | value | {"trace": new} if isinstance(value, dict) else value)


def _twice(wire: Wire) -> Wire:
    """The last three frames again, as a retrying proxy sends them."""
    if wire.transport != "sse" or not wire.body.endswith((b"\n\n", b"\r\n\r\n")):
        return wire
    frames = re.findall(rb".+?\r?\n\r?\n", wire.body, re.DOTALL)
    return dataclasses.replace(wire, body=b"".join(frames + frames[-3:]))


ANSWERED: dict[str, Callable[[Wire], Wire]] = {
    "texts about APIs": lambda wire: _written(wire, _talking_of_apis),
    "counts as floats": lambda wire: _written(wire, _in_floats),
    "nulls for what is absent": lambda wire: _written(wire, _with_nulls),
    "empty objects for what is absent": lambda wire: _written(wire, _with_empties),
    "unknown fields": lambda wire: _written(wire, _with_unknown),
    "last frames twice": _twice,
    "[DONE] twice": lambda wire: _sse(wire, rb"(?m)^data: ?\[DONE\]\n*", b"data: [DONE]\n\ndata: [DONE]\n\n"),
    "one line end between frames": lambda wire: _sse(wire, rb"\n{2,}", b"\n"),
    "three line ends between frames": lambda wire: _sse(wire, rb"\n{2,}", b"\n\n\n"),
    "CR": lambda wire: _lines(wire, b"\r") if wire.transport == "sse" else wire,
    "comments within frames": lambda wire: _sse(wire, rb"(?m)^(data:)", rb": ping\n\1"),
    "JSON lines": _json_lines,
    "a retry time": lambda wire: _sse(wire, rb"\A", b"retry: 3000\n\n"),
    "compact": lambda wire: _written(wire, _compact),
    "spaced": lambda wire: _written(wire, _spaced),
    "keys turned round": lambda wire: _written(wire, lambda value: _compact(_turned(value))),
    "turned and spaced": lambda wire: _written(wire, lambda value: _spaced(_turned(value))),
    "indented": lambda wire: _written(wire, _indented) if wire.transport in ("json", "json_array") else wire,
    "blanks before": lambda wire: _document(wire, b"\n         \n" * 112),
    "LF": lambda wire: _lines(wire, b"\n"),
    "CRLF": lambda wire: _lines(wire, b"\r\n"),
    "keep-alives": lambda wire: _sse(wire, rb"\A|(?<=\n\n)", b": OPENROUTER PROCESSING\n\n"),
    "no space after data": lambda wire: _sse(wire, rb"(?m)^data: ", b"data:"),
    "no event names": lambda wire: _sse(wire, rb"(?m)^event:.*\n", b""),
    "event names behind": lambda wire: _sse(wire, rb"(?m)^(event:.*)\n(data:.*)$", rb"\2\n\1"),
    "ids": lambda wire: _sse(wire, rb"(?m)^(data:)", rb"id: 7\n\1"),
    "no [DONE]": lambda wire: _sse(wire, rb"(?m)^data: ?\[DONE\]\n*", b""),
    "a byte order mark": lambda wire: _sse(wire, rb"\A", b"\xef\xbb\xbf"),
    "no last line end": lambda wire: dataclasses.replace(wire, body=wire.body.rstrip(b"\r\n")),
    "byte by byte": lambda wire: dataclasses.replace(wire, piece=1 if len(wire.body) < LARGE else 1399),
    "in small pieces": lambda wire: dataclasses.replace(wire, piece=97),
    "no type": lambda wire: dataclasses.replace(wire, content_type=""),
    "a wrong type": lambda wire: dataclasses.replace(wire, content_type="application/octet-stream"),
    "a type in capitals": lambda wire: dataclasses.replace(wire, content_type=wire.content_type.upper()),
    "a charset twice": lambda wire: dataclasses.replace(wire, content_type=wire.content_type + "; charset=utf-8" * 2),
    "gzip": lambda wire: _coded(wire, "gzip"),
    "br": lambda wire: _coded(wire, "br"),
    "zstd": lambda wire: _coded(wire, "zstd"),
    "deflate": lambda wire: _coded(wire, "deflate"),
    "gzip untold": lambda wire: _coded(wire, "gzip", told=False),
    "zstd untold": lambda wire: _coded(wire, "zstd", told=False),
}


@pytest.mark.parametrize("how", ANSWERED)
def test_an_answer_is_read_alike_however_it_comes(sample: list[tuple[str, Request, Wire]], how: str) -> None:
    wrong = []
    for name, _request, wire in sample:
        otherwise = ANSWERED[how](wire)
        told, before = otherwise.read(), wire.read()
        ends = how not in ("no [DONE]", "JSON lines")
        if otherwise != wire and _told(told.seen, ends=ends) != _told(before.seen, ends=ends):
            wrong.append((name, wire.dialect.name, dict(_changed(before.seen, told.seen))))
    assert wrong == []


ERRORS = (
    b'data: {"error":{"message":"Overloaded","type":"overloaded_error","code":529}}\n\n',
    b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n',
    b'event: error\ndata: {"error":{"message":"Overloaded","code":"overloaded_error","status_code":529}}\n\n',
    b'data: {"error":"Overloaded","code":"overloaded_error"}\n\n',
)


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_behind_the_answer_leaves_what_was_told(sample: list[tuple[str, Request, Wire]], error: bytes) -> None:
    wrong = []
    for name, _request, wire in sample:
        if wire.transport != "sse" or wire.status >= 400 or not wire.body.endswith((b"\n\n", b"\r\n\r\n")):
            continue
        before, after = wire.read().seen, dataclasses.replace(wire, body=wire.body + error).read().seen
        told = _told(before)[4:7] == _told(after)[4:7]
        if not told or (before.error_type or "overloaded_error") != after.error_type:
            wrong.append((name, wire.dialect.name, dict(_changed(before, after))))
    assert wrong == []


def test_a_whole_answer_to_a_wish_for_a_stream_is_read_alike(sample: list[tuple[str, Request, Wire]]) -> None:
    """And a stream to who wished for none. Lines without a type of their own are left out: nothing tells them."""
    wrong = []
    for name, _request, wire in sample:
        lines = wire.transport == "ndjson" and "ndjson" not in wire.content_type
        otherwise = dataclasses.replace(wire, stream=not wire.stream).read()
        if not lines and wire.status < 400 and _told(otherwise.seen) != _told(wire.read().seen):
            wrong.append((name, wire.dialect.name, dict(_changed(wire.read().seen, otherwise.seen))))
    assert wrong == []


def _told(seen: Observation, *, ends: bool = True) -> tuple[Any, ...]:
    """What becomes a row; `ends`: also whether a terminal event was seen."""
    reasons = {index: reason for index, reason in seen.finish_reasons.items() if reason is not None}
    identity = (seen.response_id, seen.response_model, seen.service_tier, seen.error_type)
    return *identity, reasons, seen.usage, seen.cost, ends and seen.terminal


def _changed(before: Observation, after: Observation) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(Observation):
        pair = getattr(before, field.name), getattr(after, field.name)
        if pair[0] != pair[1]:
            yield field.name, pair


# -- sockets

SAID: dict[str, Callable[[Any], bytes]] = {
    "compact": _compact,
    "spaced": _spaced,
    "indented": _indented,
    "keys turned round": lambda value: _compact(_turned(value)),
}


def _sessions() -> Iterator[dict[str, Any]]:
    for name in ("websocket.jsonl.gz", "websocket_derived.jsonl.gz"):
        with gzip.open(corpus.path(name), "rb") as lines:
            yield from map(json.loads, lines)


def _turns(session: dict[str, Any], write: Callable[[Any], bytes], path: str, *, sent: bool = True) -> list[Any]:
    """What became of each turn, in the order of their ends."""
    parts = urlsplit(session["url"])
    turns = turns_for(Request("GET", "gateway.example", 443, path or parts.path, dict(parse_qsl(parts.query))))
    assert turns is not None
    events: list[Event] = []
    for message in session["messages"]:
        if message["kind"] == "message" and (sent or message["dir"] == "received"):
            take = turns.sent if message["dir"] == "sent" else turns.received
            events += take(write(json.loads(message["data"])))
    events += turns.finish()
    return [(event.turn.operation, _told(event.turn.seen)) for event in events if isinstance(event, Ended)]


@pytest.mark.parametrize("how", SAID)
def test_a_socket_is_read_alike_however_it_is_written(how: str) -> None:
    for session in _sessions():
        behind = f"/acme/proxy{urlsplit(session['url']).path}/"
        assert _turns(session, SAID[how], behind) == _turns(session, _compact, ""), session["id"]


def test_a_socket_of_which_only_the_server_is_heard_has_its_usage() -> None:
    for session in _sessions():
        heard, all_of_it = (
            [(told[0], told[5]) for _, told in _turns(session, _compact, "", sent=sent) if told[5].known]
            for sent in (False, True)
        )
        assert heard == all_of_it, session["id"]
