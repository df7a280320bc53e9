"""Ollama's own API: NDJSON, also under `application/json`, streamed unless the client says `"stream": false`.

https://github.com/ollama/ollama/blob/main/docs/api.md. The last object has `done: true` and the counts; thinking is
inside `eval_count`; `prompt_eval_count` is left out where the whole prompt was cached. An error is a line of its own,
`{"error": "…"}`, under the 200 that had begun (https://docs.ollama.com/api/errors).
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from usagetap.dialects.base import Dialect, Weight, integer, observe_error, observe_identity, text, told_by_path
from usagetap.model import Observation, Request, Transport, Usage

_TELLS = re.compile(rb'"done"\s*:\s*true|"error"')
_OPERATIONS = {
    "/api/chat": "chat",
    "/api/generate": "text_completion",
    "/api/embed": "embeddings",
    "/api/embeddings": "embeddings",
}
_COUNTS = re.compile(r"(?:prompt_)?eval_(?:count|duration)|(?:total|load)_duration")


class Ollama(Dialect):
    """`/api/chat`, `/api/generate`, `/api/embed`, under any prefix."""

    name = "ollama"
    transport_hint: ClassVar[Transport | None] = "ndjson"

    def matches(self, request: Request) -> bool:
        # web apps of all kinds have an /api/chat, few of them take a model
        shaped = request.text("model") is not None or told_by_path(request)
        return request.method == "POST" and shaped and _end(request.path) is not None

    def operation(self, request: Request) -> str:
        return _OPERATIONS[_end(request.path) or "/api/chat"]

    def streams(self, request: Request) -> bool:
        said = request.body.get("stream") if isinstance(request.body, dict) else None
        return said is not False and self.operation(request) != "embeddings"

    def weigh(self, frame: bytes) -> Weight:
        return Weight.PARSE if _TELLS.search(frame) else Weight.NOTHING

    def observe(self, seen: Observation, payload: Any) -> None:
        if observe_error(seen, payload) or not isinstance(payload, dict):
            return
        observe_identity(seen, payload)
        done = payload.get("done")
        if done is not None:
            seen.finish_reasons.setdefault(0, None)
        if done is True:
            seen.finish_reasons[0] = text(payload.get("done_reason")) or seen.finish_reasons[0]
            seen.terminal = True
        raw = {name: value for name, value in payload.items() if _COUNTS.fullmatch(name)}
        if raw:
            seen.usage.merge(
                Usage(
                    input_tokens=integer(payload.get("prompt_eval_count")),
                    output_tokens=integer(payload.get("eval_count")),
                )
            )
            seen.usage_raw = raw
            seen.usage_final = True


def _end(path: str) -> str | None:
    path = path.rstrip("/")
    return next((end for end in _OPERATIONS if path.endswith(end)), None)
