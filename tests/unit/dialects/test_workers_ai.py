"""Cloudflare's Workers AI: known by the model in the path, on any host; OpenAI's words in a wrapper."""

from __future__ import annotations

import pytest

from usagetap.assembly import assemble
from usagetap.dialects import detect
from usagetap.model import Observation, Request

MODEL = "@cf/meta/llama-3.1-8b-instruct"
ASKED = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}


@pytest.mark.parametrize(
    "path",
    [
        f"/client/v4/accounts/a1/ai/run/{MODEL}",
        f"/client/v4/accounts/a1/ai/run/{MODEL.replace('@', '%40')}/",
        f"/v1/a1/my-gateway/workers-ai/{MODEL}",
    ],
)
def test_the_path_names_it_and_its_model(path: str) -> None:
    request = Request("POST", "gateway.example", 443, path, body=ASKED)
    dialect = detect(request)
    assert dialect is not None
    assert (dialect.name, dialect.model(request), dialect.streams(request)) == ("workers_ai", MODEL, True)
    assert not dialect.takes_include_usage


def test_the_openai_endpoint_beside_it_is_chat() -> None:
    found = detect(Request("POST", "api.cloudflare.com", 443, "/client/v4/accounts/a1/ai/v1/chat/completions"))
    assert found is not None
    assert found.name == "openai_chat"


def test_a_failure_under_200_is_an_error() -> None:
    dialect = detect(Request("POST", "h", 443, f"/ai/run/{MODEL}", body=ASKED))
    assert dialect is not None
    seen = Observation()
    dialect.observe(seen, {"result": None, "success": False, "errors": [{"code": 3040, "message": "No capacity"}]})
    assert (seen.error_type, seen.error_message) == ("3040", "No capacity")


def test_the_wrapper_is_taken_off_for_people_too() -> None:
    answer = assemble([{"result": {"response": "A robin.", "usage": {}}, "success": True, "errors": []}])
    assert "".join(answer.choice().text) == "A robin."
