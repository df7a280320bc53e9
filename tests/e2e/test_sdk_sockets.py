"""openai-python's WebSockets through a real mitmdump with the addon: Responses and Realtime, one row for each turn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import openai
import pytest
from tests.e2e.sdk import H1, REVERSE, House, Seen, Way, headers_for, jsonable, masked

if TYPE_CHECKING:
    from openai.resources.responses.responses import ResponsesConnection

pytest.importorskip("websockets", minversion="15", reason="websockets 15 is the first that knows a proxy")
# websockets 17.1 about openai-python's own way to connect
pytestmark = pytest.mark.filterwarnings("ignore:connect\\(\\) must be used as a context manager:DeprecationWarning")
PROXIES = ("bare", "tap")
TURNS = 100


def options(home: House, way: Way, proxy: str, *, deflate: bool) -> Any:
    """Arguments of websockets' connect: a limit lets the SDK offer permessage-deflate."""
    told: dict[str, Any] = {"max_size": 1 << 22, "compression": "deflate"} if deflate else {}
    if way.reverse:
        return told | {"proxy": None}
    return told | {"proxy": f"http://127.0.0.1:{home.proxies[proxy].ports[0]}", "ssl": home.trust(proxy)}


def url(home: House, way: Way, proxy: str) -> str:
    return way.url(home, proxy, "api.openai.com") + "/v1"


@contextmanager
def responses_line(
    home: House, way: Way, proxy: str, headers: dict[str, str], *, deflate: bool = False
) -> Iterator[ResponsesConnection]:
    """A socket that speaks Responses."""
    with openai.OpenAI(base_url=url(home, way, proxy), api_key="sk-test") as client:
        if not hasattr(client.responses, "connect"):
            pytest.skip("this openai-python knows no Responses over WebSocket")
        told = options(home, way, proxy, deflate=deflate)
        with client.responses.connect(extra_headers=headers, websocket_connection_options=told) as line:
            yield line


def responses(home: House, way: Way, proxy: str, turns: int, *, deflate: bool) -> Seen:
    """So many turns on one socket, one after the other."""
    seen, headers = headers_for("chunks=3;tools=1")
    with responses_line(home, way, proxy, headers, deflate=deflate) as line:
        for turn in range(turns):
            line.response.create(model="gpt-4o-mini", input=f"turn {turn}")
            for event in line:
                seen.add(event)
                if event.type == "response.completed":
                    break
    return seen


async def realtime(home: House, way: Way, proxy: str, turns: int, *, deflate: bool) -> Seen:
    """The same over Realtime, awaited."""
    seen, headers = headers_for("chunks=4")
    async with (
        openai.AsyncOpenAI(base_url=url(home, way, proxy), api_key="sk-test") as client,
        client.realtime.connect(
            model="gpt-realtime",
            extra_headers=headers,
            websocket_connection_options=options(home, way, proxy, deflate=deflate),
        ) as line,
    ):
        seen.add(await line.recv())
        for turn in range(turns):
            said = [{"type": "input_text", "text": f"turn {turn}"}]
            item: Any = {"type": "message", "role": "user", "content": said}
            await line.conversation.item.create(item=item)
            await line.response.create()
            async for event in line:
                seen.add(event)
                if event.type == "response.done":
                    break
    return seen


def usages(seen: Seen, last: str) -> list[tuple[str, int, int]]:
    """Response id, input and output tokens of each turn, as the SDK's user reads them."""
    ends = [jsonable(event)["response"] for event in seen.items if event["type"] == last]
    return [(one["id"], one["usage"]["input_tokens"], one["usage"]["output_tokens"]) for one in ends]


def rows_are_right(home: House, seen: Seen, turns: int, last: str, **expected: Any) -> None:
    rows = home.proxies["tap"].ended(turns, "tag = ?", seen.tag)
    assert [row["turn"] for row in rows] == list(range(1, turns + 1))
    assert [(row["response_id"], row["input_tokens"], row["output_tokens"]) for row in rows] == usages(seen, last)
    every = {
        "status": "ok",
        "end_reason": "complete",
        "usage_quality": "exact",
        "transport": "websocket",
        "injected": 0,
    }
    for row in rows:
        assert {name: row[name] for name in every | expected} == every | expected


@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
@pytest.mark.parametrize("way", [H1, REVERSE], ids=lambda way: way.name)
def test_responses_over_a_socket(home: House, way: Way, deflate: bool) -> None:
    bare, tap = (responses(home, way, proxy, TURNS, deflate=deflate) for proxy in PROXIES)
    assert masked(tap.items) == masked(bare.items)
    rows_are_right(home, tap, TURNS, "response.completed", dialect="openai_responses", request_model="gpt-4o-mini")


@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
@pytest.mark.parametrize("way", [H1, REVERSE], ids=lambda way: way.name)
def test_realtime(home: House, way: Way, deflate: bool) -> None:
    bare, tap = (asyncio.run(realtime(home, way, proxy, TURNS, deflate=deflate)) for proxy in PROXIES)
    assert masked(tap.items) == masked(bare.items)
    rows_are_right(home, tap, TURNS, "response.done", dialect="openai_realtime", request_model="gpt-realtime")


def test_a_socket_that_the_client_leaves_in_the_middle_of_a_turn(home: House) -> None:
    seen, headers = headers_for("chunks=9;hold=6")
    with responses_line(home, REVERSE, "tap", headers) as line:
        line.response.create(model="gpt-4o-mini", input="?")
        assert line.recv().type == "response.created"
    (row,) = home.proxies["tap"].ended(1, "tag = ?", seen.tag)
    assert (row["status"], row["end_reason"], row["input_tokens"]) == ("aborted", "client_disconnected", None)
