"""The providers' own SDKs through a real mitmdump with the addon: they see what they see without it, and each call has
its row. Over HTTPS with mitmproxy's CA (HTTP/1.1 and HTTP/2 on both sides) and in reverse mode."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
import pytest
from tests.e2e.sdk import (
    H1,
    H2,
    PROXIES,
    REVERSE,
    Call,
    House,
    Seen,
    Way,
    headers_for,
    is_usage_frame,
    jsonable,
    masked,
    reported,
    run,
    run_async,
    without_null_usage,
    without_usage_frame,
)

from usagetap.upstream.server import running_upstream

SAID = [{"role": "user", "content": "?"}]
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
CHAT = {"model": "gpt-4o-mini", "messages": SAID}
ASKED = {"stream_options": {"include_usage": True}}
COMPLETION = {"model": "gpt-3.5-turbo-instruct", "prompt": "?"}
RESPONSE = {"model": "gpt-4o-mini", "input": "?"}
MESSAGE = {"model": "claude-fake-1", "messages": SAID, "max_tokens": 99}
STREAM = {"stream": True}

_CHAT_ROW = {"dialect": "openai_chat", "operation": "chat"}
_TEXT_ROW = {"dialect": "openai_completions", "operation": "text_completion"}
_RESPONSES_ROW = {"dialect": "openai_responses", "operation": "chat"}
_MESSAGES_ROW = {"dialect": "anthropic", "operation": "chat"}
_JSON, _SSE = {"transport": "json", "stream": 0}, {"transport": "sse", "stream": 1}

OPENAI = [
    Call("chat.completions.create", CHAT, _CHAT_ROW | _JSON),
    Call("chat.completions.create", CHAT | STREAM, _CHAT_ROW | _SSE, forced=True),
    Call("chat.completions.create", CHAT | STREAM, _CHAT_ROW | _SSE, "untyped;first=0.01;slice=-1", forced=True),
    Call("chat.completions.create", CHAT | STREAM | ASKED, _CHAT_ROW | _SSE | {"client_include_usage": 1}),
    Call(
        "chat.completions.create",
        CHAT | STREAM | {"tools": [TOOL]},
        _CHAT_ROW | _SSE | {"finish_reasons": '["tool_calls"]'},
        "tools=2;chunks=0",
        forced=True,
    ),
    Call("chat.completions.create", CHAT | STREAM | {"n": 3}, _CHAT_ROW | _SSE, "encoding=gzip", forced=True),
    Call(
        "chat.completions.create",
        CHAT | STREAM,
        _CHAT_ROW | _SSE | {"cache_read_input_tokens": 7, "reasoning_output_tokens": 4},
        "reasoning=4;cached=7;slice=-1;encoding=br",
        forced=True,
    ),
    Call("chat.completions.with_raw_response.create", CHAT, _CHAT_ROW | _JSON, "encoding=zstd"),
    Call("completions.create", COMPLETION, _TEXT_ROW | _JSON),
    Call("completions.create", COMPLETION | STREAM, _TEXT_ROW | _SSE, "crlf", forced=True),
    Call("responses.create", RESPONSE, _RESPONSES_ROW | _JSON),
    Call("responses.create", RESPONSE | STREAM, _RESPONSES_ROW | _SSE, "reasoning=2;tools=1;slice=-1"),
    Call("responses.stream", RESPONSE, _RESPONSES_ROW | _SSE, "encoding=gzip"),
    Call(
        "responses.create",
        RESPONSE | STREAM | {"stream_options": {"include_obfuscation": False}},
        _RESPONSES_ROW | _SSE,
    ),
]
ANTHROPIC = [
    Call("messages.create", MESSAGE, _MESSAGES_ROW | _JSON),
    Call(
        "messages.create",
        MESSAGE | STREAM,
        _MESSAGES_ROW | _SSE | {"input_tokens": 11, "cache_read_input_tokens": 5, "cache_write_input_tokens": 2},
        "cached=5;written=2;tools=1",
    ),
    Call("messages.create", MESSAGE | STREAM, _MESSAGES_ROW | _SSE, "reasoning=3;encoding=gzip;slice=-1"),
    Call("messages.stream", MESSAGE, _MESSAGES_ROW | _SSE, "chunks=9;encoding=zstd"),
    Call("messages.with_raw_response.create", MESSAGE, _MESSAGES_ROW | _JSON, "encoding=br"),
]
MODULES = {
    "openai": (openai, "OpenAI", "api.openai.com", "/v1"),
    "anthropic": (anthropic, "Anthropic", "api.anthropic.com", ""),
}


def client(sdk: str, home: House, way: Way, proxy: str, *, blocking: bool = True) -> Any:
    """An SDK's client on its way through one proxy."""
    module, name, provider, path = MODULES[sdk]
    kind, transport = (name, "DefaultHttpxClient") if blocking else ("Async" + name, "DefaultAsyncHttpxClient")
    line = getattr(module, transport)(**way.options(home, proxy))
    url = way.url(home, proxy, provider) + path
    return getattr(module, kind)(base_url=url, api_key="sk-test", max_retries=0, timeout=20, http_client=line)


