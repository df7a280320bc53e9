"""llama.cpp's own `/completion`, and `/infill`, which answers alike.

https://github.com/ggml-org/llama.cpp/tree/master/tools/server#post-completion, …#post-infill: `tokens_evaluated` is the
whole prompt, `tokens_cached` counts what the cache holds afterwards and is no part of it; what was reused is
`timings.cache_n`.
"""

from __future__ import annotations

import re
from typing import Any

from usagetap.dialects.base import Dialect, Weight, integer, mapping, observe_error, text
from usagetap.model import Observation, Request, Usage

_TELLS = re.compile(rb'"stop"\s*:\s*true|"error"\s*:\s*(?!null)\S|^error:', re.MULTILINE)


class LlamaCpp(Dialect):
    """`/completion` with a prompt, `/infill` with what stands around the gap."""

    name = "llamacpp"
    finish_ends = False

    def matches(self, request: Request) -> bool:
        if request.method != "POST" or not isinstance(request.body, dict):
            return False
        path = request.path.rstrip("/")
        if path.endswith("/infill"):
            return not {"input_prefix", "input_suffix"}.isdisjoint(request.body)
        return path.endswith("/completion") and "prompt" in request.body

    def operation(self, request: Request) -> str:
        return "text_completion"

    def weigh(self, frame: bytes) -> Weight:
        return Weight.PARSE if _TELLS.search(frame) else Weight.NOTHING

    def observe(self, seen: Observation, payload: Any) -> None:
        observe_error(seen, payload)
        answer = mapping(payload)
        if answer.get("stop") is not True:
            return
        seen.terminal = True
        seen.response_model = text(answer.get("model")) or seen.response_model
        seen.finish_reasons[0] = text(answer.get("stop_type")) or "stop"
        counted = {name: answer[name] for name in ("tokens_evaluated", "tokens_predicted", "timings") if name in answer}
        told = Usage(
            input_tokens=integer(answer.get("tokens_evaluated")),
            output_tokens=integer(answer.get("tokens_predicted")),
            cache_read_input_tokens=integer(mapping(answer.get("timings")).get("cache_n")),
        )
        if told.known:
            seen.usage.merge(told)
            seen.usage_raw, seen.usage_final = counted, True
