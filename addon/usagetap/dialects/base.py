"""What a dialect is, and what dialects share.

A dialect is one wire format: a stateless fold from payloads into an `Observation`. It never sees bytes on their way,
HTTP objects, or a clock. `observe` is total: any JSON in any order, any number of times, and it never raises.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, ClassVar

from usagetap.model import Observation, Request, Transport
from usagetap.providers import serves_models

Json = dict[str, Any]


class Weight(Enum):
    """What a frame's bytes say about its worth, before anything is parsed."""

    NOTHING = 0
    """It cannot change the observation."""
    LATEST = 1
    """Only its usage can matter, and a later such frame replaces it: hold the bytes, parse the last one."""
    PARSE = 2
    """It may matter: parse it now."""


class Dialect:
    """One wire format. Subclasses set the attributes, `matches` and `observe`; one instance serves every flow."""

    name: ClassVar[str]
    """The column `dialect`."""
    takes_include_usage: ClassVar[bool] = False
    """Whether `stream_options.include_usage` belongs into its requests."""
    dull_event: ClassVar[re.Pattern[bytes] | None] = None
    """SSE event names whose payload never tells anything, whatever is in it."""
    dull_end: ClassVar[bytes | None] = None
    """How a payload ends that never tells anything, whatever else is in it."""
    transport_hint: ClassVar[Transport | None] = None
    """The framing of a stream whose Content-Type and first bytes leave it open (Ollama's NDJSON as JSON)."""
    finish_ends: ClassVar[bool] = True
    """Whether finish reasons and a clean end of body are an end too (Cerebras, Writer, Gemini send no `[DONE]`)."""

    def matches(self, request: Request) -> bool:
        """Whether `request` speaks this dialect: by path and body shape, never by host alone."""
        raise NotImplementedError

    def operation(self, request: Request) -> str:
        """OTel's `gen_ai.operation.name`."""
        return "chat"

    def model(self, request: Request) -> str | None:
        """The model that was asked for; in the body, or in the path."""
        return request.text("model")

    def streams(self, request: Request) -> bool:
        """Whether the client asked for a stream."""
        return isinstance(request.body, dict) and request.body.get("stream") is True

    def weigh(self, frame: bytes) -> Weight:
        """How much `frame` (raw bytes, SSE field names included) can matter; a byte search, never a parse."""
        return Weight.PARSE

    def observe(self, seen: Observation, payload: Any) -> None:
        """Fold one payload into what was seen."""
        raise NotImplementedError

    def observe_headers(self, seen: Observation, headers: Mapping[str, str]) -> None:
        """Fold response headers (lower-case names) into what was seen; called once, before any payload."""

    def done(self, seen: Observation) -> None:
        """The stream said `[DONE]`."""
        seen.terminal = True


def told_by_path(request: Request) -> bool:
    """Whether the path must do: the body cannot be read (too large, in a coding of its own), the host serves models."""
    return request.body is None and serves_models(request)


