"""Amazon Bedrock's Converse, plain and as an AWS event stream.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html. `inputTokens` leaves the cache
out while `totalTokens` counts it in, so our input is the sum of the three. In a stream `metadata` with the usage
comes after `messageStop`; `eventstream.py` turns each event into an object whose only key is the event's type. The
model is in the path, percent-encoded, an id or an ARN; answers never name it.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar
from urllib.parse import unquote

from usagetap.dialects.base import Dialect, Json, Weight, add, first_integer, integer, mapping, observe_error, text
from usagetap.dialects.cost import observe_cost
from usagetap.model import Observation, Request, Transport, Usage

_PATH = re.compile(r"/model/(.+)/(converse|converse-stream|invoke|invoke-with-response-stream)$")


def bedrock_path(request: Request) -> tuple[str, str] | None:
    """The model (id or ARN, decoded) and the operation that the path of `request` names."""
    found = _PATH.search(request.path.rstrip("/")) if request.method == "POST" else None
    return (unquote(found[1]), found[2]) if found else None


class BedrockConverse(Dialect):
    """`/model/{model}/converse` and `/converse-stream`."""

    name = "bedrock_converse"
    transport_hint: ClassVar[Transport | None] = "eventstream"

    def matches(self, request: Request) -> bool:
        found = bedrock_path(request)
        return found is not None and found[1].startswith("converse")

    def model(self, request: Request) -> str | None:
        found = bedrock_path(request)
        return found[0] if found else None

    def streams(self, request: Request) -> bool:
        found = bedrock_path(request)
        return found is not None and found[1].endswith("stream")

    def weigh(self, frame: bytes) -> Weight:
        return Weight.NOTHING if frame.startswith((b'{"contentBlock', b'{"messageStart')) else Weight.PARSE

    def observe(self, seen: Observation, payload: Any) -> None:
        if not observe_exception(seen, payload):
            observe_converse(seen, mapping(payload))


def observe_exception(seen: Observation, payload: Any) -> bool:
    """Note an exception that came as a message of the event stream, or any other error; true if there was one."""
    if isinstance(payload, dict) and isinstance(payload.get("exception"), dict):
        told = payload["exception"]
        message = text(told.get("message")) or text(told.get("Message")) or text(told.get("originalMessage"))
        seen.fail(text(payload.get("type")), message and message[:500])
        return True
    return observe_error(seen, payload)


def observe_converse(seen: Observation, payload: Json) -> None:
    """Fold one Converse answer, or one event of a stream: also what Nova says through InvokeModel."""
    stop = payload.get("messageStop")
    reason = text(mapping(stop).get("stopReason")) or text(payload.get("stopReason"))
    if reason is not None:
        seen.finish_reasons[0] = reason[:100]
    usage = mapping(mapping(payload.get("metadata")).get("usage")) or mapping(payload.get("usage"))
    if usage:
        seen.usage.merge(converse_usage(usage))
        seen.usage_raw = usage
        seen.usage_final = True
        tier = mapping(payload.get("serviceTier")) or mapping(mapping(payload.get("metadata")).get("serviceTier"))
        seen.service_tier = text(tier.get("type")) or seen.service_tier
        observe_cost(seen, usage)
    seen.terminal = seen.terminal or (seen.usage_final and seen.finished)


def converse_usage(usage: Json) -> Usage:
    """`TokenUsage` in our words."""
    read = first_integer(usage, "cacheReadInputTokens", "cacheReadInputTokenCount")
    written = first_integer(usage, "cacheWriteInputTokens", "cacheWriteInputTokenCount")
    fresh = integer(usage.get("inputTokens"))
    return Usage(
        input_tokens=None if fresh is None else add(fresh, read, written),
        output_tokens=integer(usage.get("outputTokens")),
        total_tokens=integer(usage.get("totalTokens")),
        cache_read_input_tokens=read,
        cache_write_input_tokens=written,
        cache_write_5m_input_tokens=_written_for(usage, "5m"),
        cache_write_1h_input_tokens=_written_for(usage, "1h"),
    )


def _written_for(usage: Json, ttl: str) -> int | None:
    """What was written to the cache for `ttl` (`cacheDetails: [{"ttl": "5m", "inputTokens": 3}]`)."""
    found = usage.get("cacheDetails")
    parts = [mapping(part) for part in found] if isinstance(found, list) else []
    return add(*(integer(part.get("inputTokens")) for part in parts if part.get("ttl") == ttl))
