"""Amazon Bedrock's InvokeModel: each vendor's own body, plain or carried by an AWS event stream.

https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html. Claude and Nova speak as in their own
APIs, gpt-oss, DeepSeek, Qwen, Jamba as OpenAI's chat, Titan and Llama have words of their own; Cohere, Mistral, J2
and some embeddings say nothing of tokens. For these Bedrock itself counts: in the headers
`x-amzn-bedrock-{input,output}-token-count` of a plain answer, in `amazon-bedrock-invocationMetrics` on the last event
of a stream. Where both speak, the vendor's body is believed: the metrics' output leaves thinking and tool calls of
Claude out (97 against 133 in one recording).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from usagetap.dialects.anthropic import Anthropic
from usagetap.dialects.base import Json, Weight, add, integer, mapping, observe_identity, text
from usagetap.dialects.bedrock_converse import BedrockConverse, bedrock_path, observe_converse, observe_exception
from usagetap.dialects.openai_chat import OpenAIChat
from usagetap.model import Observation, Request, Usage

_METRICS = "amazon-bedrock-invocationMetrics"
_HEADER = "x-amzn-bedrock-"
_HEADER_NAMES = {
    f"{_HEADER}input-token-count": "inputTokenCount",
    f"{_HEADER}output-token-count": "outputTokenCount",
    f"{_HEADER}cache-read-input-token-count": "cacheReadInputTokenCount",
    f"{_HEADER}cache-write-input-token-count": "cacheWriteInputTokenCount",
}
# frames that carry text only: Claude, Nova, Cohere, Mistral, Llama behind its first frames
_DULL = re.compile(
    rb'^\{"type":"(?:content_block|ping)|^\{"contentBlock|"is_finished":false|"stop_reason":null|"finish_reason":null'
)
# what such a frame may tell besides: a vendor's `stop_reason` may be null where its `finish_reason` is not (vLLM)
_TELLS = re.compile(
    rb'"(?:amazon-bedrock-|message_(?:start|delta|stop)"|usage"\s*:\s*\{|prompt_token_count"\s*:\s*\d|error"\s*:\s*(?!null)\S'
    rb'|(?:finish|stop)_reason"\s*:\s*")'
)
_ANTHROPIC_TYPES = frozenset({"message", "message_start", "message_delta", "message_stop", "completion"})
_anthropic, _openai = Anthropic(), OpenAIChat()


class BedrockInvoke(BedrockConverse):
    """`/model/{model}/invoke` and `/invoke-with-response-stream`."""

    name = "bedrock_invoke"

    def matches(self, request: Request) -> bool:
        found = bedrock_path(request)
        return found is not None and found[1].startswith("invoke")

    def operation(self, request: Request) -> str:
        body = mapping(request.body)
        if "messages" in body:
            return "chat"
        embeds = body.keys() & {"inputText", "input_type", "inputImage", "taskType", "texts"}
        if embeds and "textGenerationConfig" not in body and "embed" in (self.model(request) or ""):
            return "embeddings"
        return "text_completion"

    def weigh(self, frame: bytes) -> Weight:
        return Weight.NOTHING if _DULL.search(frame) and not _TELLS.search(frame) else Weight.PARSE

    def observe_headers(self, seen: Observation, headers: Mapping[str, str]) -> None:
        told = {name: int(headers[name]) for name in _HEADER_NAMES if headers.get(name, "").isdecimal()}
        if told:
            seen.usage = _counted({_HEADER_NAMES[name]: count for name, count in told.items()})
            seen.usage_raw = told

    def observe(self, seen: Observation, payload: Any) -> None:
        if observe_exception(seen, payload) or not isinstance(payload, dict):
            return
        headers = seen.usage_raw if _of_headers(seen.usage_raw) else None
        before = seen.usage
        if headers:
            seen.usage, seen.usage_raw = Usage(), None
        _observe_body(seen, payload)
        metrics = mapping(payload.get(_METRICS))
        _fill(seen.usage, _counted(metrics))
        _fill(seen.usage, before)
        if metrics:
            seen.usage_raw = {**mapping(seen.usage_raw), _METRICS: metrics}
            seen.usage_final = seen.terminal = True
        if seen.usage_raw is None:
            seen.usage_raw = headers


def _observe_body(seen: Observation, payload: Json) -> None:
    """Fold one payload in whatever vendor's words it is."""
    if text(payload.get("type")) in _ANTHROPIC_TYPES or "completion" in payload:
        _anthropic.observe(seen, payload)
    elif payload.keys() & {"messageStop", "metadata", "output", "stopReason"}:
        observe_converse(seen, payload)
    elif isinstance(payload.get("choices"), list):
        _openai.observe(seen, payload)
    elif payload.keys() & {"inputTextTokenCount", "totalOutputTextTokenCount", "results"}:
        _observe_titan(seen, payload)
    elif payload.keys() & {"prompt_token_count", "generation_token_count"}:
        _observe_llama(seen, payload)
    else:
        _observe_other(seen, payload)


