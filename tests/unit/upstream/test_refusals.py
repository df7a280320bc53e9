from __future__ import annotations

import json

import pytest

from usagetap.upstream.behaviour import REFUSALS
from usagetap.upstream.refusals import needs_stream, refusal, responses_refuse


@pytest.mark.parametrize("who", REFUSALS)
def test_every_refusal_blames_the_field(who):
    status, body = refusal(who, {"include_usage": True})
    assert status == (422 if who in ("422", "mistral") else 400)
    assert "stream_options" in json.dumps(body)


def test_mistral_points_at_the_place():
    _, body = refusal("mistral", {"include_usage": True})
    [detail] = body["message"]["detail"]
    assert detail["type"] == "extra_forbidden"
    assert detail["loc"] == ["body", "stream_options", "include_usage"]


def test_the_others():
    assert needs_stream()[1]["error"]["message"].startswith("The 'stream_options' parameter is only allowed")
    assert responses_refuse({"include_obfuscation": False}) is None
    assert responses_refuse(None) is None
    assert responses_refuse({"include_usage": True})[1]["error"]["code"] == "unknown_parameter"