def integer(value: Any) -> int | None:
    """A count as the provider sent it: a whole number from 0 up, also as a float (Titan: `28.0`); else `None`.

    Beyond 2**53 it is no count any more (and beyond 2**63 no database takes it).
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not value.is_integer():
        return None
    return int(value) if 0 <= value < 1 << 53 else None


def first_integer(source: Mapping[str, Any], *names: str) -> int | None:
    """The first of `names` that holds a count."""
    for name in names:
        value = integer(source.get(name))
        if value is not None:
            return value
    return None


def mapping(value: Any) -> Json:
    """`value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def text(value: Any) -> str | None:
    """`value` if it is a string with something in it, else `None`."""
    return value if isinstance(value, str) and value else None


def finish_reason(value: Any) -> str | int | None:
    """A finish reason as the provider says it: a word, or (Vertex) an enum's number; 0 and "" say nothing."""
    if isinstance(value, str):
        return value[:100] or None
    return integer(value) or None


def add(*counts: int | None) -> int | None:
    """The sum of the counts that are known; `None` where none is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def observe_identity(seen: Observation, payload: Json, model: str = "model", response_id: str = "id") -> None:
    """Take the response id and the model from the first payload that has them (Azure's first frame has them empty)."""
    seen.response_id = seen.response_id or text(payload.get(response_id))
    seen.response_model = seen.response_model or text(payload.get(model))


def observe_error(seen: Observation, payload: Any) -> bool:
    """Note an error in any of the shapes that providers use; true if there was one.

    `{"error": {...}}` (OpenAI, Anthropic, Gemini), `{"error": "text"}` (Ollama; xAI adds `code`, TGI `error_type`),
    `{"detail": …}` (FastAPI: vLLM), `{"object": "error", "message": …}` (Mistral), a list of one of these (Gemini).
    """
    if isinstance(payload, list) and payload:
        payload = payload[0]
    payload = mapping(payload)
    error = payload.get("error")
    if error and isinstance(error, dict):
        said = (error.get(name) for name in ("type", "status", "code"))
        kind = next((word for word in said if text(word)), error.get("code"))  # Google's `code` repeats the HTTP status
        seen.fail(_word(kind), _sentence(error.get("message", error)))
    elif isinstance(error, str) and error:
        seen.fail(_word(payload.get("code") or payload.get("error_type")), _sentence(error))
    elif payload.get("object") == "error" or payload.get("type") == "error":
        seen.fail(_word(payload.get("code") or payload.get("type")), _sentence(payload.get("message")))
    else:
        return False
    return True


def observe_error_body(seen: Observation, payload: Any) -> None:
    """Note what the body of a 4xx or 5xx says, with shapes that would be no error under a 200."""
    if observe_error(seen, payload):
        return
    if isinstance(payload, str):  # Hugging Face's router answers 422 with a bare sentence; a page of HTML says nothing
        if payload.strip() and not payload.lstrip().startswith("<"):
            seen.fail(None, _sentence(payload.strip()))
        return
    payload = mapping(payload)
    for name in ("message", "Message", "detail", "errors"):
        if payload.get(name):
            kind = payload.get("type") or payload.get("__type") or payload.get("code")
            seen.fail(_word(kind), _sentence(payload[name]))
            return


def _word(value: Any) -> str | None:
    return str(value)[:100] if isinstance(value, str | int) and not isinstance(value, bool) else None


_ECHOES = frozenset({"input", "ctx", "body"})
"""Where validators (pydantic behind FastAPI, vLLM, Mistral) repeat what they were sent: prompts, not ours to keep."""
_ECHO = re.compile(r"""['"](?:input|ctx|body)['"]\s*:.*""", re.DOTALL)


def _sentence(value: Any) -> str | None:
    """The message cut at 500 characters (contract.md), whatever its shape, without what it repeats of the request."""
    if value is None:
        return None
    return _ECHO.sub("…", value if isinstance(value, str) else str(_without_echo(value)))[:500]


def _without_echo(value: Any, depth: int = 5) -> Any:
    if isinstance(value, dict):
        kept = ((name, inner) for name, inner in value.items() if name not in _ECHOES)
        return {name: _without_echo(inner, depth - 1) for name, inner in kept} if depth else {}
    if isinstance(value, list):
        return [_without_echo(inner, depth - 1) for inner in value[:20]] if depth else []
    return value


def model_in_path(path: str) -> str | None:
    """What a path says is served, where the body need not: Azure's deployment, Databricks' and SageMaker's endpoint."""
    found = re.search(r"/(?:deployments|serving-endpoints|endpoints)/([^/]+)/", path)
    return found[1] if found else None


_RAW_PREDICT = re.compile(r"/([^/:]+):(?:rawPredict|streamRawPredict)$")


def raw_predict(path: str) -> str | None:
    """The model, or the number of the endpoint, whose `rawPredict` on Vertex AI a path is: partners' own words.

    https://cloud.google.com/vertex-ai/generative-ai/docs/partner-models/use-partner-models
    """
    found = _RAW_PREDICT.search(path.rstrip("/"))
    return found[1] if found else None
