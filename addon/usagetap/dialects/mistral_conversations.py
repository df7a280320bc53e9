"""Mistral's Conversations: agents with server-side tools, plain and as SSE.

https://docs.mistral.ai/api/endpoint/beta/conversations. The answer's id and model stand in its entries; the
conversation's id is the same on every turn, so it is no response's. What the tools (`connectors`) put in is beside
`prompt_tokens`, and only in the total: 177 + 134 + 3929 = 4240. A stream ends with `conversation.response.done`.
"""

from __future__ import annotations

import re
from typing import Any

from usagetap.dialects.base import (
    Dialect,
    Json,
    Weight,
    mapping,
    observe_error,
    observe_identity,
    text,
    told_by_path,
)
from usagetap.dialects.openai_usage import openai_usage
from usagetap.model import Observation, Request

_PATH = re.compile(r"/conversations(?:/[\w-]+(?:/restart)?)?$")
_TELLS = re.compile(rb'"type"\s*:\s*"conversation\.response\.(?:done|error)"|"error"')


class MistralConversations(Dialect):
    """`POST …/conversations`, `…/conversations/{id}`, `…/conversations/{id}/restart` with `inputs`."""

    name = "mistral_conversations"
    dull_event = re.compile(rb"(?:message\.output|tool\.execution|agent\.handoff|function\.call)\.\w+")
    finish_ends = False

    def matches(self, request: Request) -> bool:
        if request.method != "POST" or not _PATH.search(request.path.rstrip("/")):
            return False
        if told_by_path(request):
            return "mistral" in request.host  # OpenAI has conversations too, which answer nothing
        return isinstance(request.body, dict) and "inputs" in request.body

    def model(self, request: Request) -> str | None:
        return request.text("model") or request.text("agent_id")

    def weigh(self, frame: bytes) -> Weight:
        return Weight.PARSE if _TELLS.search(frame) else Weight.NOTHING

    def observe(self, seen: Observation, payload: Any) -> None:
        if observe_error(seen, payload) or not isinstance(payload, dict):
            return
        kind = payload.get("type")
        if kind == "conversation.response.error":
            seen.fail(str(payload.get("code", "error"))[:100], text(payload.get("message")))
        elif kind == "conversation.response.done":
            seen.terminal = True
            _observe_usage(seen, payload)
        elif kind == "message.output.delta":
            observe_identity(seen, payload)
        elif kind is None:
            outputs = payload.get("outputs")
            for entry in outputs if isinstance(outputs, list) else []:
                if mapping(entry).get("type") == "message.output":
                    observe_identity(seen, entry)
            _observe_usage(seen, payload)


def _observe_usage(seen: Observation, payload: Json) -> None:
    usage = mapping(payload.get("usage"))
    if usage:
        seen.usage.merge(openai_usage(usage))
        seen.usage_raw, seen.usage_final = usage, True
