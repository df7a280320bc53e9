"""OpenAI Assistants: runs of a thread, streamed or polled.

https://platform.openai.com/docs/api-reference/runs: a run's usage is null until its terminal state, its steps have
usage of their own that the run's includes. Events carry the object itself, so it is told by its `object`; a stream also
ends when the run waits for tool outputs (`requires_action`), and the run goes on with the next request.
"""

from __future__ import annotations

import re
from typing import Any

from usagetap.dialects.base import Dialect, Weight, mapping, observe_error, observe_identity, text
from usagetap.dialects.openai_usage import openai_usage
from usagetap.model import Observation, Request

_PATH = re.compile(r"/threads/(?:runs|[\w-]+/runs(?:/[\w-]+(?:/(?:submit_tool_outputs|cancel))?)?)$")
_POLLED = re.compile(r"/runs/[\w-]+$")
_RUN = re.compile(rb'"object"\s*:\s*"thread\.run"|^event: ?error|"error"\s*:\s*(?!null)\S', re.MULTILINE)
_PENDING = frozenset({"queued", "in_progress", "cancelling"})


class OpenAIAssistants(Dialect):
    """`…/threads/{id}/runs` and what belongs to a run."""

    name = "openai_assistants"
    dull_event = re.compile(rb"thread\.message\.delta|thread\.run\.step\.delta")
    finish_ends = False

    def matches(self, request: Request) -> bool:
        path = request.path.rstrip("/")
        if not _PATH.search(path):
            return False
        return request.method == "POST" or (request.method == "GET" and _POLLED.search(path) is not None)

    def operation(self, request: Request) -> str:
        return "invoke_agent"

    def weigh(self, frame: bytes) -> Weight:
        return Weight.PARSE if _RUN.search(frame) else Weight.NOTHING

    def observe(self, seen: Observation, payload: Any) -> None:
        observe_error(seen, payload)
        run = mapping(payload)
        if run.get("object") != "thread.run":
            return
        observe_identity(seen, run)
        status = text(run.get("status"))
        seen.background = status in _PENDING
        if status is not None:
            seen.finish_reasons[0] = status
        error = mapping(run.get("last_error"))
        if error or status == "failed":
            seen.fail(text(error.get("code")) or "failed", text(error.get("message")))
        usage = mapping(run.get("usage"))
        if usage:
            seen.usage.merge(openai_usage(usage))
            seen.usage_raw, seen.usage_final = usage, status not in _PENDING
