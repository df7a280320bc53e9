"""Hugging Face's own text generation: the serverless inference API and Text Generation Inference.

https://huggingface.co/docs/text-generation-inference (`/generate`, `/generate_stream`): frames `data:{` without a
space, no `[DONE]`; the last has `generated_text` and, where `details` were asked for, a finish reason and a count.
Headers `x-prompt-tokens` and `x-generated-tokens` tell both counts of a whole answer. Tasks that generate no text
(https://huggingface.co/docs/inference-providers/tasks/feature-extraction) tell none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from usagetap.dialects.base import Dialect, Weight, integer, mapping, observe_error, text, told_by_path
from usagetap.model import Observation, Request, Usage

_PATH = re.compile(r"/models/((?:[\w.-]+/)?[\w.-]+)(/pipeline/[\w-]+)?$|/generate(?:_stream)?$")
_LAST = re.compile(rb'"generated_text"\s*:\s*"|"error"\s*:\s*(?!null)\S')


class TextGeneration(Dialect):
    """`…/models/{model}`, `…/models/{model}/pipeline/{task}`, `…/generate`, `…/generate_stream` with `inputs`."""

    name = "tgi"
    dull_end = b'"generated_text":null,"details":null}'  # every frame but the last

    def matches(self, request: Request) -> bool:
        if request.method != "POST" or not _PATH.search(request.path.rstrip("/")):
            return False
        if told_by_path(request):
            return "huggingface" in request.host  # others have models under such a path, not their answers
        inputs = mapping(request.body).get("inputs")
        return isinstance(inputs, str | dict) or (
            isinstance(inputs, list) and all(isinstance(it, str) for it in inputs)
        )

    def operation(self, request: Request) -> str:
        if request.path.rstrip("/").endswith("/feature-extraction"):
            return "embeddings"
        return "generate_content" if "/pipeline/" in request.path else "text_completion"

    def model(self, request: Request) -> str | None:
        found = _PATH.search(request.path.rstrip("/"))
        return (found[1] if found else None) or request.text("model")

    def streams(self, request: Request) -> bool:
        return super().streams(request) or request.path.rstrip("/").endswith("_stream")

    def weigh(self, frame: bytes) -> Weight:
        if b'"generated_text":null' in frame:  # on every frame but the last; one plain search
            return Weight.NOTHING
        return Weight.PARSE if _LAST.search(frame) else Weight.NOTHING

    def observe(self, seen: Observation, payload: Any) -> None:
        observe_error(seen, payload)
        answer = mapping(payload[0] if isinstance(payload, list) and payload else payload)
        if not isinstance(answer.get("generated_text"), str):
            return
        seen.terminal = True
        details = mapping(answer.get("details"))
        reason = text(details.get("finish_reason"))
        if reason is not None:
            seen.finish_reasons[0] = reason
        generated = integer(details.get("generated_tokens"))
        if generated is not None:
            prefill = details.get("prefill")  # there if `decoder_input_details` were asked for
            went = len(prefill) if isinstance(prefill, list) and prefill else None
            seen.usage.merge(Usage(input_tokens=went, output_tokens=generated))
            seen.usage_raw = {"generated_tokens": generated}
            seen.usage_final = True

    def observe_headers(self, seen: Observation, headers: Mapping[str, str]) -> None:
        told = {name: headers[name] for name in ("x-prompt-tokens", "x-generated-tokens") if name in headers}
        counts = {name: int(value) for name, value in told.items() if value.isascii() and value.isdigit()}
        if counts:
            seen.usage.merge(Usage(counts.get("x-prompt-tokens"), counts.get("x-generated-tokens")))
            seen.usage_raw = counts
