"""OpenAI's shapes, and those of everything compatible: chat, completions, Responses, Realtime, assistants."""

from __future__ import annotations

from typing import Any

from usagetap.assembly.answer import Answer, Choice, ToolCall, add, add_arguments, items, objects, word
from usagetap.dialects.base import Json, mapping


def chat(answer: Answer, payload: Json) -> None:
    """Chat and completions, whole or by deltas."""
    for position, each in enumerate(objects(payload["choices"])):
        choice = answer.choice(each.get("index", position))
        said = mapping(each.get("delta"))
        if not said.get("content") and isinstance(each.get("message"), dict):  # Perplexity sends both in one
            said = each["message"]
        if said:
            message(choice, said)
        else:
            add(choice.text, each.get("text"))
        choice.finish_reason = word(each.get("finish_reason")) or choice.finish_reason


def message(choice: Choice, said: Json) -> None:
    """A message or a delta, as OpenAI, Ollama, Mistral and Cohere have it."""
    content = said.get("content")
    for piece in content if isinstance(content, list) else [content]:
        part(choice, piece)
    add(choice.reasoning, said.get("reasoning_content") or said.get("reasoning") or said.get("thinking"))
    add(choice.refusal, said.get("refusal"))
    add(choice.text, mapping(said.get("audio")).get("transcript"))
    add(choice.text, said.get("tool_plan"))
    calls = said.get("tool_calls")
    for position, call in enumerate(objects([calls] if isinstance(calls, dict) else calls)):
        index = call.get("index")
        function(choice.call(position if not isinstance(index, int) else index), call.get("id"), call.get("function"))
    if isinstance(said.get("function_call"), dict):
        function(choice.call(0), None, said["function_call"])


def part(choice: Choice, told: Any) -> None:
    """A piece of content: text, thinking, a tool call, or something that is named only."""
    if not isinstance(told, dict):
        add(choice.text, told)
        return
    kind = told.get("type")
    if kind in ("thinking", "reasoning", "redacted_thinking"):
        thinking = told.get("thinking")
        for each in thinking if isinstance(thinking, list) else [told]:
            add(choice.reasoning, mapping(each).get("text") or mapping(each).get("thinking"))
    elif kind in ("tool_use", "server_tool_use", "mcp_tool_use"):
        call = choice.call(told.get("id") or len(choice.calls))
        call.name, call.call_id = str(told.get("name") or ""), str(told.get("id") or "")
        add_arguments(call, told.get("input"))
    elif kind == "refusal":
        add(choice.refusal, told.get("refusal"))
    else:
        add(choice.text, told.get("text") or told.get("transcript"))


def function(call: ToolCall, call_id: Any, told: Any) -> None:
    """A function's name and arguments, whole or a piece of them."""
    told = mapping(told)
    call.name = call.name or str(told.get("name") or "")
    call.call_id = call.call_id or str(call_id or "")
    add_arguments(call, told.get("arguments"))


def response_event(answer: Answer, kind: str, payload: Json) -> None:
    """An event of the Responses or Realtime API, or of a transcription; the last one repeats everything."""
    choice = answer.choice()
    key = payload.get("output_index", payload.get("item_id", 0))
    response, item = payload.get("response"), mapping(payload.get("item"))
    if isinstance(response, dict):
        if items(response.get("output")):
            output(answer, response)
        answer.choice().finish_reason = _ending(response) or choice.finish_reason
    elif kind == "transcript.text.done" and not choice.text:
        add(choice.text, payload.get("text"))
    elif kind.endswith(("text.delta", "transcript.delta")):
        add(choice.reasoning if "reasoning" in kind else choice.text, payload.get("delta"))
    elif kind.endswith("refusal.delta"):
        add(choice.refusal, payload.get("delta"))
    elif kind.endswith(("arguments.delta", "input.delta")):
        add_arguments(choice.call(key), payload.get("delta"))
    elif kind.endswith("output_item.added") and str(item.get("type", "")).endswith("call"):
        call = choice.call(key)
        call.name = str(item.get("name") or item["type"])
        call.call_id = str(item.get("call_id") or item.get("id") or "")


def output(answer: Answer, response: Json) -> None:
    """A whole response: it replaces what its deltas have said."""
    choice = answer.choices[0] = Choice()
    for number, item in enumerate(objects(response.get("output"))):
        kind = str(item.get("type") or "")
        if kind == "message":
            for piece in items(item.get("content")):
                part(choice, piece)
        elif kind == "reasoning":
            for piece in [*items(item.get("summary")), *items(item.get("content"))]:
                add(choice.reasoning, mapping(piece).get("text"))
        elif kind.endswith("call"):
            call = choice.call(number)
            call.name, call.call_id = str(item.get("name") or kind), str(item.get("call_id") or item.get("id") or "")
            add_arguments(call, item.get("arguments") or item.get("input") or item.get("action"))
    choice.finish_reason = _ending(response)


def _ending(response: Json) -> str | None:
    reason = word(mapping(response.get("incomplete_details")).get("reason"))
    return reason or word(response.get("status"))


def assistants(answer: Answer, payload: Json) -> None:
    """A delta of a message in a thread."""
    for part in items(mapping(payload["delta"]).get("content")):
        add(answer.choice().text, mapping(mapping(part).get("text")).get("value"))
