"""A provider that nobody knows, on a host that the user named: its usage shows up, whatever it speaks."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from tests.feed import chunked, running_feed
from tests.proxy import Mitmdump, errors_in, running_mitmdump

HOSTS = "127.0.0.1/new"
FIRST = {"id": "i", "model": "m-1", "text": "hello"}
OPENAI: Any = {"usage": {"prompt_tokens": 3, "completion_tokens": 4}, "finish_reason": "stop"}
OLLAMA: Any = {"done": True, "prompt_eval_count": 3, "eval_count": 4}
GEMINI: Any = {
    "candidates": [{"finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4},
}
COHERE: Any = {"type": "message-end", "delta": {"usage": {"tokens": {"input_tokens": 3, "output_tokens": 4}}}}
BEDROCK: Any = {"stopReason": "end_turn", "usage": {"inputTokens": 3, "outputTokens": 4}}


def lines(last: Any) -> list[bytes]:
    return [json.dumps(each).encode() + b"\n" for each in (FIRST, FIRST, last)]


def events(last: Any) -> list[bytes]:
    return [b"data: " + line + b"\n" for line in lines(last)]


def document(last: Any) -> list[bytes]:
    return [json.dumps(FIRST | last).encode()]


#: path -> what is answered, under which type
ANSWERS: dict[str, tuple[list[bytes], str]] = {
    "/new/json": (document(OPENAI), "application/json"),
    "/new/bedrock": (document(BEDROCK), "application/json"),
    "/new/sse": (events(OPENAI), "text/event-stream"),
    "/new/sse-untyped": (events(GEMINI), ""),
    "/new/sse-cohere": (events(COHERE), "text/event-stream"),
    "/new/ndjson": (lines(OLLAMA), "application/x-ndjson"),
    "/new/ndjson-as-json": (lines(OLLAMA), "application/json"),
    "/new/line-for-a-stream": (document(OPENAI), "application/json"),
    "/new/nothing": (document({"ok": True}), "application/json"),
    "/elsewhere/json": (document(OPENAI), "application/json"),
}
STREAMED = ("/new/sse", "/new/sse-untyped", "/new/sse-cohere", "/new/ndjson-as-json", "/new/line-for-a-stream")


def answer(request: bytes) -> Iterable[bytes]:
    pieces, type_ = ANSWERS[json.loads(request)["where"]]
    head = b"HTTP/1.1 200 OK\r\n" + (f"content-type: {type_}\r\n".encode() if type_ else b"")
    return chunked(pieces, head)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mitmdump]:
    folder = tmp_path_factory.mktemp("unknown")
    with (
        running_feed(answer) as feed,
        running_mitmdump(folder, f"reverse:{feed.url}", usage_hosts=HOSTS, usage_estimate="false") as running,
    ):
        yield running
        assert errors_in(running.log) == []


def post(proxy: Mitmdump, path: str, tag: str | None = None) -> bytes:
    line = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)
    try:
        asked = {"where": path, "question": "?"} | ({"stream": True} if path in STREAMED else {})
        line.request("POST", path, json.dumps(asked), {"x-usage-tag": tag or path, "content-type": "application/json"})
        return line.getresponse().read()
    finally:
        line.close()


@pytest.mark.parametrize("path", [path for path in ANSWERS if path.startswith("/new/") and path != "/new/nothing"])
def test_its_usage_is_a_row(proxy: Mitmdump, path: str) -> None:
    assert post(proxy, path) == b"".join(ANSWERS[path][0])
    row = proxy.row(path)
    told: dict[str, Any] = {"dialect": "unknown", "status": "ok", "end_reason": "complete", "usage_quality": "exact"}
    told |= {"input_tokens": 3, "output_tokens": 4, "response_model": "m-1", "injected": 0, "cost": None}
    assert {name: row[name] for name in told} == told


def test_what_tells_no_usage_and_what_the_user_did_not_name_is_no_row(proxy: Mitmdump) -> None:
    post(proxy, "/new/nothing")
    post(proxy, "/elsewhere/json")
    post(proxy, "/new/json", "last")
    proxy.row("last")  # written after the others would have been
    assert proxy.rows("tag IN ('/new/nothing', '/elsewhere/json')") == []
