"""A mitmproxy request as the core sees it: its place, its headers, its body as JSON."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

import orjson
from mitmproxy import http

from usagetap.encoding import DecodeError, decode
from usagetap.mitm.quotes import without_quotes
from usagetap.model import Request

BODY_LIMIT = 64 << 20
"""Bytes of a decoded request body that are looked at: a prompt with images has some 20 MiB, and
providers refuse more."""

_SECRET = re.compile(r"key|token|auth|secret|sig|cookie|credential|websocket-protocol", re.IGNORECASE)
"""In the names of the headers and query parameters whose values are nobody's business."""
_SEPARATOR = re.compile(r"[\s,;=]+|openai-insecure-api-key\.")  # browsers send their key as a WebSocket subprotocol

_FORM_FIELD = re.compile(rb'name="(model|stream)"\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]{1,200})\r\n')


def place_of(flow: http.HTTPFlow) -> tuple[str, int, str]:
    """Host, port and path (without the query) that the request goes to.

    In transparent mode mitmproxy only knows the address, and the Host header (or SNI) names the host.
    """
    transparent = flow.client_conn.proxy_mode.type_name in ("transparent", "wireguard", "local", "tun")
    host = flow.request.pretty_host if transparent else flow.request.host
    return host.lower().rstrip("."), flow.request.port, flow.request.path.partition("?")[0]


def headers_of(headers: http.Headers) -> dict[str, str]:
    """The headers by their names in lower case, repeated ones joined; mitmproxy's own way looks for each among all."""
    found: dict[str, str] = {}
    for name, value in headers.items(multi=True):
        key = name.lower()
        found[key] = f"{found[key]}, {value}" if key in found else value
    return found


def request_of(flow: http.HTTPFlow, plain: bytes | None) -> Request:
    """The core's view of the request; `plain` is its decoded body, `None` where that cannot be had."""
    host, port, path = place_of(flow)
    headers = headers_of(flow.request.headers)
    return Request(
        method=flow.request.method.upper(),
        host=host,
        port=port,
        path=path,
        query=dict(parse_qsl(flow.request.path.partition("?")[2], keep_blank_values=True)),
        headers=headers,
        body=_body(headers.get("content-type", ""), plain),
    )


def plain_body(flow: http.HTTPFlow, raw: bytes) -> tuple[bytes | None, str | None]:
    """The decoded request body, or `None` and the word for `inject_skipped`."""
    if len(raw) > BODY_LIMIT:
        return None, "too_large"
    try:
        return decode(raw, flow.request.headers.get("content-encoding"), BODY_LIMIT), None
    except DecodeError:
        return None, "encoding"


def _body(content_type: str, plain: bytes | None) -> Any:
    if not plain:
        return None
    if content_type.lower().startswith("multipart/form-data"):
        # transcriptions name their model in a form field; the audio beside it is not looked at
        fields = {name.decode(): value.decode("utf-8", "replace") for name, value in _FORM_FIELD.findall(plain)}
        return fields | {"stream": True} if fields.get("stream") == "true" else fields
    try:
        return orjson.loads(plain)
    except orjson.JSONDecodeError:
        return None


def credential_of(request: Request) -> str | None:
    """Who pays, as sent: the key or token, of a signed request the access key's id. Only ever to be hashed."""
    authorization = request.headers.get("authorization", "")
    if authorization.startswith("AWS4-"):
        found = re.search(r"Credential=([^/,\s]+)", authorization)
        return found[1] if found else None
    for value in (
        authorization.partition(" ")[2] or authorization,
        request.headers.get("x-api-key"),
        request.headers.get("api-key"),
        request.headers.get("x-goog-api-key"),
        request.query.get("key"),
    ):
        if value:
            return value.strip()
    return None


def masked(message: str, request: Request) -> str:
    """`message` without the request's credentials and without what it quotes of the request's texts.

    It may have been cut in the middle of a credential: then the beginning of one goes, too.
    """
    for secret in _secrets_of(request):
        message = message.replace(secret, "***")
        begun = next((size for size in range(len(secret) - 1, 7, -1) if message.endswith(secret[:size])), 0)
        message = message[: len(message) - begun] + "***" if begun else message
    return without_quotes(message, request.body)


def _secrets_of(request: Request) -> list[str]:
    values = [value for name, value in (*request.query.items(), *request.headers.items()) if _SECRET.search(name)]
    words = {word for value in values for word in _SEPARATOR.split(value) if len(word) >= 12}
    return sorted(words, key=len, reverse=True)


def tag_of(value: str | None) -> str | None:
    """The tag header's value if it is one: up to 200 printable characters; anything else is no tag."""
    value = (value or "").strip()
    return value if value and len(value) <= 200 and value.isprintable() else None
