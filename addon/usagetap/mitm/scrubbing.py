"""A flow file without its credentials.

Two readings: the first learns every credential by the name of what it stands in (header, query parameter, cookie, the
user part of a URL); the second blanks those places, and every other place in the file where one of them stands (an
error body that repeats the key, a token answer whose token a later flow uses), and what looks like a key of a known
maker.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote_to_bytes

from mitmproxy import http
from mitmproxy.flow import Flow
from mitmproxy.io import FlowWriter

from usagetap.mitm.reading import flows_in

BLANK = b"scrubbed"
LEAST = 12
"""Characters from which a credential is looked for everywhere: a cookie's `1` or `true` stands in every body."""

_SECRET = re.compile(
    rb"(?:^|[-_.])(?:authorization|auth|api-?key|key|token|secret|cookie|session|session-?id|sig|signature|password|passwd|"
    rb"pwd|credentials?|jwt|assertion)(?:$|[-_.\d])",
    re.IGNORECASE,
)
"""Names, of a header or a query parameter, whose value is a credential."""
_HARMLESS = re.compile(
    rb"ratelimit|rate-limit|^access-control-|^sec-websocket-(?:key|accept)$|^idempotency-key$|^www-authenticate$|"
    rb"^proxy-authenticate$",
    re.IGNORECASE,
)
_PARAMETER = re.compile(rb"([?&;])([^=?&;#\s\"'<>]+)=([^&;#\s\"'<>]+)")
_USERINFO = re.compile(rb"(://)[^\s/@?#\"'<>]+(?=@)")
_SCHEME = re.compile(rb"\s*(?:(?:Basic|Bearer|Token|Digest|Negotiate|NTLM|AWS4-HMAC-SHA256)\s+)?", re.IGNORECASE)
_SUBPROTOCOL = re.compile(rb"(openai-insecure-api-key\.)[^,\s]+")
"""How a browser hands its key to OpenAI's Realtime API."""
_SHAPES = re.compile(
    rb"\b(?:(?:sk|ek|rk|pk)[-_][A-Za-z0-9_-]{20,}|AIza[A-Za-z0-9_-]{35}|(?:gsk|hf|r8|fw)_[A-Za-z0-9]{20,}|"
    rb"(?:xai|pplx|csk|nvapi)-[A-Za-z0-9_-]{20,}|ya29\.[A-Za-z0-9_-]{20,}|(?:AKIA|ASIA)[A-Z0-9]{16}\b|"
    rb"gh[opusr]_[A-Za-z0-9]{30,}|eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+)"
)
"""Keys of known makers, wherever they stand."""
_LOGIN = rb"access_token|refresh_token|id_token|client_secret|client_assertion|assertion|password|code_verifier"
_FIELD = re.compile(rb'("(?:' + _LOGIN + rb')"\s*:\s*")[^"]+(?=")|(\b(?:' + _LOGIN + rb")=)[^&\s\"'<>]+")
"""What logging in asks and answers (OAuth, RFC 6749), in JSON or a form."""


