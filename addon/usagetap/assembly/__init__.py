"""An answer put together again out of its payloads: text, reasoning, tool calls, why it ended. For people to read.

Only content views use this, never the traffic: it builds whole strings. Payloads are told apart by their shape, so that
a body can be read without knowing how it was asked for. Total: any JSON in any order leaves it standing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson

from usagetap.assembly import anthropic, gemini, openai, others
from usagetap.assembly.answer import Answer, Choice, ToolCall
from usagetap.dialects.base import Json, mapping, observe_error, observe_error_body
from usagetap.model import Observation
from usagetap.reader import framing_for

__all__ = ["Answer", "Choice", "ToolCall", "assemble", "payloads"]


def payloads(body: bytes) -> Iterator[tuple[bytes, Any]]:
    """The frames of a decoded body with their JSON (`None` for a comment, `[DONE]`, or what the end cut off)."""
    try:
        whole = orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    else:
        yield from ((orjson.dumps(each), each) for each in whole) if isinstance(whole, list) else [(body, whole)]
        return
    framing = framing_for(body)
    for frame in [*framing.feed(body), *framing.finish()]:
        text = framing.payload(frame)
        try:
            yield frame, None if text is None else json.loads(text.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            yield frame, None


def assemble(told: Iterable[Any]) -> Answer:
    """The answer that these payloads make."""
    answer = Answer()
    for payload in told:
        _fold(answer, payload)
    return answer


def _fold(answer: Answer, payload: Any) -> None:
    if not isinstance(payload, dict):
        return
    seen = Observation()
    observe_error(seen, payload)
    inner, result = payload.get("response"), payload.get("result")
    if isinstance(inner, dict) and "candidates" in inner:  # Gemini Code Assist wraps its payloads
        payload = inner
    elif isinstance(result, dict) and "success" in payload:  # and Cloudflare's Workers AI
        payload = result
    shape = next((shape for key, shape in _SHAPES.items() if key in payload), None)
    if shape is not None:
        shape(answer, payload)
    if shape is None or isinstance(payload.get("message"), str):
        observe_error_body(seen, payload)
    if seen.error_type is not None and answer.error is None:
        answer.error = ": ".join(filter(None, (seen.error_type, seen.error_message)))


def _typed(answer: Answer, payload: Json) -> None:
    kind = str(payload["type"])
    if kind.startswith(("response.", "transcript.")):
        openai.response_event(answer, kind, payload)
    elif not anthropic.event(answer.choice(), kind, payload) and not others.cohere(answer.choice(), kind, payload):
        others.one_text(answer, payload)


def _event(answer: Answer, payload: Json) -> None:
    if str(payload["event_type"]).startswith(("step.", "content.", "interaction.")):
        gemini.interaction_event(answer, payload)
    else:  # Cohere v1
        others.one_text(answer, payload)


def _with_output(answer: Answer, payload: Json) -> None:
    if isinstance(payload["output"], list):
        openai.output(answer, payload)
    elif isinstance(payload["output"], dict):
        others.converse(answer, payload)


def _with_message(answer: Answer, payload: Json) -> None:
    said = mapping(payload["message"])
    if said:
        openai.message(answer.choice(), said)
        others.finish(answer.choice(), payload)


#: what a payload is, by the first of these keys that it has
_SHAPES: dict[str, Callable[[Answer, Json], None]] = {
    "choices": openai.chat,
    "candidates": gemini.candidates,
    "serverContent": gemini.live,
    "toolCall": gemini.live_call,
    "event_type": _event,
    "steps": gemini.interaction,
    "output": _with_output,
    "contentBlockStart": others.converse_start,
    "contentBlockDelta": others.converse_delta,
    "messageStop": others.converse_stop,
    "type": _typed,
    "message": _with_message,
    "token": others.token,
    "outputs": others.several_texts,
    "results": others.several_texts,
    "generations": others.several_texts,
    "delta": openai.assistants,
    "data": others.several_data,
    "embeddings": others.vectors,
    **dict.fromkeys(others.TEXTS, others.one_text),
}