def _observe_titan(seen: Observation, payload: Json) -> None:
    """Counts may be floats; in a stream the input is on the first event, the output on the last."""
    results = payload.get("results")
    parts = [mapping(result) for result in results] if isinstance(results, list) else []
    out = add(*(integer(part.get("tokenCount")) for part in parts))
    raw: Json = {
        name: payload[name] for name in ("inputTextTokenCount", "totalOutputTextTokenCount") if name in payload
    }
    if out is not None:
        raw["results"] = [{"tokenCount": part.get("tokenCount")} for part in parts]
    told = Usage(
        input_tokens=integer(payload.get("inputTextTokenCount")),
        output_tokens=integer(payload.get("totalOutputTextTokenCount")) if out is None else out,
    )
    _take(seen, told, raw)
    for position, part in enumerate(parts or [payload]):
        _finish(seen, position, part.get("completionReason"))


def _observe_llama(seen: Observation, payload: Json) -> None:
    """Every event of a stream counts its output so far; the input is on the first, null afterwards."""
    told = Usage(
        input_tokens=integer(payload.get("prompt_token_count")),
        output_tokens=integer(payload.get("generation_token_count")),
    )
    _take(seen, told, {name: payload.get(name) for name in ("prompt_token_count", "generation_token_count")})
    _finish(seen, 0, payload.get("stop_reason"))


def _observe_other(seen: Observation, payload: Json) -> None:
    """Cohere, Mistral, J2, embeddings: how it ended, no tokens."""
    observe_identity(seen, payload, response_id="generation_id")
    answers = payload.get("outputs") or payload.get("generations") or payload.get("completions")
    for position, answer in enumerate(answers if isinstance(answers, list) else [payload]):
        part = mapping(answer)
        reason = part.get("finish_reason") or part.get("stop_reason") or mapping(part.get("finishReason")).get("reason")
        _finish(seen, position, reason)


def _take(seen: Observation, told: Usage, raw: Json) -> None:
    seen.usage.merge(told)
    if told.known:
        seen.usage_raw = {
            **mapping(seen.usage_raw),
            **{name: value for name, value in raw.items() if value is not None},
        }


def _finish(seen: Observation, position: int, reason: Any) -> None:
    word = text(reason)
    if word is not None:
        seen.finish_reasons[position] = word[:100]


def _counted(metrics: Json) -> Usage:
    """Bedrock's own counts in our words."""
    read = integer(metrics.get("cacheReadInputTokenCount"))
    written = integer(metrics.get("cacheWriteInputTokenCount"))
    fresh = integer(metrics.get("inputTokenCount"))
    return Usage(
        input_tokens=None if fresh is None else add(fresh, read, written),
        output_tokens=integer(metrics.get("outputTokenCount")),
        cache_read_input_tokens=read,
        cache_write_input_tokens=written,
    )


def _fill(usage: Usage, counted: Usage) -> None:
    """Take from Bedrock's count what the vendor did not say; the cache goes with the input that it is part of."""
    if usage.input_tokens is None:
        usage.input_tokens = counted.input_tokens
        usage.cache_read_input_tokens = counted.cache_read_input_tokens
        usage.cache_write_input_tokens = counted.cache_write_input_tokens
    if usage.output_tokens is None:
        usage.output_tokens = counted.output_tokens


def _of_headers(raw: Any) -> bool:
    return isinstance(raw, dict) and any(name in raw for name in _HEADER_NAMES)
