"""Gemini's Interactions API: SSE and JSON, also read back by id.

https://ai.google.dev/api/interactions-api. Usage stands in the interaction itself, with names of its own; thinking
and the prompts of server-side tools are beside input and output, as in `generateContent`. A stream ends with `event:
done`, `data: [DONE]`; the end of a step and a change of status may tell the usage so far, and the events of an
interaction leave out what they please (google-genai 3.4, `types/interactions/stepstop.py` and
`interactionstatusupdate.py`; the JavaScript client has it in `metadata`). With `background: true` the first answer says
`in_progress` and `GET /interactions/{id}` tells the rest.
"""

from __future__ import annotations

import re
from typing import Any

from usagetap.dialects.base import Dialect, Json, Weight, add, integer, mapping, observe_error, observe_identity, text
from usagetap.dialects.cost import observe_cost
from usagetap.model import Observation, Request, Usage

_PATH = re.compile(r"/v1(?:alpha|beta)?\d*/(?:projects/.+/)?interactions(/[^/]+)?$")
_TELLS = re.compile(rb'"(?:interaction|usage)"\s*:\s*\{|"error"\s*:\s*(?!null)\S')
_UNFINISHED = frozenset({"in_progress", "queued"})


class GeminiInteractions(Dialect):
    """`POST …/interactions`, `GET …/interactions/{id}`."""

    name = "gemini_interactions"
    dull_event = re.compile(rb"(?:step|content)\.(?:start|delta)|content\.stop")

    def matches(self, request: Request) -> bool:
        found = _PATH.search(request.path.rstrip("/"))
        if found is None:
            return False
        if found[1]:
            return request.method == "GET"
        shaped = not isinstance(request.body, dict) or "input" in request.body
        return request.method == "POST" and shaped

    def operation(self, request: Request) -> str:
        return "generate_content"

    def model(self, request: Request) -> str | None:
        return request.text("model") or request.text("agent")

    def streams(self, request: Request) -> bool:
        return super().streams(request) or request.query.get("stream") == "true"

    def weigh(self, frame: bytes) -> Weight:
        return Weight.PARSE if _TELLS.search(frame) else Weight.NOTHING

    def observe(self, seen: Observation, payload: Any) -> None:
        if observe_error(seen, payload) or not isinstance(payload, dict):
            return
        inner = payload.get("interaction")
        if isinstance(inner, dict):
            _observe_interaction(seen, inner)
            seen.terminal = seen.terminal or payload.get("event_type") == "interaction.completed"
        elif payload.get("event_type") in ("step.stop", "interaction.status_update"):
            _observe_usage(
                seen, mapping(payload.get("usage")) or mapping(mapping(payload.get("metadata")).get("usage"))
            )
        elif "status" in payload and "event_type" not in payload:
            _observe_interaction(seen, payload)
            seen.background = text(payload["status"]) in _UNFINISHED


def _observe_interaction(seen: Observation, interaction: Json) -> None:
    observe_identity(seen, interaction)
    seen.service_tier = text(interaction.get("service_tier")) or seen.service_tier
    status = text(interaction.get("status"))
    if status is not None and status not in _UNFINISHED:
        seen.finish_reasons[0] = status[:100]
    if status == "failed":
        seen.fail("failed", None)
    usage = mapping(interaction.get("usage"))
    _observe_usage(seen, usage)
    seen.usage_final = seen.usage_final or bool(usage)


def _observe_usage(seen: Observation, usage: Json) -> None:
    """The later object replaces the earlier one."""
    if usage:
        seen.usage = interactions_usage(usage)
        seen.usage_raw = usage
        observe_cost(seen, usage)


def interactions_usage(usage: Json) -> Usage:
    """The usage of an interaction in our words."""
    thoughts = integer(usage.get("total_thought_tokens"))
    into, out = usage.get("input_tokens_by_modality"), usage.get("output_tokens_by_modality")
    return Usage(
        input_tokens=integer(usage.get("total_input_tokens")),
        output_tokens=add(integer(usage.get("total_output_tokens")), thoughts),
        total_tokens=integer(usage.get("total_tokens")),
        cache_read_input_tokens=integer(usage.get("total_cached_tokens")),
        reasoning_output_tokens=thoughts,
        audio_input_tokens=_of_modality(into, "audio"),
        audio_output_tokens=_of_modality(out, "audio"),
        image_input_tokens=_of_modality(into, "image"),
        image_output_tokens=_of_modality(out, "image"),
        tool_use_input_tokens=integer(usage.get("total_tool_use_tokens")),
    )


def _of_modality(parts: Any, modality: str) -> int | None:
    if not isinstance(parts, list):
        return None
    found = [mapping(part) for part in parts]
    return add(*(integer(part.get("tokens")) for part in found if part.get("modality") == modality))