def everywhere(home: House, sdk: str, way: Way, call: Call, blocking: bool) -> dict[str, Seen]:
    """The same call through each proxy."""
    found = {}
    for proxy in PROXIES:
        if blocking:
            with client(sdk, home, way, proxy) as one:
                found[proxy] = run(one, call)
        else:
            found[proxy] = run_async(client(sdk, home, way, proxy, blocking=False), call)
    return found


@pytest.mark.parametrize(
    ("way", "blocking"),
    [(H1, True), (H1, False), (H2, True), (H2, False), (REVERSE, True)],
    ids=["h1-sync", "h1-async", "h2-sync", "h2-async", "reverse"],
)
@pytest.mark.parametrize(
    ("sdk", "call"),
    [("openai", call) for call in OPENAI] + [("anthropic", call) for call in ANTHROPIC],
    ids=lambda value: value.name if isinstance(value, Call) else value,
)
def test_a_call_sees_what_it_sees_without_us_and_has_its_row(
    home: House, sdk: str, call: Call, way: Way, blocking: bool
) -> None:
    seen = everywhere(home, sdk, way, call, blocking)
    assert [one.error for one in seen.values()] == [None] * 3
    bare, tap, strip = (masked(seen[proxy].items) for proxy in PROXIES)
    assert (without_null_usage(strip) if call.forced else strip) == bare
    assert (without_usage_frame(tap) if call.forced else tap) == bare
    assert sum(map(is_usage_frame, tap)) == sum(map(is_usage_frame, bare)) + call.forced

    counted = reported(seen["tap"].items)
    for proxy in ("tap", "strip"):
        row = home.proxies[proxy].row(seen[proxy].tag)
        expected = {"status": "ok", "end_reason": "complete", "http_status": 200, "usage_quality": "exact"}
        expected |= {"injected": int(call.forced), "stripped": int(call.forced and proxy == "strip"), "retried": 0}
        expected |= {"request_model": call.arguments["model"], "response_model": call.arguments["model"]}
        expected |= dict(call.row) | ({} if way.reverse else {"provider": sdk})
        assert {name: row[name] for name in expected} == expected
        assert (row["input_tokens"], row["output_tokens"]) == counted
        assert row["client_agent"].lower().startswith(("async" if not blocking else "") + sdk)


@pytest.mark.parametrize("way", [H1, H2, REVERSE], ids=lambda way: way.name)
def test_the_streaming_helper_sees_the_same_events(home: House, way: Way) -> None:
    """`chat.completions.stream()` puts the answer together: a usage frame must not end up in it unasked."""
    told: dict[str, Any] = {}
    for proxy in PROXIES:
        seen, headers = headers_for("chunks=4;tools=1")
        with (
            client("openai", home, way, proxy) as one,
            one.chat.completions.stream(**CHAT, extra_headers=headers) as all,
        ):
            events = [event.type for event in all]
            told[proxy] = events, masked(jsonable(all.get_final_completion()))
        if proxy != "bare":
            assert home.proxies[proxy].row(seen.tag)["output_tokens"] == 5
    assert [kinds for kinds, _ in (told["strip"], told["bare"])] == [told["bare"][0]] * 2
    assert without_null_usage([told["strip"][1]]) == without_null_usage([told["bare"][1]])
    assert told["tap"][1].pop("usage")["completion_tokens"] == 5
    assert [told["tap"][1]] == without_null_usage([told["bare"][1]])


ENCODINGS = (
    "",
    "encoding=gzip",
    "encoding=br",
    "encoding=zstd;stubborn",
    "encoding=deflate",
    "slice=-1;encoding=gzip;crlf",
)


@pytest.mark.parametrize("words", ENCODINGS)
@pytest.mark.parametrize("way", [H1, H2, REVERSE], ids=lambda way: way.name)
def test_raw_bytes_are_the_bytes_upstream_sent(home: House, way: Way, words: str) -> None:
    seen, headers = headers_for(words)
    with client("openai", home, way, "tap") as one:
        streaming = one.chat.completions.with_streaming_response
        with streaming.create(**CHAT, **STREAM, extra_headers=headers) as response:
            received = b"".join(response.http_response.iter_raw())
    (exchange,) = home.exchanges(seen.call)
    assert received == bytes(exchange.sent)
    assert ("encoding" in words) == ("content-encoding" in response.headers)
    assert home.proxies["tap"].row(seen.tag)["body_bytes"] == len(received)


