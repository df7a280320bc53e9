"""Replicate predictions: made, waited for or polled under one id.

https://replicate.com/docs/reference/http#predictions.create. Language models tell tokens in `metrics`, others only how
long they ran; `error` is null or a sentence.
"""

from __future__ import annotations

import re
from typing import Any

from usagetap.dialects.base import Dialect, Weight, finish_reason, integer, mapping, observe_identity, text
from usagetap.model import Observation, Request, Usage

_PATH = re.compile(r"/v1/(?:(?:models|deployments)/([\w.-]+/[\w.-]+)/)?predictions(/[a-z0-9]{16,32})?$")
_PENDING = frozenset({"starting", "processing"})


class Replicate(Dialect):
    """`/v1/predictions`, `/v1/models/{owner}/{name}/predictions`, `/v1/predictions/{id}`."""

    name = "replicate"
    finish_ends = False

    def matches(self, request: Request) -> bool:
        found = _PATH.search(request.path.rstrip("/"))
        if not found:
            return False
        if found[2]:
            return request.method == "GET"
        return request.method == "POST" and (not isinstance(request.body, dict) or "input" in request.body)

    def operation(self, request: Request) -> str:
        return "generate_content"

    def model(self, request: Request) -> str | None:
        found = _PATH.search(request.path.rstrip("/"))
        return (found[1] if found else None) or request.text("version")

    def streams(self, request: Request) -> bool:
        return False  # `stream` asks for a URL, under which the output then comes without any usage

    def weigh(self, frame: bytes) -> Weight:
        return Weight.PARSE

    def observe(self, seen: Observation, payload: Any) -> None:
        prediction = mapping(payload)
        status = finish_reason(prediction.get("status"))  # of a refusal (problem+json) it is HTTP's number
        if status is None:
            return
        observe_identity(seen, prediction)
        seen.finish_reasons[0] = status
        seen.background = status in _PENDING
        if status == "failed":
            seen.fail("failed", text(prediction.get("error")))
        metrics = mapping(prediction.get("metrics"))
        told = Usage(integer(metrics.get("input_token_count")), integer(metrics.get("output_token_count")))
        if told.known:
            seen.usage.merge(told)
            seen.usage_raw = metrics
