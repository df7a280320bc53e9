"""What a peer says cannot steer the terminal that shows the log: control characters never reach it raw."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.client import CHAT, STREAM, WHOLE, Http1
from tests.feed import SSE_HEAD, chunked, running_feed
from tests.proxy import Mitmdump, errors_in

EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\nusage: forged\u202eline\u2028\x00\ud800"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
ANSWER = {"id": EVIL, "model": EVIL, "service_tier": EVIL, "choices": [{"index": 0, "finish_reason": EVIL}]}
ERROR = {"error": {"message": EVIL, "type": EVIL, "code": EVIL}}
REFUSAL = {"error": {"message": f"Unknown parameter: stream_options {EVIL}", "type": EVIL}}


def whole(status: int, body: object) -> Iterator[bytes]:
    text = json.dumps(body).encode()  # ASCII: the surrogate is an escape, as a careless server sends it
    yield b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(text)) + text


def answer(body: bytes) -> Iterator[bytes]:
    try:
        told: Any = json.loads(body)
    except ValueError:
        told = {}
    match told.get("user"):
        case "whole":
            return whole(200, ANSWER | {"usage": USAGE})
        case "error":
            return whole(500, ERROR)
        case "refusal" if "stream_options" in told:
            return whole(400, REFUSAL)
        case "error frame":
            return chunked([b"data: %b\n\n" % json.dumps(each).encode() for each in (ANSWER, ERROR)])
        case "no usage":
            return chunked([b"data: %b\n\n" % json.dumps(ANSWER).encode(), b"data: [DONE]\n\n"])
        case "compressed":
            return chunked([b"?"], SSE_HEAD + b"content-encoding: gzip\r\n")
        case "garbage":
            return iter([b"\x1b[31mHTTP?\r\n\r\n"])
        case _:
            last = {"choices": [], "usage": USAGE}
            return chunked(
                [*(b"data: %b\n\n" % json.dumps(each).encode() for each in (ANSWER, last)), b"data: [DONE]\n\n"]
            )


CALLS = {
    "stream": STREAM,
    "whole": WHOLE,
    "error": STREAM,
    "refusal": STREAM,
    "error frame": STREAM,
    "no usage": STREAM,
    "compressed": STREAM,
    "garbage": STREAM,
}


@pytest.mark.parametrize("strip", ["never", "always"])
def test_no_control_character_is_logged(start: Callable[..., Mitmdump], strip: str) -> None:
    with running_feed(answer) as feed:
        proxy = start(f"reverse:{feed.url}", usage_strip_frame=strip, termlog_verbosity="debug")
        for tag, body in CALLS.items():
            with Http1(proxy.port) as line:
                line.post(body | {"user": tag, "model": EVIL}, CHAT, x_usage_tag=tag).read()
        with Http1(proxy.port) as line:  # a path as no client writes it, and a body that is left as it is
            line.post(b"{", "/v1/\x1b[31m\x07/chat/completions", x_usage_tag="path").read()
        found = {row["tag"]: row for row in proxy.ended(len(CALLS) + 1)}
        assert proxy.stop() == 0
    ours = [line for line in proxy.lines if "usage:" in line]
    assert len(ours) > len(CALLS)
    assert [line for line in ours if not re.sub(r"^\x1b\[\d+m|\x1b\[0?m$", "", line).isprintable()] == []
    assert not any(line.startswith("usage: forged") for line in proxy.lines)
    assert errors_in(proxy.log) == []
    # the rows keep what was said, where a database can hold it
    assert found["whole"]["input_tokens"] == 3
    assert found["stream"]["response_model"].startswith("\x1b[2J")
    assert {row["end_reason"] for row in found.values()} >= {"complete", "upstream_error", "http_error"}