@pytest.mark.parametrize(("status", "name"), [(400, "BadRequestError"), (429, "RateLimitError"), (500, "ServerError")])
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_an_error_is_the_same_error(home: House, sdk: str, status: int, name: str) -> None:
    method, arguments = ("chat.completions.create", CHAT) if sdk == "openai" else ("messages.create", MESSAGE)
    seen = everywhere(home, sdk, H1, Call(method, arguments | STREAM, {}, f"status={status}"), blocking=True)
    assert seen["tap"].error == seen["strip"].error == seen["bare"].error
    assert name in (seen["tap"].error or "")
    for proxy in ("tap", "strip"):
        row = home.proxies[proxy].row(seen[proxy].tag)
        assert (row["end_reason"], row["http_status"], row["input_tokens"]) == ("http_error", status, None)


def test_an_error_in_the_stream_is_the_same_error(home: House) -> None:
    call = Call("chat.completions.create", CHAT | STREAM, {}, "error=3")
    seen = everywhere(home, "openai", H1, call, blocking=True)
    assert seen["tap"].error == seen["strip"].error == seen["bare"].error
    assert "APIError" in (seen["tap"].error or "")
    for proxy in ("tap", "strip"):
        assert home.proxies[proxy].row(seen[proxy].tag)["end_reason"] == "upstream_error"


@pytest.mark.parametrize("blocking", [True, False], ids=["sync", "async"])
@pytest.mark.parametrize("refusal", ["400", "422", "azure_old", "databricks"])
def test_a_refusal_of_stream_options_is_invisible(home: House, refusal: str, blocking: bool) -> None:
    """The first request is asked again as the client made it; the second is not touched at all."""
    with running_upstream(default=f"refuse={refusal}", tls=True) as refusing:
        way = Elsewhere(refusing.url)
        for number in (1, 2):
            call = Call("chat.completions.create", CHAT | STREAM | {"user": str(number)}, {})
            before = len(refusing.requests)
            seen = everywhere(home, "openai", way, call, blocking)
            bare, tap, strip = (masked(seen[proxy].items) for proxy in PROXIES)
            assert [one.error for one in seen.values()] == [None] * 3
            assert len(bare) == 7
            assert tap == strip == bare
            asked = [exchange.body for exchange in refusing.requests[before:]]
            refused = [body for body in asked if b"stream_options" in body]
            # bare once; each addon once refused and once as the client made it; then once each
            assert (len(asked), len(refused)) == ((5, 2) if number == 1 else (3, 0))
            assert set(asked) - set(refused) == {asked[0]}
            for proxy in ("tap", "strip"):
                row = home.proxies[proxy].row(seen[proxy].tag)
                told = {name: row[name] for name in ("status", "end_reason", "retried", "injected", "inject_skipped")}
                skipped = "refused" if number == 1 else "refused_before"
                ok = {"status": "ok", "end_reason": "complete", "injected": 0, "inject_skipped": skipped}
                assert told == ok | {"retried": int(number == 1)}
                assert (row["output_tokens"], row["usage_quality"]) == (None, "missing")


class Elsewhere(Way):
    """HTTPS through the proxies to a server of the test's own."""

    def __init__(self, url: str) -> None:
        super().__init__("h1")
        object.__setattr__(self, "_url", url)

    def url(self, house: House, proxy: str, provider: str) -> str:
        return self._url  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
@pytest.mark.parametrize("way", [H1, H2, REVERSE], ids=lambda way: way.name)
@pytest.mark.parametrize("proxy", ["tap", "strip"])
def test_a_stream_that_the_client_closes_is_aborted(home: House, way: Way, sdk: str, proxy: str) -> None:
    seen, headers = headers_for("chunks=20;hold=6")
    with client(sdk, home, way, proxy) as one:
        create, arguments = (one.chat.completions.create, CHAT) if sdk == "openai" else (one.messages.create, MESSAGE)
        stream = create(**arguments, **STREAM, extra_headers=headers)
        next(iter(stream))
        stream.close()  # on HTTP/2 httpx only stops listening, and the client's own end is what the proxy sees
        if way is H2:
            one.close()
        row = home.proxies[proxy].row(seen.tag)
    assert (row["status"], row["end_reason"], row["http_status"]) == ("aborted", "client_disconnected", 200)
    known = (11, 1) if sdk == "anthropic" else (None, None)  # Anthropic says at the start what went in
    assert (row["input_tokens"], row["output_tokens"]) == known
    (exchange,) = home.exchanges(seen.call)
    assert exchange.done.wait(5)
    assert exchange.outcome == "client_gone"


@pytest.mark.parametrize("way", [H1, H2, REVERSE], ids=lambda way: way.name)
@pytest.mark.parametrize("proxy", ["tap", "strip"])
def test_a_client_that_closes_right_after_done_is_ok(home: House, way: Way, proxy: str) -> None:
    """openai-python reads nothing after [DONE]; here the body's own end never comes."""
    seen, headers = headers_for("chunks=4;cut=silence")
    with client("openai", home, way, proxy) as one:
        frames = list(one.chat.completions.create(**CHAT, **STREAM, extra_headers=headers))
    row = home.proxies[proxy].row(seen.tag)
    assert len(frames) == 6 + (proxy == "tap")
    assert (row["status"], row["end_reason"], row["output_tokens"]) == ("ok", "complete", 4)
