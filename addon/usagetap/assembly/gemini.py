"""Gemini's candidates and its Live sessions."""

from __future__ import annotations

from typing import Any

from usagetap.assembly.answer import Answer, Choice, add, add_arguments, items, objects, word
from usagetap.dialects.base import Json, mapping


def candidates(answer: Answer, payload: Json) -> None:
    """An answer, or the next piece of one."""
    for position, each in enumerate(objects(payload["candidates"])):
        choice = answer.choice(each.get("index", position))
        _parts(answer, choice, each.get("content"))
        choice.finish_reason = word(each.get("finishReason")) or choice.finish_reason


def live(answer: Answer, payload: Json) -> None:
    """What the model says in a Live session."""
    content = mapping(payload["serverContent"])
    _parts(answer, answer.choice(), content.get("modelTurn"))
    add(answer.choice().text, mapping(content.get("outputTranscription")).get("text"))


def _parts(answer: Answer, choice: Choice, content: Any) -> None:
    for part in objects(mapping(content).get("parts")):
        add(choice.reasoning if part.get("thought") is True else choice.text, part.get("text"))
        if isinstance(part.get("functionCall"), dict):
            _call(choice, part["functionCall"])
        data = part.get("inlineData") or part.get("inline_data")
        if isinstance(data, dict):
            answer.notes.append(
                f"{data.get('mimeType') or data.get('mime_type') or 'data'}, {len(str(data.get('data')))} characters"
            )


def _call(choice: Choice, function: Json) -> None:
    call = choice.call(len(choice.calls))
    call.name, call.call_id = str(function.get("name") or ""), str(function.get("id") or "")
    add_arguments(call, function.get("args"))


def live_call(answer: Answer, payload: Json) -> None:
    """What the model wants called in a Live session."""
    for function in items(mapping(payload["toolCall"]).get("functionCalls")):
        _call(answer.choice(), mapping(function))


def interaction_event(answer: Answer, payload: Json) -> None:
    """An event of the Interactions API."""
    kind, index = payload["event_type"], payload.get("index", 0)
    if kind == "step.start":
        _step(answer.choice(), mapping(payload.get("step")), index)
    elif kind in ("step.delta", "content.delta"):
        delta = mapping(payload.get("delta"))
        thought = "thought" in str(delta.get("type"))
        add(answer.choice().reasoning if thought else answer.choice().text, delta.get("text"))
        if delta.get("arguments") or delta.get("partial_arguments"):
            add_arguments(answer.choice().call(index), delta.get("arguments") or delta["partial_arguments"])
    status = mapping(payload.get("interaction")).get("status")
    answer.choice().finish_reason = word(status) or answer.choice().finish_reason


def interaction(answer: Answer, payload: Json) -> None:
    """A whole interaction."""
    for number, step in enumerate(items(payload["steps"])):
        _step(answer.choice(), mapping(step), number)
    answer.choice().finish_reason = word(payload.get("status"))


def _step(choice: Choice, step: Json, index: Any) -> None:
    thought = step.get("type") == "thought"
    for part in [*items(step.get("content")), *items(step.get("summary"))]:
        add(choice.reasoning if thought else choice.text, mapping(part).get("text"))
    if str(step.get("type", "")).endswith("_call"):
        call = choice.call(index)
        call.name, call.call_id = str(step.get("name") or step["type"]), str(step.get("id") or "")
        if step.get("arguments"):
            add_arguments(call, step["arguments"])
