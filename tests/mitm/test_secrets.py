"""No prompt, completion, credential or query secret in anything that the addon writes or logs.

Every kind of secret is a word that occurs nowhere else; after all kinds of calls, good and bad, at log level debug,
every file beside the database and the whole log are searched for each of them, plain and in base64.
"""

from __future__ import annotations

import base64
import gzip
import json
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.client import CHAT, STREAM, WHOLE, Http1
from tests.feed import SSE_HEAD, chunked, running_feed
from tests.proxy import Mitmdump

SECRETS = {
    "prompt": "PROMPTd41d8cd98f",
    "system": "SYSTEM00b204e980",
    "tool": "TOOLARG0998ecf842",
    "completion": "COMPLETION7e7a3f",
    "thinking": "THINKING9a0c1b2d",
    "bearer": "sk-BEARER3f6b8c1e5a7d",
    "x-api-key": "sk-ant-XAPIKEY5c2e8b",
    "api-key": "APIKEYb7d1f3a5",
    "goog": "AIzaGOOG8e4c6a2f0b1d",
    "query": "AIzaQUERY1d3f5b7a9c2e",
    "cookie": "COOKIE6f8b0d2a4c",
    "azure signature": "SIG4b6d8f0a2c4e",
    "aws": "AWSSIG2a4c6e8b0d",
    "user": "USERNAME8c0e2a4b6d",
    "metadata": "METADATA0d2f4a6c8e",
    "file": "FILEDATA5a7c9e1b3d",
}

S = SECRETS
ASKED = {
    "messages": [{"role": "system", "content": S["system"]}, {"role": "user", "content": S["prompt"]}],
    "tools": [{"type": "function", "function": {"name": "f", "description": S["tool"]}}],
    "user": S["user"],
    "metadata": {"m": S["metadata"]},
}
CREDENTIALS = {
    "authorization": f"Bearer {S['bearer']}",
    "x-api-key": S["x-api-key"],
    "api-key": S["api-key"],
    "x-goog-api-key": S["goog"],
    "cookie": f"session={S['cookie']}",
    "x-amz-security-token": S["aws"],
}
QUERY = f"?key={S['query']}&sig={S['azure signature']}&api-version=2025-01-01"

DELTA = {"content": S["completion"], "reasoning_content": S["thinking"]}
FRAMES = (
    {"id": "r-1", "model": "m", "choices": [{"index": 0, "delta": DELTA, "finish_reason": None}]},
    {"id": "r-1", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"id": "r-1", "model": "m", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
)
#: what an upstream may say back: the key, in an error's message; the prompt, in a refusal of the edit
ERROR = {"error": {"message": f"Incorrect API key provided: {S['bearer']}. Or {S['query']}?", "type": "auth"}}
QUOTE = {"error": {"message": f'Invalid value: "{S["prompt"]}", not "{S["system"]}"', "code": 400}}
ECHO = {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted", "input": ASKED}]}


def sse(*frames: object) -> Iterator[bytes]:
    return (b"data: " + json.dumps(frame).encode() + b"\n\n" for frame in frames)


def whole(status: int, body: object) -> list[bytes]:
    text = json.dumps(body).encode()
    return [
        b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(text)),
        text,
    ]


def answer(body: bytes) -> Iterator[bytes]:
    if body.startswith(b"\x1f\x8b"):
        body = gzip.decompress(body)
    try:
        told = json.loads(body)
    except ValueError:
        told = {}
    match told.get("model"):
        case "whole":
            yield from whole(200, FRAMES[0] | {"choices": [{"message": DELTA, "finish_reason": "stop"}]})
        case "error":
            yield from whole(401, ERROR)
        case "quote":
            yield from whole(400, QUOTE)
        case "echo" if "stream_options" in told:
            yield from whole(422, ECHO)
        case "error frame":
            yield from chunked(sse(FRAMES[0], ERROR))
        case "broken":
            yield from chunked([b"data: {" + S["completion"].encode() + b"\n\n", b"\xff" + S["thinking"].encode()])
        case "cut":
            yield SSE_HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"ffff\r\n" + next(sse(FRAMES[0]))
            raise ConnectionError
        case _:
            yield from chunked([*sse(*FRAMES), b"data: [DONE]\n\n"])


def call(proxy: Mitmdump, body: object, path: str = CHAT, **more: str) -> None:
    with Http1(proxy.port) as line:
        line.post(body, path + QUERY, CREDENTIALS | {name.replace("_", "-"): value for name, value in more.items()})
        line.read()


def leave(proxy: Mitmdump) -> None:
    with Http1(proxy.port) as line:
        line.post(STREAM | ASKED, CHAT + QUERY, CREDENTIALS)


MULTIPART = (
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="' + S["file"].encode() + b'"\r\n\r\n'
    + S["file"].encode() + b"\r\n--b--\r\n"
)  # fmt: skip


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_secret_is_written(start: Callable[..., Mitmdump], tmp_path: Path, how: signal.Signals) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    with running_feed(answer) as feed:
        proxy = start(f"reverse:{feed.url}", usage_db=folder / "usage.db", termlog_verbosity="debug")
        for _ in range(2):
            for model in ("gpt-4o", "error", "quote", "echo", "error frame", "broken", "cut"):
                call(proxy, STREAM | ASKED | {"model": model})
            call(proxy, WHOLE | ASKED | {"model": "whole"})
        call(proxy, gzip.compress(json.dumps(STREAM | ASKED).encode()), content_encoding="gzip")
        call(proxy, json.dumps(STREAM | ASKED).encode(), content_encoding="br")  # is none
        call(proxy, b'{"stream":true,"stream":true,"messages":"' + S["prompt"].encode() + b'"}')
        call(proxy, b"{" + S["prompt"].encode())
        call(proxy, STREAM | ASKED, "/v1beta/models/gemini-2.5-flash:streamGenerateContent")
        call(proxy, STREAM | ASKED, "/v1/messages")
        call(proxy, STREAM | ASKED, "/v1/responses")
        call(proxy, MULTIPART, "/v1/audio/transcriptions", content_type="multipart/form-data; boundary=b")
        call(
            proxy,
            STREAM | ASKED,
            authorization=f"AWS4-HMAC-SHA256 Credential=AKIAX/20260101/x/bedrock/aws4_request, Signature={S['aws']}",
        )
        leave(proxy)
        proxy.ended(25)
        with closing(sqlite3.connect(folder / "usage.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            for model in ("gpt-4o", "error", "quote", "echo"):
                call(proxy, STREAM | ASKED | {"model": model})
            proxy.wait_for_line("cannot be written")
            proxy.stop(how)
        written = {file.name: file.read_bytes() for file in folder.iterdir()} | {"the log": proxy.log.encode()}
    assert any("journal" in name and content for name, content in written.items())
    found = [
        (what, name)
        for what, secret in SECRETS.items()
        for name, content in written.items()
        for form in (secret.encode(), base64.b64encode(secret.encode()).rstrip(b"="))
        if form in content
    ]
    assert found == [], sorted(set(found))


def test_the_search_would_find_it(tmp_path: Path) -> None:
    """A word in a row's text is found in the database's bytes."""
    with closing(sqlite3.connect(tmp_path / "x.db")) as db:
        db.execute("CREATE TABLE t (a)")
        db.execute("INSERT INTO t VALUES (?)", (f'{{"a":"{S["prompt"]}"}}',))
        db.commit()
    assert S["prompt"].encode() in (tmp_path / "x.db").read_bytes()
