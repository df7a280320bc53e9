"""Which answer a request gets, by path on any prefix, in its dialect's shape."""

from __future__ import annotations

import json

import pytest

STREAM = {"model": "m", "messages": [], "stream": True}
WHOLE = {"model": "m@input=5;output=7;cached=2", "messages": []}


def test_include_usage_is_honoured(upstream, ask):
    asked = ask(upstream, body={**STREAM, "stream_options": {"include_usage": True}}).chunks
    assert all(b'"usage":null' in chunk for chunk in asked[:-3])
    assert b'"choices":[],"usage":{"prompt_tokens":11' in asked[-3]
    for options in ({}, {"include_usage": False}, {"include_usage": "true"}, None):
        assert b"usage" not in ask(upstream, body={**STREAM, "stream_options": options}).body


@pytest.mark.parametrize(
    ("path", "usage"),
    [
        ("/v1/chat/completions", {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}),
        ("/openai/deployments/d/chat/completions?api-version=2024-10-21", {"prompt_tokens": 5, "completion_tokens": 7}),
        ("/any/prefix/completions", {"prompt_tokens": 5}),
        ("/v1/messages", {"input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 7}),
        ("/v1/responses", {"input_tokens": 5, "output_tokens": 7, "input_tokens_details": {"cached_tokens": 2}}),
        ("/v1/embeddings", {"prompt_tokens": 5, "total_tokens": 5}),
    ],
)
def test_whole_answers(upstream, ask, path, usage):
    answer = ask(upstream, body=WHOLE, path=path)
    assert (answer.status, "application/json" in answer.head) == (200, True)
    assert {name: answer.json["usage"][name] for name in usage} == usage
    assert answer.json["model"] == "m"


@pytest.mark.parametrize(
    ("path", "end"),
    [
        ("/v1/chat/completions", b"data: [DONE]\n\n"),
        ("/v1/completions", b"data: [DONE]\n\n"),
        ("/v1/messages", b'event: message_stop\ndata: {"type":"message_stop"}\n\n'),
    ],
)
def test_streams(upstream, ask, path, end):
    answer = ask(upstream, body=STREAM, path=path)
    assert "content-type: text/event-stream; charset=utf-8" in answer.head
    assert answer.chunks[-2] == end
    left_out = ask(upstream, "no_done", body=STREAM, path=path)
    assert left_out.chunks[-2] != end


@pytest.mark.parametrize("tail", ["chat/completions", "completions"])
def test_usage_never_comes_under_no_usage(upstream, ask, tail):
    options = {"stream_options": {"include_usage": True}}
    assert b"prompt_tokens" not in ask(upstream, "no_usage", {**STREAM, **options}, path=f"/v1/{tail}").body
    assert "usage" not in ask(upstream, "no_usage", WHOLE, path=f"/v1/{tail}").json


def test_several_choices(upstream, ask):
    whole = ask(upstream, body={**WHOLE, "n": 3}).json
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]


def test_gemini(upstream, ask):
    base = "/v1beta/models/gemini@reasoning=1"
    whole = ask(upstream, body={}, path=f"{base}:generateContent").json
    assert (whole["modelVersion"], whole["usageMetadata"]["totalTokenCount"]) == ("gemini", 17)
    sse = ask(upstream, body={}, path=f"{base}:streamGenerateContent?alt=sse")
    assert "content-type: text/event-stream\r\n" in sse.head
    assert all(chunk.endswith(b"\r\n\r\n") for chunk in sse.chunks[:-1])
    array = ask(upstream, body={}, path=f"{base}:streamGenerateContent")
    assert "content-type: application/json; charset=UTF-8" in array.head
    assert json.loads(b"".join(array.chunks))[-1]["usageMetadata"]["thoughtsTokenCount"] == 1
    assert ask(upstream, body={}, path=f"{base}:countTokens").json == {"totalTokens": 11}


def test_background_responses_and_resumption(upstream, ask):
    queued = ask(upstream, body={"model": "m", "input": "", "background": True}, path="/v1/responses").json
    assert (queued["status"], queued["usage"], queued["background"]) == ("queued", None, True)
    path = f"/v1/responses/{queued['id']}"
    assert ask(upstream, path=path).json["usage"]["total_tokens"] == 16
    events = b"".join(ask(upstream, path=f"{path}?stream=true&starting_after=3").chunks)
    assert b'"sequence_number":3,' not in events
    assert b'"sequence_number":4,' in events
    assert ask(upstream, path="/v1/responses/resp_none").status == 404
    assert ask(upstream, path=f"{path}?stream=true&starting_after=x").status == 400


def test_responses_refuse_include_usage(upstream, ask):
    body = {"model": "m", "input": "", "stream": True, "stream_options": {"include_usage": True}}
    answer = ask(upstream, body=body, path="/v1/responses")
    assert answer.json["error"]["message"] == "Unknown parameter: 'stream_options.include_usage'."


def test_only_the_latest_responses_are_remembered(upstream, ask, monkeypatch):
    monkeypatch.setattr("usagetap.upstream.routes.REMEMBERED", 1)
    first, _ = (ask(upstream, body={"model": "m"}, path="/v1/responses").json["id"] for _ in range(2))
    assert ask(upstream, path=f"/v1/responses/{first}").status == 404


@pytest.mark.parametrize(("who", "status"), [("400", 400), ("422", 422), ("azure_old", 400)])
def test_stream_options_are_refused_and_their_absence_is_not(upstream, ask, who, status):
    options = {"stream_options": {"include_usage": True}}
    assert ask(upstream, f"refuse={who}", {**STREAM, **options}).status == status
    assert ask(upstream, f"refuse={who}", STREAM).status == 200


def test_stream_options_without_stream(upstream, ask):
    answer = ask(upstream, body={**WHOLE, "stream_options": {"include_usage": True}})
    assert (answer.status, "only allowed when 'stream' is enabled" in answer.json["error"]["message"]) == (400, True)


@pytest.mark.parametrize("status", [401, 429, 500, 529])
def test_errors_in_each_dialects_shape(upstream, ask, status):
    openai = ask(upstream, f"status={status}")
    assert (openai.status, set(openai.json["error"])) == (status, {"message", "type", "param", "code"})
    assert ask(upstream, f"status={status}", path="/v1/messages").json["type"] == "error"
    assert ask(upstream, f"status={status}", path="/v1beta/models/g:generateContent").json["error"]["code"] == status


def test_an_error_of_the_generator_is_a_frame_in_a_stream_and_a_500_without(upstream, ask):
    streamed = ask(upstream, "error=2")
    assert streamed.status == 200
    assert b'"error":{"message"' in streamed.chunks[-2]
    assert b"[DONE]" not in streamed.body
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1beta/models/g:generateContent"):
        assert ask(upstream, "error=2", WHOLE, path).status == 500


@pytest.mark.parametrize(
    ("words", "body", "path", "status", "says"),
    [
        ("nonsense", STREAM, "/v1/chat/completions", 400, "nonsense is not a word"),
        ("tools=1", WHOLE, "/v1/completions", 400, "no place for tool calls"),
        ("", STREAM, "/v1/nothing", 404, "Unknown request URL: /v1/nothing"),
    ],
)
def test_a_request_that_makes_no_sense_is_told_why(upstream, ask, words, body, path, status, says):
    answer = ask(upstream, words, body, path)
    assert (answer.status, says in answer.json["error"]["message"]) == (status, True)


def test_words_of_the_header_lie_over_those_of_the_model(upstream, ask):
    answer = ask(upstream, "input=2", {"model": "m@input=1;output=9", "messages": []})
    assert answer.json["usage"]["prompt_tokens"] == 2
    assert answer.json["usage"]["completion_tokens"] == 9
