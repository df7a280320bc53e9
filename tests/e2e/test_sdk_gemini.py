"""google-genai through a real mitmdump with the addon."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import Any

import pytest
from tests.e2e.sdk import H1, H2, PROXIES, REVERSE, House, Seen, Way, headers_for, masked, reported

genai = pytest.importorskip("google.genai", reason="google-genai is not installed")
# google-genai's own: aiohttp's session class is subclassed
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

ASKED: dict[str, Any] = {"model": "gemini-2.5-flash", "contents": "?"}
WORDS = ("", "reasoning=3;cached=4;encoding=gzip", "tools=2;slice=-1")


def client(home: House, way: Way, proxy: str) -> Any:
    """Where the provider is, and the proxy on the way."""
    line = way.options(home, proxy)
    awaited = line
    if find_spec("aiohttp"):  # then the awaited client is aiohttp's
        awaited = {} if way.reverse else {"proxy": line["proxy"], "ssl": line["verify"]}
    place = {"base_url": way.url(home, proxy, "generativelanguage.googleapis.com")}
    options = place | {"client_args": line, "async_client_args": awaited}
    return genai.Client(api_key="key", vertexai=False, http_options=options)


def whole(home: House, way: Way, proxy: str, words: str, *, stream: bool) -> Seen:
    seen, headers = headers_for(words)
    with client(home, way, proxy) as one:
        config = {"http_options": {"headers": headers}}
        if stream:
            for item in one.models.generate_content_stream(**ASKED, config=config):
                seen.add(item)
        else:
            seen.add(one.models.generate_content(**ASKED, config=config))
    return without_headers(seen)


async def awaited(home: House, way: Way, proxy: str, words: str, *, stream: bool) -> Seen:
    seen, headers = headers_for(words)
    async with client(home, way, proxy).aio as one:
        config = {"http_options": {"headers": headers}}
        if stream:
            async for item in await one.models.generate_content_stream(**ASKED, config=config):
                seen.add(item)
        else:
            seen.add(await one.models.generate_content(**ASKED, config=config))
    return without_headers(seen)


def without_headers(seen: Seen) -> Seen:
    """The SDK hands the HTTP headers on, dates and all."""
    for item in seen.items:
        item.pop("sdkHttpResponse", None)
    return seen


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("way", "blocking"),
    [(H1, True), (H1, False), (H2, True), (REVERSE, True), (REVERSE, False)],
    ids=["h1-sync", "h1-async", "h2-sync", "reverse-sync", "reverse-async"],
)
def test_a_call_sees_what_it_sees_without_us_and_has_its_row(
    home: House, way: Way, blocking: bool, stream: bool, words: str
) -> None:
    call = whole if blocking else lambda *told, **more: asyncio.run(awaited(*told, **more))
    bare, tap, strip = (call(home, way, proxy, words, stream=stream) for proxy in PROXIES)
    assert masked(tap.items) == masked(bare.items) == masked(strip.items)
    for proxy, seen in (("tap", tap), ("strip", strip)):
        row = home.proxies[proxy].row(seen.tag)
        expected: dict[str, Any] = {"status": "ok", "end_reason": "complete", "usage_quality": "exact"}
        expected |= {"dialect": "gemini"}
        expected |= {"operation": "generate_content", "stream": int(stream), "transport": "sse" if stream else "json"}
        expected |= {"request_model": "gemini-2.5-flash", "response_model": "gemini-2.5-flash", "injected": 0}
        expected |= {} if way.reverse else {"provider": "gcp.gemini"}
        assert {name: row[name] for name in expected} == expected
        assert (row["input_tokens"], row["output_tokens"]) == reported(seen.items)


@pytest.mark.parametrize("way", [H1, REVERSE], ids=lambda way: way.name)
def test_a_stream_that_the_client_closes_is_aborted(home: House, way: Way) -> None:
    seen, headers = headers_for("chunks=20;hold=3")
    with client(home, way, "tap") as one:
        stream = one.models.generate_content_stream(**ASKED, config={"http_options": {"headers": headers}})
        next(stream)
        stream.close()
        del stream
    row = home.proxies["tap"].row(seen.tag)
    assert (row["status"], row["end_reason"]) == ("aborted", "client_disconnected")
    assert (row["input_tokens"], row["usage_quality"]) == (11, "partial")


async def live(home: House, key: str) -> Seen:
    """Two turns of a recorded session; what the SDK tells of each one's usage."""
    seen, headers = headers_for("")
    place = {"base_url": REVERSE.url(home, "tap", ""), "api_version": "v1alpha"}
    trust = {"async_client_args": {"ssl": home.trust("tap")}}  # wss it is, whatever the address says
    headers |= {"x-capture": "gemini_live/turns"}
    one = genai.Client(api_key=key, vertexai=False, http_options=place | trust)
    config = {"response_modalities": ["AUDIO"], "http_options": {"headers": headers}}
    async with one.aio.live.connect(model="gemini-2.5-flash-native-audio", config=config) as session:
        for number, words in enumerate(("I am Ann.", "Name a bird.")):
            said = {"role": "user", "parts": [{"text": words}]}
            await session.send_client_content(turns=said, turn_complete=bool(number))
        for _ in range(2):
            async for message in session.receive():
                if message.usage_metadata:
                    seen.add(message.usage_metadata)
            await session.send_realtime_input(audio={"data": b"\0\0", "mime_type": "audio/pcm"})
    return seen


@pytest.mark.filterwarnings("ignore:The SDK's ephemeral token support is experimental")
@pytest.mark.parametrize("key", ["key", "auth_tokens/ephemeral"])
def test_live_has_a_row_for_each_turn(home: House, key: str) -> None:
    seen = asyncio.run(live(home, key))
    rows = home.proxies["tap"].ended(2, "tag = ? AND end_reason = 'complete'", seen.tag)
    assert [row["turn"] for row in rows] == [1, 2]
    told = [
        (one["promptTokenCount"], one["responseTokenCount"] + one.get("thoughtsTokenCount", 0)) for one in seen.items
    ]
    assert [(row["input_tokens"], row["output_tokens"]) for row in rows] == told == [(1131, 50), (1190, 9)]
    every = {"dialect": "gemini_live", "transport": "websocket", "status": "ok", "usage_quality": "exact"}
    every |= {"request_model": "models/gemini-2.5-flash-native-audio"}
    for row in rows:
        assert {name: row[name] for name in every} == every
