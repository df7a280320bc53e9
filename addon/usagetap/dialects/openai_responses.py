"""OpenAI Responses, over HTTP and SSE; its events are the same over WebSocket (`turns.py`).

https://platform.openai.com/docs/api-reference/responses and …/responses-streaming. Usage stands in the response object
of the terminal event only: `response.completed`, `response.incomplete`, `response.failed`. Bedrock Mantle puts the
event line behind the data and `type` last, OpenRouter leaves the event line out and sends `[DONE]`; both recorded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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
from usagetap.dialects.cost import observe_copilot, observe_cost, observe_header
from usagetap.dialects.openai_usage import openai_usage, with_siblings
from usagetap.model import Observation, Request

PENDING = frozenset({"queued", "in_progress"})
"""The statuses of a response that is still being made."""
TERMINAL = frozenset({"completed", "incomplete", "failed", "cancelled"})

_RETRIEVED = re.compile(r"/responses/(?:resp_[\w-]+|[0-9a-f]{8}-[0-9a-f-]{27})(/cancel)?$")
_FAMILIAR = re.compile(r"/(?:v1|openai|codex)/responses(?:/compact)?$")
_EVENT = re.compile(rb"event: ?([^\r\n]*)")
_TYPE = re.compile(rb'"type"\s*:\s*"(?:error|response\.\w+)"|"error"\s*:\s*(?!null)\S|"copilot_usage"')


class OpenAIResponses(Dialect):
    """`…/responses`, `…/responses/compact`, `…/responses/{id}`, `…/responses/{id}/cancel`, Perplexity's `…/v1/agent`.

    Not `…/responses/input_tokens`: that answers a count, and nothing is used. Perplexity's `/v1/responses` is an alias:
    https://docs.perplexity.ai/docs/grounded-llm/openai-compatibility
    """

    name = "openai_responses"
    # what a response does has a name of one dot, `response.completed`; what its parts do has more
    dull_event = re.compile(rb"response\.\w+\.[\w.]+")
    finish_ends = False

    def matches(self, request: Request) -> bool:
        path = request.path.rstrip("/")
        retrieved = _RETRIEVED.search(path)
        if retrieved:
            return request.method == ("POST" if retrieved[1] else "GET")
        if request.method != "POST":
            return False
        if path.endswith("/v1/agent"):
            asked = mapping(request.body)
            return "input" in asked and not asked.keys().isdisjoint(("model", "models", "preset"))
        if not path.endswith(("/responses", "/responses/compact")):
            return False
        if isinstance(request.body, dict):
            return any(name in request.body for name in ("model", "input", "prompt", "stream"))
        return _FAMILIAR.search(path) is not None or told_by_path(request)

    def streams(self, request: Request) -> bool:
        return super().streams(request) or request.query.get("stream") == "true"

    def weigh(self, frame: bytes) -> Weight:
        event = _EVENT.match(frame)
        if event:
            return Weight.NOTHING if self.dull_event.fullmatch(event[1]) else Weight.PARSE
        return Weight.PARSE if _TYPE.search(frame) else Weight.NOTHING

    def observe(self, seen: Observation, payload: Any) -> None:
        observe_error(seen, payload)
        if not isinstance(payload, dict):
            return
        kind = payload.get("type")
        response = payload.get("response")
        if isinstance(response, dict):
            observe_response(seen, response, _status_of(kind), whole=False)
        elif not isinstance(kind, str) or "object" in payload:  # an event has a type, a body has an object
            observe_response(seen, payload, None, whole=True)
        observe_copilot(seen, payload)

    def observe_headers(self, seen: Observation, headers: Mapping[str, str]) -> None:
        observe_header(seen, headers)


def observe_response(seen: Observation, response: Json, event_status: str | None, *, whole: bool) -> None:
    """Fold a response object: out of an event that says `event_status`, or a `whole` body of its own."""
    observe_identity(seen, response)
    seen.service_tier = text(response.get("service_tier")) or seen.service_tier
    status = text(response.get("status")) or event_status
    observe_error(seen, response)
    if status == "failed":
        seen.fail("failed", None)
    _observe_status(seen, status, whole=whole)
    if status in TERMINAL:  # Copilot names each event's response anew; the last name is the one that clients go on with
        seen.response_id = text(response.get("id")) or seen.response_id
    usage = mapping(response.get("usage"))
    if usage:
        seen.usage.merge(openai_usage(usage))
        seen.usage_raw = with_siblings(usage, response, "tool_usage")
        seen.usage_final = status not in PENDING
        observe_cost(seen, usage)


def _observe_status(seen: Observation, status: str | None, *, whole: bool) -> None:
    if status is None:  # `/compact`: done, and says nothing of it
        return
    if status in PENDING:
        if whole:  # background mode: asked again later, under the same id
            seen.background = True
            seen.finish_reasons[0] = status
        else:
            seen.finish_reasons.setdefault(0, None)
        return
    seen.background = False
    seen.finish_reasons[0] = status
    seen.terminal = seen.terminal or status in TERMINAL


def _status_of(kind: Any) -> str | None:
    """`completed` of `response.completed`."""
    prefix, _, status = kind.partition(".") if isinstance(kind, str) else ("", "", "")
    return status if prefix == "response" and (status in TERMINAL or status in PENDING) else None
