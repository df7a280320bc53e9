from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.upstream.chunks import Finish, GenerationError, Reasoning, Text, ToolCall, UsageChunk
from usagetap.upstream.gemini import as_array, as_sse, content_stream, part, whole_content

USAGE = UsageChunk(11, 7, cache_read_input_tokens=4, reasoning_output_tokens=2)
CHUNKS = [Reasoning("hm"), Text("a\n"), ToolCall("t1", "f", {"x": [1]}), Finish(), USAGE]
streams = st.lists(st.sampled_from(CHUNKS), max_size=8)


def test_each_chunk_carries_usage_and_the_last_one_the_truth():
    *told, last = content_stream(CHUNKS, model="gemini", opening=USAGE)
    assert [each["usageMetadata"]["promptTokenCount"] for each in told] == [11] * 3
    assert last["usageMetadata"] == {
        "promptTokenCount": 11,
        "candidatesTokenCount": 5,
        "totalTokenCount": 18,
        "cachedContentTokenCount": 4,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 11}],
        "thoughtsTokenCount": 2,
    }
    assert len({(each["responseId"], each["modelVersion"]) for each in [*told, last]}) == 1


def test_parts():
    told = [each["candidates"][0]["content"]["parts"][0] for each in content_stream(CHUNKS, model="g")]
    call = {"functionCall": {"id": "t1", "name": "f", "args": {"x": [1]}}}
    assert told == [{"text": "hm", "thought": True}, {"text": "a\n"}, call, {"text": ""}]
    with pytest.raises(TypeError, match="Finish is no part"):
        part(Finish())


def test_finish_reason_comes_last_for_each_candidate():
    *told, last = content_stream([Text("a"), Text("b", 1), Finish("MAX_TOKENS", 1)], model="g")
    assert not any("finishReason" in each["candidates"][0] for each in told)
    assert [(each["index"], each["finishReason"]) for each in last["candidates"]] == [(0, "STOP"), (1, "MAX_TOKENS")]
    assert "usageMetadata" not in last


@given(streams)
def test_sse_is_data_alone_with_crlf(chunks):
    payloads = list(content_stream(chunks, model="g"))
    body = b"".join(as_sse(payloads))
    assert b"\n" not in body.replace(b"\r\n", b"")
    assert [json.loads(each.removeprefix("data: ")) for each in body.decode().split("\r\n\r\n")[:-1]] == payloads


@given(streams)
def test_the_array_is_json_when_whole_and_one_element_a_frame_before(chunks):
    payloads = list(content_stream(chunks, model="g"))
    frames = list(as_array(payloads))
    assert json.loads(b"".join(frames)) == payloads
    assert len(frames) == len(payloads) + 1


def test_an_empty_array():
    assert b"".join(as_array([])) == b"[]"


def broken():
    yield Text("a")
    raise GenerationError("sorry")


def test_an_exception_is_googles_error_object():
    last = list(content_stream(broken(), model="g"))[-1]
    assert last == {"error": {"code": 500, "message": "sorry", "status": "INTERNAL"}}


def test_a_whole_answer():
    whole = whole_content([*CHUNKS, Text("z", 1)], model="g")
    first, second = whole["candidates"]
    assert [sorted(each) for each in first["content"]["parts"]] == [["text", "thought"], ["text"], ["functionCall"]]
    assert second["content"]["parts"] == [{"text": "z"}]
    assert whole["usageMetadata"]["totalTokenCount"] == 18
    with pytest.raises(GenerationError):
        whole_content(broken(), model="g")
