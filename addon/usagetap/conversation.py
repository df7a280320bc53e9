"""A request's body in readable form: parameters, instructions, messages, tools. For people; nothing else uses it.

Bodies are read by their shape, whatever the dialect. Total: any JSON gives something to read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from usagetap.dialects.base import Json, mapping

#: what is shown as parts of the conversation, not among the parameters
_CONVERSATION = (
    *("messages", "input", "contents", "prompt", "message", "chat_history", "inputText", "query", "inputs"),
    *("texts", "documents", "requests"),
)
_INSTRUCTIONS = ("system", "instructions", "systemInstruction", "system_instruction", "preamble")
_TOOLS = ("tools", "functions", "toolConfig")
_LONGEST = 400
"""Characters of a parameter; what is longer is cut (a JSON schema for the answer may have thousands)."""


@dataclass(slots=True)
class Said:
    """One message: who says it, what, and what in it is no text (an image, a file, the result of a tool)."""

    role: str
    text: str


@dataclass(slots=True)
class Asked:
    """What a request asks."""

    parameters: dict[str, str] = field(default_factory=dict)
    said: list[Said] = field(default_factory=list)
    tools: dict[str, str] = field(default_factory=dict)
    """Tools by name, with the first line of what they are described as."""


def read(body: Any) -> Asked:
    """The request whose body this is."""
    asked = Asked()
    if not isinstance(body, dict):
        return asked
    body = {**body, **mapping(body.get("request"))} if "contents" in mapping(body.get("request")) else body
    for name, value in body.items():
        if name in _TOOLS:
            _tools(asked, value)
        elif name not in _CONVERSATION and name not in _INSTRUCTIONS and value is not None:
            asked.parameters[name] = _short(value)
    for name in _INSTRUCTIONS:
        if text := content(body.get(name)):
            asked.said.append(Said("system", text))
    for name in _CONVERSATION:
        _conversation(asked, body.get(name))
    return asked


def _conversation(asked: Asked, value: Any) -> None:
    turns = value if isinstance(value, list) else [value]
    if not all(isinstance(turn, dict) for turn in turns):  # texts to embed, prompts to complete
        asked.said += [Said("input", text) for turn in turns if (text := content(turn))]
        return
    for turn in turns:
        role = turn.get("role") or turn.get("type") or "user"
        texts = [content(turn.get(name)) for name in ("reasoning_content", "content", "parts", "message", "text")]
        texts += [_call(call) for call in _list(turn.get("tool_calls"))]
        if str(turn.get("type", "")).endswith("_call"):
            texts.append(_call(turn))
        elif "output" in turn:
            texts.append(content(turn["output"]))
        asked.said.append(Said(str(role), "\n".join(filter(None, texts))))


def content(value: Any) -> str:
    """The text of a message's content: a string, a part, or a list of parts; what is no text is named in brackets."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(filter(None, map(content, value)))
    part = mapping(value)
    if not part:
        return ""
    for name in ("text", "thinking", "refusal", "input_text", "output_text"):
        if isinstance(part.get(name), str):
            return str(part[name])
    if "parts" in part or part.get("type") == "message":
        return content(part.get("parts", part.get("content")))
    for name in ("functionCall", "toolUse"):
        if isinstance(part.get(name), dict):
            return _call(part[name])
    if str(part.get("type", "")).endswith(("tool_use", "function_call")):
        return _call(part)
    return _result(part)


def _result(part: Json) -> str:
    """A tool's result, or a part that is no text."""
    for name in ("tool_result", "toolResult", "functionResponse"):
        if part.get("type") == name or name in part:
            inner = mapping(part.get(name)) or part
            return f"[result] {content(inner.get('content')) or _short(inner.get('response') or '')}"
    kind = part.get("type") or next(iter(part), "part")
    return f"[{kind}, {len(json.dumps(part, default=str)):,} characters]"


def _call(told: Any) -> str:
    call = mapping(told)
    function = mapping(call.get("function")) or call
    arguments = next((function[name] for name in ("arguments", "input", "args") if name in function), "")
    return (
        f"[calls {function.get('name') or 'a tool'}] {arguments if isinstance(arguments, str) else _short(arguments)}"
    )


def _tools(asked: Asked, value: Any) -> None:
    told = mapping(value).get("tools") if isinstance(value, dict) else value
    for tool in map(mapping, _list(told)):
        for name in ("functionDeclarations", "function_declarations"):
            for each in _list(tool.get(name)):
                _tool(asked, mapping(each))
        if not ("functionDeclarations" in tool or "function_declarations" in tool):
            _tool(asked, mapping(tool.get("function")) or mapping(tool.get("toolSpec")) or tool)


def _tool(asked: Asked, tool: Json) -> None:
    name = str(tool.get("name") or tool.get("type") or next(iter(tool), "tool"))
    asked.tools[name] = str(tool.get("description") or "").strip().partition("\n")[0][:_LONGEST]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
