from __future__ import annotations

import gzip
import json
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import contentviews, http
from mitmproxy.test import taddons, tflow, tutils
from mitmproxy.websocket import WebSocketData, WebSocketMessage
from wsproto.frame_protocol import Opcode

from usagetap.mitm import told
from usagetap.mitm.views import LLM, LLMFrames, Views

ASKED = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
STREAM = b"".join(
    b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": word}}]}).encode() + b"\n\n"
    for word in ("Hel", "lo")
)


def flow_of(body: bytes, path: str = "/v1/chat/completions", **headers: str) -> http.HTTPFlow:
    request = tutils.treq(method=b"POST", path=path.encode(), content=json.dumps(ASKED).encode())
    response = tutils.tresp(content=b"", headers=http.Headers(**({"content_type": "text/event-stream"} | headers)))
    response.raw_content = body
    return tflow.tflow(req=request, resp=response)


def shown(flow: http.HTTPFlow, message: Any = None, view: str = "auto") -> contentviews.ContentviewResult:
    with taddons.context(Views()) as context:
        context.configure(context.master.addons.get("views"))
        return contentviews.prettify_message(message or flow.response, flow, view)


def test_it_chooses_itself_for_answers_and_requests() -> None:
    flow = flow_of(STREAM)
    assert shown(flow).view_name == shown(flow, flow.request).view_name == "LLM"
    assert "Hello" in shown(flow).text
    assert "── user" in shown(flow, flow.request).text


@pytest.mark.parametrize("path", ["/", "/v1/models", "/v1/completed"])
def test_it_leaves_other_traffic_alone(path: str) -> None:
    flow = flow_of(b'{"a": 1}', path, content_type="application/json")
    assert shown(flow).view_name == "JSON"


def test_a_body_that_is_no_text_is_left_to_others() -> None:
    flow = flow_of(b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "/v1/audio/speech", content_type="audio/mpeg")
    assert shown(flow).view_name != "LLM"


def event(kind: str, payload: Any) -> bytes:
    """A message of AWS's event stream."""
    headers = b"".join(
        struct.pack("B", len(name)) + name + b"\x07" + struct.pack(">H", len(value)) + value
        for name, value in ((b":event-type", kind.encode()), (b":message-type", b"event"))
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + body
    return message + struct.pack(">I", zlib.crc32(message))


GEMINI = [{"candidates": [{"content": {"parts": [{"text": word}]}}]} for word in ("Hel", "lo")]
OLLAMA = [{"message": {"content": word}, "done": False} for word in ("Hel", "lo")]
BEDROCK = [event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": word}}) for word in ("Hel", "lo")]


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/v1beta/models/m:streamGenerateContent", "application/json", json.dumps(GEMINI, indent=1).encode()),
        ("/api/chat", "application/x-ndjson", b"\n".join(json.dumps(each).encode() for each in OLLAMA)),
        ("/model/m/converse-stream", "application/vnd.amazon.eventstream", b"".join(BEDROCK)),
        ("/v1/chat/completions", "application/json", b'{"choices": [{"message": {"content": "Hello"}}]}'),
        ("/v1/chat/completions", "", STREAM),
    ],
)
def test_every_framing_is_read(path: str, kind: str, body: bytes) -> None:
    result = shown(flow_of(body, path, content_type=kind))
    assert result.view_name == "LLM"
    assert "Hello" in result.text.splitlines()


def test_the_numbers_come_from_the_flow() -> None:
    flow = flow_of(STREAM)
    flow.metadata[told.KEY] = {"headline": "1→2 · $0.01 · m", "status": "aborted", "body_cut": True, "usage": {}}
    text = shown(flow).text
    assert text.startswith("1→2 · $0.01 · m")
    assert "── How it ended" in text
    assert f"only the first {len(STREAM)} bytes were kept" in text


def test_frames_on_demand_only() -> None:
    result = shown(flow_of(STREAM + b"data: [DONE]\n\n"), view="llm frames")
    assert result.view_name == LLMFrames.name
    assert result.text.count(" bytes\n") == 3
    assert "[DONE]" in result.text


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate"])
def test_an_encoded_body_whose_end_is_missing_is_shown_as_far_as_it_goes(coding: str) -> None:
    brotli = pytest.importorskip("brotli") if coding == "br" else None
    body = STREAM + b"".join(b'data: {"choices":[{"delta":{"content":"%d"}}]}\n\n' % number for number in range(9000))
    encoded = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli and brotli.compress}[coding](body)
    text = shown(flow_of(encoded[: len(encoded) // 2], content_encoding=coding)).text
    assert "Hello01234" in text


def test_errors_and_unknown_shapes_are_shown_too() -> None:
    error = b'{"error": {"type": "rate_limit_error", "message": "slow down"}}'
    assert "rate_limit_error: slow down" in shown(flow_of(error, content_type="application/json")).text
    assert '"surprise": 1' in shown(flow_of(b'{"surprise": 1}', content_type="application/json")).text


def test_control_characters_do_not_reach_the_screen() -> None:
    flow = flow_of(b'data: {"choices":[{"delta":{"content":"a\\u001b[2Jb\\u202ec"}}]}\n\n')
    assert not {"\x1b", "\u202e"} & set(shown(flow).text)


def message(payload: dict[str, Any], *, from_client: bool = False, status: str | None = None) -> str:
    flow = flow_of(b"", "/v1/responses")
    flow.websocket = WebSocketData()
    flow.metadata[told.KEY] = {"headline": "x", "status": status, "usage": {"input_tokens": 1234}}
    flow.websocket.messages = [WebSocketMessage(Opcode.TEXT, from_client, json.dumps(payload).encode())]
    result = shown(flow, flow.websocket.messages[0])
    assert result.view_name == "LLM"
    return result.text


def test_messages_of_a_websocket() -> None:
    assert message({"type": "response.output_text.delta", "delta": "Hel"}) == "response.output_text.delta  Hel"
    item = {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}
    done = message({"type": "response.completed", "response": {"status": "completed", "output": [item]}})
    assert done.startswith("response.completed")
    assert "── Answer" in done
    assert message({"type": "session.created", "session": {"id": "s"}}).startswith('session.created\n{\n  "type"')


def test_a_message_that_asks_reads_like_a_request() -> None:
    asked = {"type": "response.create", "model": "m", "input": "How far?"}
    shown = message(asked, from_client=True)
    assert shown.startswith("response.create\n \n── Request")
    assert "── input" in shown
    assert "How far?" in shown
    assert "── input" in message({"type": "response.create", "response": {"input": "How far?"}}, from_client=True)


def test_the_last_message_has_the_sums() -> None:
    item = {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}
    done = message({"type": "response.completed", "response": {"output": [item]}}, status="ok")
    assert "1,234" in done.partition("── Usage")[2]
    assert "── How it ended" in done
    cut = message({"type": "response.output_text.delta", "delta": "Hel"}, status="aborted")
    assert cut.startswith("response.output_text.delta  Hel\n")
    assert "── Usage" in cut


@given(st.binary(max_size=200), st.sampled_from(["text/event-stream", "application/json", ""]))
def test_any_body_has_a_view(body: bytes, kind: str) -> None:
    flow = flow_of(body, content_type=kind)
    metadata = contentviews.Metadata(flow=flow, http_message=flow.response)
    LLM().render_priority(body, metadata)
    assert isinstance(LLM().prettify(body, metadata), str)
    assert isinstance(LLMFrames().prettify(body, metadata), str)
