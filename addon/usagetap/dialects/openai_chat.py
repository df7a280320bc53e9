"""OpenAI Chat Completions, and everything that calls itself compatible.

https://platform.openai.com/docs/api-reference/chat-streaming. Where usage is found, all recorded: on a last frame with
`choices: []` (OpenAI), on the finish frame (Mistral, DeepSeek), after it with choices (OpenRouter), before it
(Perplexity), on every frame (Databricks, NIM, Hyperbolic: cumulative), inside `choices[0]` (Moonshot), in `x_groq`
(Groq).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from usagetap.dialects.base import (
    Dialect,
    Json,
    Weight,
    finish_reason,
    integer,
    mapping,
    model_in_path,
    observe_error,
    observe_identity,
    raw_predict,
    text,
)
from usagetap.dialects.cost import observe_copilot, observe_cost, observe_header
from usagetap.dialects.openai_usage import openai_usage
from usagetap.model import Observation, Request

# Unescaped quotes cannot stand inside a JSON string, so neither pattern can be met in what a model says.
_NULL = re.compile(rb"\s*:\s*null")
_OBJECT = re.compile(rb'\s*:\s*\{\s*"')  # an empty one tells nothing, and must not replace one that does
_SNOWFLAKE = re.compile(r"/cortex/inference[:/]complete/?$")


class OpenAIChat(Dialect):
    """`…/chat/completions`; with `messages` also `…/completions`, `…/invocations`, and Writer's `…/v1/chat`."""

    name = "openai_chat"
    takes_include_usage = True

    def matches(self, request: Request) -> bool:
        if request.method != "POST":
            return False
        path = request.path.rstrip("/")
        if path.endswith("/chat/completions"):
            return True
        has_messages = isinstance(request.body, dict) and "messages" in request.body
        if path.endswith("/v1/chat"):  # Writer's path, there also with a body that is no JSON; Cohere's has `message`
            return has_messages or request.host.endswith("writer.com")
        # Mistral's agents and gateways' own prefixes; what is served on Databricks and SageMaker
        return has_messages and path.endswith(("/completions", "/invocations"))

    def model(self, request: Request) -> str | None:
        return request.text("model") or model_in_path(request.path)

    def weigh(self, frame: bytes) -> Weight:
        # four plain searches: alternatives in one expression cost ten times as much
        if _says(frame, b'finish_reason"') or _says(frame, b'"error"') or frame.startswith(b"error:"):
            return Weight.PARSE
        found = frame.find(b'usage"')
        if found < 0:
            return Weight.NOTHING
        if b'"copilot_usage"' in frame:
            return Weight.PARSE
        return Weight.LATEST if _has_usage(frame, found) else Weight.NOTHING

    def observe(self, seen: Observation, payload: Any) -> None:
        observe_error(seen, payload)
        if not isinstance(payload, dict):
            return
        observe_error(seen, payload.get("x_groq"))  # why Groq stopped early
        observe_identity(seen, payload)
        seen.service_tier = text(payload.get("service_tier")) or seen.service_tier
        choices = payload.get("choices")
        choices = choices if isinstance(choices, list) else []
        for position, choice in enumerate(choices):
            _observe_choice(seen, position, choice)
        usage = _usage_of(payload, choices)
        if usage:
            seen.usage.merge(openai_usage(usage))
            seen.usage_raw = usage
            seen.usage_final = seen.finished or not choices
            observe_cost(seen, usage)
            seen.service_tier = text(usage.get("service_tier")) or seen.service_tier
            # llama.cpp's server tells what its cache held beside usage: prompt_n + cache_n = prompt_tokens
            # (https://github.com/ggml-org/llama.cpp/tree/master/tools/server#timings-and-context-usage)
            if seen.usage.cache_read_input_tokens is None:
                seen.usage.cache_read_input_tokens = integer(mapping(payload.get("timings")).get("cache_n"))
        observe_copilot(seen, payload)

    def observe_headers(self, seen: Observation, headers: Mapping[str, str]) -> None:
        observe_header(seen, headers)


class StrictChat(OpenAIChat):
    """The same where no other fields are known: behind Vertex's `rawPredict` (Mistral, AI21), Snowflake's `complete`.

    https://docs.snowflake.com/developer-guide/snowflake-rest-api/reference/cortex-inference
    """

    takes_include_usage = False

    def matches(self, request: Request) -> bool:
        shaped = isinstance(request.body, dict) and not {"messages", "prompt"}.isdisjoint(request.body)
        if request.method != "POST" or not shaped:
            return False
        return raw_predict(request.path) is not None or _SNOWFLAKE.search(request.path) is not None

    def operation(self, request: Request) -> str:
        return "chat" if "messages" in mapping(request.body) else "text_completion"

    def model(self, request: Request) -> str | None:
        return request.text("model") or raw_predict(request.path)

    def streams(self, request: Request) -> bool:
        return super().streams(request) or request.path.endswith(":streamRawPredict")


class OpenAICompletions(OpenAIChat):
    """Legacy `…/completions`, with `prompt` also `…/invocations`: the same frames, `text` where chat has `delta`."""

    name = "openai_completions"

    def matches(self, request: Request) -> bool:
        path = request.path.rstrip("/")
        if request.method != "POST" or not path.endswith(("/completions", "/invocations")):
            return False
        # https://docs.databricks.com/machine-learning/foundation-models/api-reference
        if path.endswith("/invocations"):
            return isinstance(request.body, dict) and "prompt" in request.body and "messages" not in request.body
        return not (isinstance(request.body, dict) and "messages" in request.body)

    def operation(self, request: Request) -> str:
        return "text_completion"

    def model(self, request: Request) -> str | None:
        engine = re.search(r"/engines/([^/]+)/completions$", request.path)  # Copilot's inline completions
        return super().model(request) or (engine[1] if engine else None)


def _says(frame: bytes, key: bytes) -> bool:
    """Whether `key` stands anywhere in the frame with another value than null."""
    at = frame.find(key)
    while at >= 0:
        at += len(key)
        if not _NULL.match(frame, at):
            return True
        at = frame.find(key, at)
    return False


def _has_usage(frame: bytes, at: int) -> bool:
    """Whether a `usage` from `at` on is an object."""
    while at >= 0:
        if _OBJECT.match(frame, at + 6):
            return True
        at = frame.find(b'usage"', at + 6)
    return False


def _observe_choice(seen: Observation, position: int, choice: Any) -> None:
    if not isinstance(choice, dict):
        return
    if not observe_error(seen, choice) and choice.get("finish_reason") == "error":  # OpenRouter, Mistral
        seen.fail("error", None)
    index = choice.get("index")
    index = index if isinstance(index, int) and 0 <= index < 1024 else position
    reason = finish_reason(choice.get("finish_reason"))
    if reason is not None:
        seen.finish_reasons[index] = reason
    else:
        seen.finish_reasons.setdefault(index, None)


def _usage_of(payload: Json, choices: list[Any]) -> Json:
    """The usage object of one payload, counted once wherever it stands (Groq sends the same one twice)."""
    for usage in (
        payload.get("usage"),
        mapping(payload.get("x_groq")).get("usage"),
        *(mapping(choice).get("usage") for choice in choices[:1]),
    ):
        if isinstance(usage, dict) and usage:
            return usage
    return {}
