from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from mitmproxy import http
from mitmproxy.io import FlowReader, FlowWriter
from mitmproxy.test import tflow
from mitmproxy.websocket import WebSocketMessage

from usagetap.mitm.scrubbing import Scrubber, copy

SECRET = "hunter2-hunter2-hunter2"


def flow_with(path: bytes = b"/v1/chat/completions", **headers: str) -> http.HTTPFlow:
    flow = tflow.tflow(resp=True)
    flow.request.data.path = path
    for name, value in headers.items():
        flow.request.headers[name.replace("_", "-")] = value
    return flow


def scrubbed(folder: Path, *flows: http.HTTPFlow) -> tuple[bytes, list[http.HTTPFlow], Scrubber]:
    """The copy's bytes, its flows, and what did it."""
    source = folder / "in.mitm"
    with source.open("wb") as file:
        for flow in flows:
            FlowWriter(file).add(flow)
    out, scrubber = io.BytesIO(), Scrubber()
    assert copy(source, out, scrubber, lambda _bytes: None) == len(flows)
    out.seek(0)
    return out.getvalue(), list(FlowReader(out).stream()), scrubber  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "header",
    [
        *("authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie", "set-cookie"),
        *("x-amz-security-token", "ocp-apim-subscription-key", "xi-api-key", "x-auth-token", "x-csrf-token"),
        *("cf-access-jwt-assertion", "openai-session", "x-client-secret"),
    ],
)
@pytest.mark.parametrize("form", ["{}", "Bearer {}", "Basic {}"])
def test_no_credential_header_is_left(tmp_path: Path, header: str, form: str) -> None:
    flow = flow_with()
    flow.request.headers[header] = flow.response.headers[header] = form.format(SECRET)
    content, flows, _ = scrubbed(tmp_path, flow)
    assert SECRET.encode() not in content
    assert flows[0].request.headers[header] == flows[0].response.headers[header]
    assert flows[0].request.headers[header].endswith("scrubbed")


@pytest.mark.parametrize(
    "name", ["key", "api_key", "api-key", "access_token", "X-Amz-Signature", "sig", "client_secret"]
)
def test_no_credential_is_left_in_a_query(tmp_path: Path, name: str) -> None:
    flow = flow_with(f"/v1/models?alt=sse&{name}={SECRET}&x=1".encode(), referer=f"https://a.example/?{name}={SECRET}")
    content, flows, _ = scrubbed(tmp_path, flow)
    assert SECRET.encode() not in content
    assert flows[0].request.path == f"/v1/models?alt=sse&{name}=scrubbed&x=1"


def test_no_user_part_is_left_in_a_url(tmp_path: Path) -> None:
    flow = flow_with(location=f"https://me:{SECRET}@example.com/x")
    flow.request.data.authority = f"me:{SECRET}@example.com:443".encode()
    content, flows, _ = scrubbed(tmp_path, flow)
    assert SECRET.encode() not in content
    assert flows[0].request.headers["location"] == "https://scrubbed@example.com/x"
    assert flows[0].request.data.authority == b"example.com:443"


def test_cookies_keep_their_names_and_attributes(tmp_path: Path) -> None:
    flow = flow_with(cookie=f"a=1; sid={SECRET}")
    flow.response.headers["set-cookie"] = f"sid={SECRET}; Path=/; HttpOnly"
    content, flows, _ = scrubbed(tmp_path, flow)
    assert SECRET.encode() not in content
    assert flows[0].request.headers["cookie"] == "a=scrubbed; sid=scrubbed"
    assert flows[0].response.headers["set-cookie"] == "sid=scrubbed; Path=/; HttpOnly"


def test_a_credential_is_found_wherever_else_it_stands(tmp_path: Path) -> None:
    teller, user = flow_with(), flow_with(authorization=f"Bearer {SECRET}")
    teller.response.headers["content-encoding"] = "gzip"
    teller.response.content = b'{"token": "' + SECRET.encode() + b'"}'
    teller.comment, teller.metadata["note"] = SECRET, [SECRET]
    teller.websocket = tflow.twebsocketflow().websocket
    teller.websocket.messages = [WebSocketMessage(1, True, SECRET.encode())]
    teller.error = tflow.terr(SECRET)
    content, flows, _ = scrubbed(tmp_path, teller, user)
    assert SECRET.encode() not in content
    assert flows[0].response.content == b'{"token": "scrubbed"}'
    assert flows[0].response.headers["content-length"] == str(len(flows[0].response.raw_content))
    assert SECRET.encode() not in gzip.decompress(flows[0].response.raw_content)


@pytest.mark.parametrize(
    "body",
    [
        b'{"access_token" : "%s", "expires_in": 3600}',
        b'{"refresh_token":"%s"}',
        b"grant_type=client_credentials&client_secret=%s&scope=x",
        b"my key is sk-proj-%s, is it good?",
        b"AIzaSy%s012345678901234567890123456789",
    ],
)
def test_what_looks_like_a_credential_goes(tmp_path: Path, body: bytes) -> None:
    flow = flow_with()
    flow.request.content = body % SECRET.encode().replace(b"-", b"_")
    content, _, _ = scrubbed(tmp_path, flow)
    assert b"hunter2" not in content


def test_proxy_authentication_and_what_was_edited_away_go(tmp_path: Path) -> None:
    flow = flow_with(authorization=f"Bearer {SECRET}")
    flow.metadata["proxyauth"] = ["me", "another-password"]
    flow.backup()
    flow.request.headers["authorization"] = "Bearer edited-edited"
    content, _, _ = scrubbed(tmp_path, flow)
    assert SECRET.encode() not in content
    assert b"another-password" not in content


def test_a_browsers_key_in_the_subprotocol_goes(tmp_path: Path) -> None:
    flow = flow_with(sec_websocket_protocol=f"realtime, openai-insecure-api-key.{SECRET}, openai-beta.realtime-v1")
    _, flows, _ = scrubbed(tmp_path, flow)
    wanted = "realtime, openai-insecure-api-key.scrubbed, openai-beta.realtime-v1"
    assert flows[0].request.headers["sec-websocket-protocol"] == wanted


def test_everything_else_stays(tmp_path: Path) -> None:
    flow = flow_with(b"/v1/x?max_tokens=5&pageToken=abc", x_ratelimit_remaining_tokens="12", idempotency_key="k" * 20)
    flow.request.headers["sec-websocket-key"] = "x3JJHMbDL1EzLkh9GBhXDw=="
    flow.response.headers["anthropic-ratelimit-tokens-limit"] = "5000000000000"
    flow.response.raw_content = bytes(range(256)) * 3
    before = flow.get_state()
    _, flows, scrubber = scrubbed(tmp_path, flow)
    after = flows[0].get_state()
    assert {name: value for name, value in after.items() if before[name] != value} == {}
    assert (scrubber.scrubbed, scrubber.opaque) == (0, 0)


def test_a_body_that_cannot_be_read_is_counted(tmp_path: Path) -> None:
    flow = flow_with()
    flow.response.headers["content-encoding"] = "snappy"
    flow.response.raw_content = b"\xff\x06\x00"
    _, flows, scrubber = scrubbed(tmp_path, flow)
    assert (flows[0].response.raw_content, scrubber.opaque) == (b"\xff\x06\x00", 1)
