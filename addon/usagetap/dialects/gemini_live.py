"""Gemini Live: the messages of one turn on a WebSocket (which message belongs to which turn: `turns.py`).

https://ai.google.dev/api/live#BidiGenerateContentServerMessage. What comes out is `responseTokenCount` on AI Studio and
`candidatesTokenCount` on Vertex; thoughts are in neither, nor in `totalTokenCount` (5 recorded turns of 5), so they are
added to the output and the total stays the provider's. The last usage object replaces the ones before.
"""

from __future__ import annotations

from typing import Any

from usagetap.dialects.base import Dialect, Json, mapping, observe_error, text
from usagetap.dialects.gemini import gemini_usage
from usagetap.model import Observation, Request, Usage

LIVE_PATHS = ("BidiGenerateContent", "BidiGenerateContentConstrained")
"""The latter with an ephemeral token: https://ai.google.dev/gemini-api/docs/ephemeral-tokens"""


class GeminiLive(Dialect):
    """`…BidiGenerateContent`, `…BidiGenerateContentConstrained`."""

    name = "gemini_live"
    finish_ends = False

    def matches(self, request: Request) -> bool:
        return request.path.rstrip("/").endswith(LIVE_PATHS)

    def operation(self, request: Request) -> str:
        return "generate_content"

    def model(self, request: Request) -> str | None:
        return None  # the `setup` message names it

    def streams(self, request: Request) -> bool:
        return True

    def observe(self, seen: Observation, payload: Any) -> None:
        observe_error(seen, payload)
        message = mapping(payload)
        content = mapping(message.get("serverContent"))
        if content.get("interrupted") is True:
            seen.finish_reasons[0] = "interrupted"
        reason = text(content.get("turnCompleteReason"))
        if reason is not None:
            seen.finish_reasons[0] = reason
        if content.get("turnComplete") is True:
            seen.terminal = True
        usage = mapping(message.get("usageMetadata"))
        if usage:
            seen.usage, seen.usage_raw = live_usage(usage), usage
            seen.usage_final = seen.terminal


def live_usage(usage: Json) -> Usage:
    """A turn's `usageMetadata` by our rules: Gemini's, but for the other names of what comes out."""
    return gemini_usage(
        usage
        | {
            "candidatesTokenCount": usage.get("responseTokenCount", usage.get("candidatesTokenCount")),
            "candidatesTokensDetails": usage.get("responseTokensDetails", usage.get("candidatesTokensDetails")),
        }
    )
