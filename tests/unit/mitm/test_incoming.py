"""A mitmproxy request as the core sees it, and what of it is secret."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.http import Headers, HTTPFlow
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import tflow, tutils

from usagetap.mitm.incoming import (
    BODY_LIMIT,
    credential_of,
    headers_of,
    masked,
    place_of,
    plain_body,
    request_of,
    tag_of,
)
from usagetap.model import Request


def flow(body: bytes = b"{}", path: str = "/v1/chat/completions", **headers: str) -> HTTPFlow:
    request = tutils.treq(method=b"POST", host="API.Example.test.", port=8443, path=path.encode(), content=body)
    request.headers.clear()
    for name, value in headers.items():
        request.headers[name.replace("_", "-")] = value
    return tflow.tflow(req=request)


def asked(query: dict[str, str] | None = None, **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request("POST", "h", 443, "/", query=query or {}, headers=named)


def test_place_and_query() -> None:
    request = request_of(flow(path="/v1/x?a=1&b=&a=2"), b"{}")
    assert (request.host, request.port, request.path) == ("api.example.test", 8443, "/v1/x")
    assert request.query == {"a": "2", "b": ""}


def test_only_transparent_modes_trust_the_host_header() -> None:
    regular = flow(host="elsewhere.test")
    assert place_of(regular)[0] == "api.example.test"
    regular.client_conn.proxy_mode = ProxyMode.parse("transparent")
    assert place_of(regular)[0] == "elsewhere.test"


@given(st.lists(st.tuples(st.sampled_from([b"Set-Cookie", b"set-cookie", b"X", b"Y"]), st.binary(max_size=4))))
def test_headers_are_as_mitmproxy_reads_them(fields: list[tuple[bytes, bytes]]) -> None:
    headers = Headers(fields)
    assert headers_of(headers) == {name.lower(): value for name, value in headers.items()}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_is_none(body: bytes) -> None:
    assert request_of(flow(body), body).body is None


def test_a_form_gives_model_and_stream_and_not_its_file() -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
        b'--b\r\nContent-Disposition: form-data; name="stream"\r\n\r\ntrue\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\x00\xff\r\n--b--\r\n'
    )
    request = request_of(flow(body, content_type="multipart/form-data; boundary=b"), body)
    assert request.body == {"model": "whisper-1", "stream": True}


def test_plain_bodies() -> None:
    text = json.dumps({"a": 1}).encode()
    assert plain_body(flow(), text) == (text, None)
    assert plain_body(flow(content_encoding="gzip"), gzip.compress(text)) == (text, None)
    assert plain_body(flow(content_encoding="gzip"), b"\x1f\x8bno") == (None, "encoding")
    assert plain_body(flow(), bytes(BODY_LIMIT + 1)) == (None, "too_large")


@pytest.mark.parametrize(
    ("request_", "credential"),
    [
        (asked(authorization="Bearer sk-1"), "sk-1"),
        (asked(authorization="sk-bare"), "sk-bare"),
        (asked(authorization="AWS4-HMAC-SHA256 Credential=AKIA1/2026/x, Signature=ff"), "AKIA1"),
        (asked(x_api_key="k"), "k"),
        (asked(api_key="k"), "k"),
        (asked(x_goog_api_key="k"), "k"),
        (asked({"key": "k"}), "k"),
        (asked(), None),
    ],
)
def test_who_pays(request_: Request, credential: str | None) -> None:
    assert credential_of(request_) == credential


SECRET = "sk-live-0123456789abcdef"


@pytest.mark.parametrize(
    "request_",
    [
        asked(authorization=f"Bearer {SECRET}"),
        asked(x_api_key=SECRET),
        asked(cookie=f"a=b; session={SECRET}"),
        asked({"key": SECRET}),
        asked({"sig": SECRET}),
        asked(sec_websocket_protocol=f"realtime, openai-insecure-api-key.{SECRET}"),
    ],
)
def test_no_credential_is_left_in_a_message(request_: Request) -> None:
    assert masked(f"Incorrect key {SECRET} ({SECRET!r}).", request_) == "Incorrect key *** ('***')."


def test_a_credential_that_the_messages_end_cuts_goes_too() -> None:
    request_ = asked(authorization=f"Bearer {SECRET}")
    assert masked(f"Incorrect key {SECRET}"[:-3], request_) == "Incorrect key ***"
    assert masked(f"Keys begin with {SECRET[:5]}", request_) == f"Keys begin with {SECRET[:5]}"


def test_a_quotation_of_the_request_goes() -> None:
    request_ = replace(asked(), body={"contents": "a prompt that is nobody's business"})
    assert masked("Invalid value at 'contents': \"a prompt that is nobody's business\"", request_) == (
        "Invalid value at 'contents': \"***\""
    )


@given(st.text())
def test_a_message_without_a_credential_stays(message: str) -> None:
    assert masked(message, asked(authorization="Bearer \x00never-in-a-text\x00")) == message


@given(st.text(max_size=300))
def test_a_tag_is_short_and_printable_or_none(value: str) -> None:
    tag = tag_of(value)
    assert tag is None or (tag == value.strip() and len(tag) <= 200 and tag.isprintable())


def test_tags() -> None:
    assert tag_of(" team a ") == "team a"
    assert tag_of("é·中") == "é·中"
    assert [tag_of(value) for value in (None, "", "  ", "a\x1b[31m", "a\n", "x" * 201)][3:] == [None, "a", None]
