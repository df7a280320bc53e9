"""The client of `usagetap demo`: four calls as a program would make them. Run as a process of its own, by `exec`.

It uses the openai package where that is installed, else Python's own http.client. How the fake upstream is to
answer stands in the header `x-upstream`.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import sys
from collections.abc import Generator
from typing import Any
from urllib.parse import urlsplit

CALLS = (
    ("a finished stream", "sky blue", "chunks=12;input=1200;cached=1024;output=180"),
    ("a stream that the client leaves", "grass green", "chunks=500;delay=0.02;input=3400"),
    ("a stream with tool calls", "sun yellow", "chunks=2;tools=2;input=800;output=64"),
    ("a stream that fails on the way", "snow white", "chunks=40;error=6;input=500"),
)
LEAVE_AFTER = 8
MODEL = "gpt-4o-mini"


def messages(what: str) -> list[dict[str, str]]:
    """A question: each call has its own, or `usagetap waste` would call it a repeated request."""
    return [{"role": "user", "content": f"Why is the {what}?"}]


def call_with_openai(base_url: str, what: str, conduct: str) -> Generator[object]:
    """The chunks of one streamed chat completion, through the openai package."""
    from openai import OpenAI

    with OpenAI(base_url=base_url, api_key="sk-demo", max_retries=0) as client:
        create: Any = client.chat.completions.create
        told = {"model": MODEL, "messages": messages(what), "extra_headers": {"x-upstream": conduct}}
        with create(stream=True, **told) as stream:
            yield from stream


def call_with_http_client(base_url: str, what: str, conduct: str) -> Generator[object]:
    """The same with nothing but the standard library, through the proxy that HTTP_PROXY names."""
    proxy = urlsplit(os.environ.get("HTTP_PROXY", base_url))
    connection = http.client.HTTPConnection(proxy.hostname or "", proxy.port)
    body = {"model": MODEL, "stream": True, "messages": messages(what)}
    headers = {"content-type": "application/json", "authorization": "Bearer sk-demo", "x-upstream": conduct}
    with contextlib.closing(connection):
        connection.request("POST", f"{base_url}/chat/completions", json.dumps(body), headers)
        for line in connection.getresponse():
            if line.startswith(b"data: {"):
                payload = json.loads(line[6:])
                if "error" in payload:
                    raise ValueError(payload["error"]["message"])
                yield payload


def main(base_url: str) -> None:
    """Make the four calls, one after the other, and say what the client saw."""
    call = call_with_openai if importlib.util.find_spec("openai") else call_with_http_client
    for title, what, conduct in CALLS:
        seen = 0
        chunks = call(base_url, what, conduct)
        try:
            for _ in chunks:
                seen += 1
                if "leaves" in title and seen == LEAVE_AFTER:
                    break
            sys.stdout.write(f"{title}: {seen} chunks\n")
        except Exception as error:  # noqa: BLE001 - whatever a client raises is what a user would see
            sys.stdout.write(f"{title}: {seen} chunks, then {type(error).__name__}: {error}\n")
        finally:
            chunks.close()


if __name__ == "__main__":
    main(sys.argv[1])
