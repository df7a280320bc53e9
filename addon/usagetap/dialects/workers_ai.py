"""Cloudflare's own Workers AI, straight and behind its AI Gateway (its OpenAI endpoint is `openai_chat.py`).

https://developers.cloudflare.com/workers-ai/get-started/rest-api/ and …/ai-gateway/providers/workersai/: an answer
stands in `result`, with OpenAI's `usage` beside `response`
(https://developers.cloudflare.com/workers-ai/models/llama-3.3-70b-instruct-fp8-fast/), newer models answer there as
OpenAI's chat does; a stream has the same without the wrapper and ends with `[DONE]`.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from usagetap.dialects.base import mapping, observe_error
from usagetap.dialects.openai_chat import OpenAIChat
from usagetap.model import Observation, Request

_PATH = re.compile(r"/(?:ai/run|workers-ai)/(@(?:cf|hf)/[^/]+/[^/]+)$")


class WorkersAI(OpenAIChat):
    """`…/ai/run/{model}`, `…/workers-ai/{model}`."""

    name = "workers_ai"
    takes_include_usage = False
    finish_ends = False

    def matches(self, request: Request) -> bool:
        return request.method == "POST" and _model(request) is not None

    def operation(self, request: Request) -> str:
        asked = mapping(request.body)
        if "messages" in asked:
            return "chat"
        return "text_completion" if "prompt" in asked else "generate_content"

    def model(self, request: Request) -> str | None:
        return _model(request)

    def observe(self, seen: Observation, payload: Any) -> None:
        observe_error(seen, payload)
        wrapper = mapping(payload)
        errors = wrapper.get("errors")
        if errors and isinstance(errors, list):
            observe_error(seen, {"error": errors[0]})
        inner = wrapper.get("result")
        super().observe(seen, inner if isinstance(inner, dict) else payload)


def _model(request: Request) -> str | None:
    found = _PATH.search(unquote(request.path).rstrip("/"))
    return found[1] if found else None
