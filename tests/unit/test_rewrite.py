"""The smallest edit of a request, and the one frame that may be withheld; who refuses, in their own words.

(What holds for every body: tests/property/test_rewrite.py.)
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from usagetap.model import Request
from usagetap.rewrite import (
    Stripper,
    Untouchable,
    blames_us,
    include_usage,
    is_usage_frame,
    members,
    refuses,
    signed,
    strip_model_prefix,
)
from usagetap.upstream.behaviour import REFUSALS
from usagetap.upstream.refusals import needs_stream, refusal, responses_refuse

OPTIONS = '"stream_options":{"include_usage":true}'


@pytest.mark.parametrize(
    ("body", "edited"),
    [
        ('{"stream":true}', '{"stream":true,OPTIONS}'),
        ('{"stream" : true }', '{"stream" : true,OPTIONS }'),
        ('{"stream":true,"stream_options":null}', '{"stream":true,OPTIONS}'),
        ('{"stream_options":{},"stream":true}', '{OPTIONS,"stream":true}'),
        ('{"stream_options":{"include_usage":false},"stream":true}', '{OPTIONS,"stream":true}'),
        ('{"stream_options":{"include_usage":null},"stream":true}', '{OPTIONS,"stream":true}'),
        ('{"stream_options":{"include_usage":"yes"},"stream":true}', '{OPTIONS,"stream":true}'),
        (
            '{"stream_options": {"include_obfuscation": false}}',
            '{"stream_options": {"include_usage":true,"include_obfuscation": false}}',
        ),
        ('{"a":{"stream_options":{}},"stream":true}', '{"a":{"stream_options":{}},"stream":true,OPTIONS}'),
        (
            '{"stream_\\u006fptions":{"include_us\\u0061ge":false}}',
            '{"stream_\\u006fptions":{"include_us\\u0061ge":true}}',
        ),
        ("{ }", "{OPTIONS }"),
    ],
)
def test_forced(body: str, edited: str) -> None:
    assert include_usage(body.encode(), override=True) == edited.replace("OPTIONS", OPTIONS).encode()


@pytest.mark.parametrize("value", ["true", "false"])
def test_what_the_client_said_is_kept_where_it_may_be(value: str) -> None:
    body = b'{"stream":true,"stream_options":{"include_usage":%b}}' % value.encode()
    assert include_usage(body, override=False) is body


def test_continuous_counts_are_asked_for_beside() -> None:
    edited = include_usage(b'{"stream_options":{"include_usage":true}}', override=True, continuous=True)
    assert edited == b'{"stream_options":{"continuous_usage_stats":true,"include_usage":true}}'


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"stream_options":[]}', "stream_options_shape"),
        ('{"stream_options":"include_usage"}', "stream_options_shape"),
        ('{"stream":true,"stream":true}', "duplicate_keys"),
        ('{"stream_options":{"include_usage":true,"include_usage":false}}', "duplicate_keys"),
        ('{"messages":[', "not_json"),
    ],
)
def test_what_cannot_be_edited_safely_is_left_alone(body: str, reason: str) -> None:
    with pytest.raises(Untouchable) as refused:
        include_usage(body.encode(), override=True)
    assert refused.value.reason == reason


def test_members_know_where_values_stand() -> None:
    text = b' {"a" : [1, "]}", {"b": 2}] ,\n"c\\"":"x"}'
    assert [(key, text[start:end]) for key, start, end in members(text)] == [
        ("a", b'[1, "]}", {"b": 2}]'),
        ('c"', b'"x"'),
    ]


@pytest.mark.parametrize(
    ("model", "left"),
    [
        ('"openai/gpt-5"', '"gpt-5"'),
        ('"openai\\/gpt-5"', '"gpt-5"'),
        ('"azure/openai/gpt-5"', '"openai/gpt-5"'),
        ('"gpt-5"', '"gpt-5"'),
        ('"openai/"', '"openai/"'),
        ("7", "7"),
        ("null", "null"),
        ('["openai/gpt-5"]', '["openai/gpt-5"]'),
    ],
)
def test_a_prefix_of_the_model_is_taken_off_once(model: str, left: str) -> None:
    body = '{ "x": {"model":"openai/y"}, "model": %s , "n": 1.0}'
    assert strip_model_prefix((body % model).encode(), ["openai/", "azure/"]) == (body % left).encode()


@pytest.mark.parametrize(
    ("headers", "query", "vouched"),
    [
        ({}, {}, False),
        ({"authorization": "Bearer sk-x"}, {}, False),
        ({"authorization": "AWS4-HMAC-SHA256 Credential=…"}, {}, True),
        ({"authorization": "AWS4-ECDSA-P256-SHA256 Credential=…"}, {}, True),
        ({"authorization": 'Signature keyId="…"'}, {}, True),
        ({}, {"X-Amz-Signature": "…"}, True),
        *(({name: "…"}, {}, True) for name in ("x-amz-content-sha256", "content-digest", "digest", "content-md5")),
        ({"signature-input": "sig1=()"}, {}, True),
        ({"repr-digest": "sha-256=:…:"}, {}, True),
        ({"x-signature-of-nothing": "1"}, {}, False),
    ],
)
def test_a_signed_body_is_known(headers: dict[str, str], query: dict[str, str], vouched: bool) -> None:
    assert signed(headers, query) is vouched


def chat(host: str, path: str = "/v1/chat/completions", body: Any = None, **query: str) -> Request:
    """A request to `host`; underlines in query names stand for hyphens."""
    asked = {name.replace("_", "-"): value for name, value in query.items()}
    return Request("POST", host, 443, path, query=asked, body=body or {"messages": [], "stream": True})


AZURE = "/openai/deployments/gpt-4o/chat/completions"


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (chat("api.openai.com"), None),
        (chat("api.mistral.ai"), "host_refuses"),
        (chat("codestral.mistral.ai"), "host_refuses"),
        (chat("eu.api.mistral.ai"), "host_refuses"),
        (chat("notapi.mistral.ai.example.com"), None),
        (chat("adb-1.azuredatabricks.net", "/serving-endpoints/claude/chat/completions"), "host_refuses"),
        (chat("adb-1.azuredatabricks.net", "/serving-endpoints/llama/chat/completions"), None),
        (chat("x.openai.azure.com", AZURE, api_version="2023-05-15"), "api_version"),
        (chat("x.openai.azure.com", AZURE, api_version="2024-08-01-preview"), "api_version"),
        (chat("x.openai.azure.com", AZURE, api_version="2024-10-21"), None),
        (chat("x.openai.azure.com", AZURE, api_version="2025-01-01-preview"), None),
        (chat("x.openai.azure.com", AZURE, api_version="preview"), None),
        (chat("x.openai.azure.com", AZURE), None),
        (chat("example.com", api_version="2023-05-15"), None),
        (chat("x.openai.azure.com", AZURE, {"data_sources": []}, api_version="2025-01-01"), "data_sources"),
        (chat("example.com", body=[1]), None),
    ],
)
def test_who_is_known_to_refuse(request_: Request, why: str | None) -> None:
    assert refuses(request_) == why


# -- refusals, in their own words

OUR_FIELD = {"include_usage": True}
REAL_WORDS = {
    # BerriAI/litellm#9916
    "Bedrock": (400, {"message": "extraneous key [include_usage] is not permitted"}),
    # vercel/ai#1578
    "Groq, 2024": (
        400,
        {
            "error": {
                "message": "property 'stream_options' is unsupported, did you mean 'stream'?",
                "type": "invalid_request_error",
            }
        },
    ),
    # CherryHQ/cherry-studio#9214
    "Azure AI Foundry": (
        400,
        {"detail": "Extra parameters ['stream_options'] are not allowed when extra-parameters is not set"},
    ),
    # FastAPI with pydantic's `extra = "forbid"`
    "pydantic": (
        422,
        {
            "detail": [
                {"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}
            ]
        },
    ),
    # class-validator's `forbidNonWhitelisted`
    "NestJS": (400, {"message": ["property stream_options should not exist"], "error": "Bad Request"}),
    # protobuf's JSON mapping, as Google writes it
    "protobuf": (
        400,
        {
            "error": {
                "code": 400,
                "message": 'Invalid JSON payload received. Unknown name "stream_options": Cannot find field.',
            }
        },
    ),
    "a keyword argument": (400, {"error": "create() got an unexpected keyword argument 'stream_options'"}),
    "JSON schema": (400, {"error": "Additional properties are not allowed ('stream_options' was unexpected)"}),
}


@pytest.mark.parametrize("who", REFUSALS)
def test_every_refusal_of_the_fake_provider_blames_us(who: str) -> None:
    http_status, body = refusal(who, OUR_FIELD)
    assert blames_us(http_status, json.dumps(body).encode())


@pytest.mark.parametrize("who", REAL_WORDS)
def test_refusals_in_their_own_words_blame_us(who: str) -> None:
    http_status, body = REAL_WORDS[who]
    assert blames_us(http_status, json.dumps(body).encode())
    assert blames_us(http_status, json.dumps(body, indent=2).encode())


def test_openai_says_what_is_wrong_with_it() -> None:
    for http_status, body in (needs_stream(), responses_refuse(OUR_FIELD) or (0, {})):
        assert blames_us(http_status, json.dumps(body).encode())


ECHO = {"model": "m", "stream": True, "stream_options": OUR_FIELD, "messages": []}


@pytest.mark.parametrize(
    ("http_status", "body"),
    [
        (200, {"error": "unknown field stream_options"}),
        (401, {"error": "unknown field stream_options"}),
        (429, {"error": "stream_options: not supported"}),
        (500, {"error": "unknown field stream_options"}),
        (400, {"error": {"message": "Unknown parameter: 'reasoning'.", "param": "reasoning"}}),
        (400, {"error": {"message": "max_tokens is too large", "type": "invalid_request_error"}, "request": ECHO}),
        (422, {"detail": "too long", "body": ECHO}),
        (400, {}),
    ],
    ids=["ok", "key", "quota", "fault", "another-field", "echo", "echo-422", "empty"],
)
def test_other_errors_do_not(http_status: int, body: Any) -> None:
    assert not blames_us(http_status, json.dumps(body).encode())


def test_only_the_beginning_of_a_body_is_searched() -> None:
    assert not blames_us(400, b" " * (64 << 10) + b"unknown field stream_options")
    assert not blames_us(400, b"stream_options " * 4_000 + b"." * 400 + b"unknown")


@pytest.mark.parametrize(
    ("frame", "final"),
    [
        (b'data: {"choices":[],"usage":{"total_tokens":3}}\n\n', True),
        (b'data: {"choices":[],"usage":{"total_tokens":3}}\r\n\r\n', True),
        (b'data:{"usage" : {}}\n\n', True),
        (b'data: {"choices":null,"usage":{"total_tokens":3}}\n\n', True),
        (b'data: {"choices":[],"error":null,"usage":{"total_tokens":3}}\n\n', True),
        (b'data: {"choices":[],"usage":null}\n\n', False),
        (b'data: {"choices":[],"prompt_filter_results":[{"prompt_index":0}]}\n\n', False),
        (b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"total_tokens":3}}\n\n', False),
        (b'data: {"choices":[],"usage":{},"error":{"message":"no"}}\n\n', False),
        (b'data: {"x":{"usage":{"total_tokens":3}},"choices":[]}\n\n', False),
        (b'data: [{"usage":{}}]\n\n', False),
        (b'data: {"usage":{"total_tokens":3}\n\n', False),
        (b': {"usage":{}}\n\n', False),
    ],
)
def test_the_usage_frame_and_what_looks_like_it(frame: bytes, final: bool) -> None:
    assert is_usage_frame(frame) is final


@pytest.mark.parametrize("line", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("blanks", range(2, 8))
def test_blank_lines_before_a_withheld_frame_pass_at_every_split(line: bytes, blanks: int) -> None:
    body = b"data: {}" + line * blanks + b'data: {"choices":[],"usage":{"prompt_tokens":1}}' + line * 2
    whole = Stripper()
    passed = whole.feed(body) + whole.release()
    for cut in range(1, len(body)):
        stripper = Stripper()
        assert stripper.feed(body[:cut]) + stripper.feed(body[cut:]) + stripper.release() == passed
        assert stripper.stripped == whole.stripped == 1
