"""The server in its thread and in an event loop, and the official SDKs against it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from usagetap.upstream import Upstream, running_upstream, serve

WORDS = "reasoning=2;tools=1;chunks=3;cached=4"
MESSAGES = [{"role": "user", "content": "hi"}]


def test_the_log_is_in_order_and_can_be_waited_for(ask):
    with running_upstream() as up:
        for number in range(3):
            ask(up, body={"model": f"m{number}"})
        assert [exchange.json["model"] for exchange in up.wait_for(3)] == ["m0", "m1", "m2"]
        with pytest.raises(TimeoutError, match="3 of 4 requests arrived"):
            up.wait_for(4, timeout=0)


def test_in_an_event_loop_of_ones_own():
    async def run():
        async with Upstream(default="status=429") as up:
            reader, writer = await asyncio.open_connection(up.host, up.port)
            writer.write(b"GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer

    assert asyncio.run(run()).startswith(b"HTTP/1.1 429")


def test_stopping_breaks_what_is_under_way():
    before = threading.active_count()
    with running_upstream() as up:
        thread = threading.Thread(target=lambda: up.wait_for(1))
        thread.start()
        client = asyncio.new_event_loop()
        reader, writer = client.run_until_complete(asyncio.open_connection(up.host, up.port))
        writer.write(b"GET /v1/models HTTP/1.1\r\nx-upstream: silent\r\n\r\n")
        thread.join(10)
    assert client.run_until_complete(reader.read()) == b""
    writer.close()
    client.run_until_complete(writer.wait_closed())
    client.close()
    assert up.requests[0].outcome == "cut"
    assert threading.active_count() == before


def test_serve_lays_the_plain_options_over_the_words(ask):
    answers = []

    def started(up):
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def client():
            answers.append(ask(up))
            loop.call_soon_threadsafe(task.cancel)

        threading.Thread(target=client).start()

    with pytest.raises(asyncio.CancelledError):
        serve(port=0, behaviour="chunks=9;die=8", die_after=3, encoding="gzip", started=started)
    assert "content-encoding: gzip" in answers[0].head
    assert len(answers[0].chunks) == 3


def test_bad_words_never_start():
    with pytest.raises(ValueError, match="nonsense is not a word"):
        Upstream(default="nonsense")


class TestOpenai:
    """openai-python, pointed at us by base_url."""

    @pytest.fixture
    def client(self, upstream):
        openai = pytest.importorskip("openai", reason="the OpenAI SDK is a dev dependency")
        with openai.OpenAI(base_url=f"{upstream.url}/v1", api_key="x", max_retries=0) as client:
            yield client

    def test_chat(self, client):
        asked = {"model": f"m@{WORDS}", "messages": MESSAGES}
        *chunks, last = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
        assert last.usage == client.chat.completions.create(**asked).usage
        assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (11, 6)
        assert chunks[-1].choices[0].finish_reason == "tool_calls"

    def test_accumulated_chat(self, client):
        with client.chat.completions.stream(model=f"m@{WORDS}", messages=MESSAGES) as stream:
            message = stream.get_final_completion().choices[0].message
        assert message.tool_calls[0].function.arguments == '{"city":"Zürich","days":1}'

    def test_an_error_in_mid_stream(self, client):
        openai = pytest.importorskip("openai", reason="the OpenAI SDK is a dev dependency")
        stream = client.chat.completions.create(model="m@error=2", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError, match="The server had an error"):
            list(stream)

    @pytest.mark.parametrize("coding", ["gzip", "deflate"])
    def test_compressed(self, client, upstream, coding):
        chunks = list(client.chat.completions.create(model=f"m@encoding={coding}", messages=MESSAGES, stream=True))
        assert len(chunks) == 7
        assert not upstream.requests[-1].sent.startswith(b"data: ")

    def test_responses(self, client):
        with client.responses.stream(model=f"m@{WORDS}", input="hi") as stream:
            for _ in stream:
                pass
            final = stream.get_final_response()
        assert final.usage == client.responses.create(model=f"m@{WORDS}", input="hi").usage
        assert (final.usage.total_tokens, final.usage.output_tokens_details.reasoning_tokens) == (17, 2)
        assert [item.type for item in final.output] == ["reasoning", "message", "function_call"]

    def test_completions_and_embeddings(self, client):
        assert client.completions.create(model="m", prompt="x").usage.total_tokens == 16
        assert client.embeddings.create(model="m", input="x").usage.total_tokens == 11

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_responses_over_websocket(self, client):
        pytest.importorskip("websockets", reason="openai's WebSocket clients need websockets")
        if not hasattr(client.responses, "connect"):
            pytest.skip("this openai has no Responses WebSocket client")
        with client.responses.connect() as connection:
            totals = []
            for number in range(3):
                connection.response.create(model=f"m@chunks={number}", input="hi", stream_id=f"s{number}")
                done = next(event for event in connection if event.type == "response.completed")
                totals.append((done.stream_id, done.response.usage.total_tokens))
        assert totals == [("s0", 11), ("s1", 12), ("s2", 13)]

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_realtime(self, client):
        pytest.importorskip("websockets", reason="openai's WebSocket clients need websockets")
        with client.realtime.connect(model="gpt-realtime@chunks=4") as connection:
            connection.session.update(session={"type": "realtime"})
            for _ in range(2):
                connection.response.create()
                done = next(event for event in connection if event.type == "response.done")
                assert done.response.usage.output_tokens == 4


class TestAnthropic:
    """anthropic-sdk-python, pointed at us by base_url."""

    @pytest.fixture
    def client(self, upstream):
        anthropic = pytest.importorskip("anthropic", reason="the Anthropic SDK is a dev dependency")
        with anthropic.Anthropic(base_url=upstream.url, api_key="x", max_retries=0) as client:
            yield client

    def test_messages(self, client):
        asked = {"model": f"claude@{WORDS};written=3", "max_tokens": 9, "messages": MESSAGES}
        with client.messages.stream(**asked) as stream:
            final = stream.get_final_message()
        whole = client.messages.create(**asked)
        for usage in (final.usage, whole.usage):
            assert (usage.input_tokens, usage.output_tokens) == (4, 6)
            assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (4, 3)
        assert [block.type for block in final.content] == [block.type for block in whole.content]
        assert final.stop_reason == "tool_use"

    def test_an_error_in_mid_stream(self, client):
        anthropic = pytest.importorskip("anthropic", reason="the Anthropic SDK is a dev dependency")
        asked = {"model": "claude@error=2", "max_tokens": 9, "messages": MESSAGES}
        with pytest.raises(anthropic.APIStatusError, match="api_error"), client.messages.stream(**asked) as stream:
            stream.get_final_message()

    def test_count_tokens(self, client):
        assert client.messages.count_tokens(model="claude", messages=MESSAGES).input_tokens == 11


class TestGoogle:
    """google-genai, pointed at us by base_url."""

    @pytest.fixture
    def client(self, upstream):
        genai = pytest.importorskip("google.genai", reason="google-genai is not installed")
        client = genai.Client(api_key="x", http_options={"base_url": upstream.url})
        yield client
        client.close()

    def test_generate_content(self, client):
        asked = {"model": f"gemini@{WORDS}", "contents": "hi"}
        *_, last = client.models.generate_content_stream(**asked)
        whole = client.models.generate_content(**asked)
        for usage in (last.usage_metadata, whole.usage_metadata):
            assert (usage.prompt_token_count, usage.candidates_token_count) == (11, 4)
            assert (usage.thoughts_token_count, usage.total_token_count) == (2, 17)
        assert whole.function_calls[0].args == {"city": "Zürich", "days": 1}
        assert client.models.count_tokens(**asked).total_tokens == 11
