"""OpenAI Realtime: the events of one response on a WebSocket (which event belongs to which: `turns.py`).

https://platform.openai.com/docs/api-reference/realtime-server-events. Azure and Voice Live speak the same; xAI leaves
`response.usage` empty and puts usage beside `response` (recorded). Transcription of what the user said is another
model's work with usage of its own, in tokens or in seconds.
"""

from __future__ import annotations

from typing import Any

from usagetap.dialects.base import Dialect, mapping, observe_error, text
from usagetap.dialects.cost import observe_cost
from usagetap.dialects.openai_plain import observe_plain_usage
from usagetap.dialects.openai_usage import openai_usage
from usagetap.model import Observation, Request

TRANSCRIBED = "conversation.item.input_audio_transcription.completed"


class OpenAIRealtime(Dialect):
    """`…/realtime`: one `response.created` and one `response.done` a turn, and transcriptions."""

    name = "openai_realtime"
    finish_ends = False

    def matches(self, request: Request) -> bool:
        return request.method == "GET" and request.path.rstrip("/").endswith("/realtime")

    def model(self, request: Request) -> str | None:
        return request.query.get("model") or request.query.get("deployment")  # Azure's preview says `deployment`

    def streams(self, request: Request) -> bool:
        return True

    def observe(self, seen: Observation, payload: Any) -> None:
        observe_error(seen, payload)
        event = mapping(payload)
        if event.get("type") == TRANSCRIBED:
            _observe_transcription(seen, event)
            return
        response = event.get("response")
        if not isinstance(response, dict):
            return
        seen.response_id = seen.response_id or text(response.get("id"))
        seen.response_model = seen.response_model or text(response.get("model"))
        status = text(response.get("status"))
        if event.get("type") == "response.done":
            seen.finish_reasons[0] = status
            seen.terminal = True
        else:
            seen.finish_reasons.setdefault(0, None)
        if status == "failed":
            error = mapping(mapping(response.get("status_details")).get("error"))
            seen.fail(text(error.get("code")) or text(error.get("type")) or "failed", text(error.get("message")))
        usage = mapping(response.get("usage")) or mapping(event.get("usage"))
        if usage:
            seen.usage.merge(openai_usage(usage))
            seen.usage_raw, seen.usage_final = usage, seen.terminal
            observe_cost(seen, usage)


def _observe_transcription(seen: Observation, event: dict[str, Any]) -> None:
    seen.response_id = text(event.get("item_id"))
    seen.terminal = True
    usage = mapping(event.get("usage"))
    if usage:
        observe_plain_usage(seen, usage)
        seen.usage_final = True