class Scrubber:
    """The credentials of one file, and the blanking of them."""

    def __init__(self) -> None:
        self.scrubbed = 0
        """Places that were blanked."""
        self.opaque = 0
        """Bodies in a coding that cannot be read; they are copied as they are."""
        self._learned: set[bytes] = set()
        self._pattern: re.Pattern[bytes] | None = None

    # -- first reading

    def learn(self, flow: http.HTTPFlow) -> None:
        """Note the credentials in a flow."""
        for headers in _headers(flow):
            for name, value in headers.fields:
                _blank_header(name, value, self._note)
        _blank_url(flow.request.data.path, self._note)
        self._pattern = None

    def _note(self, secret: bytes) -> None:
        for form in (secret, unquote_to_bytes(secret), quote(secret, safe="").encode()):
            if len(form) >= LEAST and form != BLANK:
                self._learned.add(form)

    # -- second reading

    def scrub(self, flow: Flow) -> None:
        """Blank what is a credential in a flow; everything else stays, byte for byte."""
        bodies = self._http(flow) if isinstance(flow, http.HTTPFlow) else []
        state = flow.get_state()
        state["backup"] = None  # what stood there before somebody edited the flow
        flow.set_state(self._everywhere(state))
        for name, raw in bodies:
            getattr(flow, name).raw_content = raw

    def _http(self, flow: http.HTTPFlow) -> list[tuple[str, bytes | None]]:
        """Blank the places that have names, and the bodies, which are then set aside."""
        flow.metadata.pop("proxyauth", None)  # mitmproxy's option `proxyauth`: user and password
        for headers in _headers(flow):
            headers.fields = tuple((name, _blank_header(name, value, self._count)) for name, value in headers.fields)
        request = flow.request.data
        request.path = _blank_url(request.path, self._count)
        request.authority = request.authority.rpartition(b"@")[2]
        bodies: list[tuple[str, bytes | None]] = []
        for name in ("request", "response"):
            message: http.Message | None = getattr(flow, name)
            if message is not None:
                self._body(message)
                bodies.append((name, message.raw_content))
                message.raw_content = None
        return bodies

    def _count(self, _secret: bytes) -> None:
        self.scrubbed += 1

    def _body(self, message: http.Message) -> None:
        if not message.raw_content:
            return
        try:
            plain = message.get_content(strict=True) or b""
        except ValueError:
            self.opaque += 1
            return
        clean = self._text(plain)
        if clean != plain:
            length = "content-length" in message.headers
            message.content = clean
            if not length:
                message.headers.pop("content-length", None)

    def _everywhere(self, state: Any) -> Any:
        """Nested data, blanked in every text and byte string of it."""
        if isinstance(state, bytes):
            return self._text(state)
        if isinstance(state, str):
            plain = state.encode("utf-8", "surrogateescape")
            clean = self._text(plain)
            return state if clean == plain else clean.decode("utf-8", "surrogateescape")
        if isinstance(state, dict):
            return {key: each if key == "certificate_list" else self._everywhere(each) for key, each in state.items()}
        if isinstance(state, list | tuple):
            return type(state)(self._everywhere(each) for each in state)
        return state

    def _text(self, text: bytes) -> bytes:
        for pattern in (self._known(), _SHAPES, _FIELD):
            text = pattern.sub(self._blank, text)
        return text

    def _blank(self, match: re.Match[bytes]) -> bytes:
        self.scrubbed += 1
        return b"".join(kept for kept in match.groups() if kept) + BLANK

    def _known(self) -> re.Pattern[bytes]:
        if self._pattern is None:
            longest_first = sorted(self._learned, key=len, reverse=True)
            self._pattern = re.compile(b"|".join(map(re.escape, longest_first)) if longest_first else rb"(?!)")
        return self._pattern


type Note = Callable[[bytes], None]


def _headers(flow: http.HTTPFlow) -> list[http.Headers]:
    messages = [message for message in (flow.request, flow.response) if message is not None]
    return [headers for each in messages for headers in (each.headers, each.trailers) if headers is not None]


def _blank_header(name: bytes, value: bytes, note: Note) -> bytes:
    """A header's value without the credentials in it; `note` hears of each."""
    if _HARMLESS.search(name):
        return value
    if name.lower() == b"sec-websocket-protocol":
        return _replace(_SUBPROTOCOL, value, note)
    if name.lower() == b"cookie":
        return b"; ".join(_blank_cookie(pair.strip(), note) for pair in value.split(b";"))
    if name.lower() == b"set-cookie":
        pair, semicolon, attributes = value.partition(b";")
        return _blank_cookie(pair, note) + semicolon + attributes
    if not _SECRET.search(name):
        return _blank_url(value, note)
    scheme = _SCHEME.match(value)
    start = scheme.end() if scheme else 0
    if secret := value[start:].strip():
        note(secret)
        with suppress(binascii.Error, ValueError, IndexError):  # HTTP's basic authentication: `user:password`
            note(base64.b64decode(secret, validate=True).split(b":", 1)[1])
    return value[:start] + BLANK if secret else value


def _blank_cookie(pair: bytes, note: Note) -> bytes:
    name, equals, secret = pair.partition(b"=")
    note(secret or name)
    return name + equals + BLANK if equals else BLANK


def _blank_url(url: bytes, note: Note) -> bytes:
    """A URL, or a text with URLs, without user parts and without the parameters whose names tell of a credential."""

    def blank(match: re.Match[bytes]) -> bytes:
        before, name, value = match.groups()
        if not _SECRET.search(name):
            return match[0]
        note(value)
        return before + name + b"=" + BLANK

    return _PARAMETER.sub(blank, _replace(_USERINFO, url, note))


def _replace(pattern: re.Pattern[bytes], text: bytes, note: Note) -> bytes:
    def blank(match: re.Match[bytes]) -> bytes:
        note(match[0].removeprefix(match[1]))
        return match[1] + BLANK

    return pattern.sub(blank, text)


def copy(source: Path, out: BinaryIO, scrubber: Scrubber, advance: Callable[[int], None]) -> int:
    """Copy a flow file (or HAR, as a flow file) without credentials; how many flows. Raises `Unreadable`."""
    for flow in flows_in(source, advance):
        if isinstance(flow, http.HTTPFlow):
            scrubber.learn(flow)
    writer = FlowWriter(out)
    count = 0
    for flow in flows_in(source, advance):
        scrubber.scrub(flow)
        writer.add(flow)
        count += 1
    return count
