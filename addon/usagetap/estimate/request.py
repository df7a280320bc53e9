"""How many input tokens a request is, counted from its body.

OpenAI bills the conversation as its models see it: every message in a frame of its own, tools rewritten as TypeScript.
The frames' sizes are measured on recorded exchanges (`bench/estimates.py`); images and audio are not counted at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from usagetap.estimate.vocabulary import Family, Tokenizer

#: content parts whose size the body does not tell
_UNCOUNTABLE = frozenset(
    {"image_url", "image", "input_image", "input_audio", "audio", "file", "input_file", "document", "video_url"}
)
_JSON_TYPES = {"integer": "number", "string": "string", "number": "number", "boolean": "boolean", "null": "null"}
#: what says that the model reads more than the request holds: stored conversations, prompts and caches
_ELSEWHERE = ("previous_response_id", "conversation", "cachedContent")
#: what the makers call the schema of a function's parameters
_PARAMETERS = ("parameters", "input_schema", "parametersJsonSchema", "parameters_json_schema")
_DEEPEST = 8


def count_request(tokenizer: Tokenizer, family: Family, body: Any) -> int | None:
    """Input tokens of a request body (chat, completions, responses, Anthropic, Gemini, embeddings).

    `None` where it cannot be said: no text in it that we know, images, audio and files, whose price is not in the
    body, or a conversation that the provider keeps.
    """
    if not isinstance(body, dict):
        return None
    if any(body.get(key) for key in _ELSEWHERE):
        return None
    turns = _turns(body)
    if turns is None:
        return _count_plain(tokenizer, family, body)
    tools = body.get("tools") or body.get("functions") or []
    texts = list(_texts(turns))
    if any(text is None for text in texts) or not _all_defined(tools):
        return None
    system = [text for key in ("system", "instructions", "systemInstruction") for text in _texts(body.get(key)) if text]
    calls = [tokenizer.count(name) for name in _called(turns)]
    count = sum(tokenizer.count(text) for text in (*texts, *system) if text)
    alone = not system and _role(turns[0]) not in ("system", "developer")
    schema = _count_schema(tokenizer, family, body, alone=alone)
    count += schema
    count += family.per_message * (len(turns) + bool(system)) + family.per_request
    # the result of a call repeats the name of what was called
    count += sum(calls) + family.per_past_call * len(calls)
    rendered = render_tools(tools)
    if rendered:
        count += tokenizer.count(rendered)
        count += family.around_tools_chat if "messages" in body else family.around_tools
        if family.tools_in_system and "messages" in body and (not alone or schema):
            count -= family.per_message
    return math.ceil(count * family.scale)


def _turns(body: dict[str, Any]) -> list[Any] | None:
    """The conversation: chat's and Anthropic's `messages`, Gemini's `contents`, Responses' `input`."""
    for key in ("messages", "contents", "input"):
        value = body.get(key)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return value
    if isinstance(body.get("input"), str) and "embed" not in str(body.get("model")):
        return [{"role": "user", "content": body["input"]}]
    return None


def _role(turn: Any) -> Any:
    return turn.get("role") if isinstance(turn, dict) else None


def _all_defined(tools: Any) -> bool:
    """Whether every tool is a function described in the body: what a hosted tool adds, nobody tells."""
    return isinstance(tools, list) and all(
        isinstance(tool, dict) and tool.get("type", "function") == "function" and "grammar" not in tool
        for tool in tools
    )


def _called(turns: list[Any]) -> Iterator[str]:
    """The names of the tools that were called in the conversation."""
    for turn in turns:
        calls = turn.get("tool_calls") if isinstance(turn, dict) else None
        for call in calls if isinstance(calls, list) else [turn]:
            function = call.get("function", call) if isinstance(call, dict) else None
            if isinstance(function, dict) and "arguments" in function and isinstance(function.get("name"), str):
                yield function["name"]


def _count_schema(tokenizer: Tokenizer, family: Family, body: dict[str, Any], *, alone: bool) -> int:
    """The schema of a structured answer, which the model is shown in a system message (a new one if it is `alone`)."""
    text = body.get("text")
    wanted = body.get("response_format") or (text.get("format") if isinstance(text, dict) else None)
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return 0
    described = wanted.get("json_schema", wanted)
    if not isinstance(described, dict) or "schema" not in described:
        return 0
    shown = (_json(_shown(described.get("schema"))), described.get("name"), described.get("description"))
    schema, name, description = (tokenizer.count(each) if isinstance(each, str) else 0 for each in shown)
    count = schema + name + description + bool(description)
    if "messages" not in body:
        return count + 6 + (not family.per_answer)
    return count + name + 8 + (family.per_message if alone else 0)


def _shown(schema: Any, depth: int = 0) -> Any:
    """A schema without what the model is not shown of it."""
    if isinstance(schema, list):
        return [_shown(each, depth + 1) for each in schema]
    if not isinstance(schema, dict) or depth > _DEEPEST * 2:
        return schema
    return {
        key: {name: _shown(each, depth + 1) for name, each in value.items()}
        if key in ("properties", "$defs") and isinstance(value, dict)
        else _shown(value, depth + 1)
        for key, value in schema.items()
        if key not in ("required", "additionalProperties")
    }


def _count_plain(tokenizer: Tokenizer, family: Family, body: dict[str, Any]) -> int | None:
    """Bodies with one text or a list of them: completions, embeddings."""
    value = body.get("prompt", body.get("input"))
    if isinstance(value, list) and value and all(isinstance(each, int) for each in value):
        return len(value)  # token ids
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts) or not texts:
        return None
    return math.ceil(sum(tokenizer.count(text) for text in texts) * family.scale)


def _texts(value: Any, depth: int = 0) -> Iterator[str | None]:
    """Every text that the model reads in messages or parts of them; `None` for what cannot be counted."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each, depth)
    elif isinstance(value, dict) and depth < _DEEPEST:
        if value.get("type") in _UNCOUNTABLE or "inlineData" in value or "fileData" in value:
            yield None
            return
        for key in ("content", "text", "parts", "name", "refusal", "arguments", "output", "thinking", "tool_calls"):
            yield from _texts(value.get(key), depth + 1)
        for key in ("function", "functionCall", "functionResponse"):
            yield from _texts(value.get(key), depth + 1)
        if isinstance(value.get("input"), dict | list):
            yield _json(value["input"])


def render_tools(tools: Any) -> str:
    """Tool definitions as the models are shown them: a TypeScript namespace. Empty where there are none."""
    if not isinstance(tools, list):
        return ""
    lines = []
    for function in _functions(tools):
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            continue
        if isinstance(function.get("description"), str):
            lines += [f"// {line}" for line in function["description"].splitlines()]
        parameters = _inlined(next((function[key] for key in _PARAMETERS if key in function), None))
        if isinstance(parameters, dict) and parameters.get("properties"):
            lines += [
                f"type {function['name']} = (_: {{",
                *_title(parameters),
                *_fields(parameters, 0),
                "}) => any;",
                "",
            ]
        else:
            lines += [f"type {function['name']} = () => any;", ""]
    return "\n".join(["namespace functions {", "", *lines, "} // namespace functions"]) if lines else ""


def _inlined(schema: Any, definitions: Any = None, depth: int = 0) -> Any:
    """A schema with its `$ref`s replaced by what they name, as deep as anybody nests them."""
    if isinstance(schema, list):
        return [_inlined(each, definitions, depth) for each in schema]
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return schema
    if definitions is None:
        definitions = schema.get("$defs") or schema.get("definitions")
    named = schema.get("$ref")
    if isinstance(named, str) and isinstance(definitions, dict):
        return _inlined(definitions.get(named.rpartition("/")[2]), definitions, depth + 1)
    return {key: _inlined(value, definitions, depth + (key != "properties")) for key, value in schema.items()}


def _functions(tools: list[Any]) -> Iterator[Any]:
    """The functions that tools describe; Gemini's tools hold a list of them each."""
    for tool in tools:
        declared = tool.get("functionDeclarations") if isinstance(tool, dict) else None
        if isinstance(declared, list):
            yield from declared
        elif isinstance(tool, dict):
            yield tool.get("function", tool)


def _fields(schema: dict[str, Any], depth: int) -> list[str]:
    properties = schema.get("properties")
    required = schema.get("required")
    lines = []
    for name, field in properties.items() if isinstance(properties, dict) else ():
        if not isinstance(field, dict):
            continue
        lines += _title(field)
        if isinstance(field.get("description"), str):
            lines += [f"// {line}" for line in field["description"].splitlines()]
        optional = "" if isinstance(required, list) and name in required else "?"
        default = f" // default: {_json(field['default'])}" if "default" in field else ""
        lines.append(f"{name}{optional}: {_type(field, depth)},{default}")
    return lines


def _title(schema: dict[str, Any]) -> list[str]:
    return [f"// {schema['title']}"] if isinstance(schema.get("title"), str) else []


def _type(schema: Any, depth: int) -> str:
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return "any"
    if isinstance(schema.get("enum"), list):
        return " | ".join(f'"{each}"' if isinstance(each, str) else str(each) for each in schema["enum"])
    union = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(union, list):
        return " | ".join(_type(each, depth + 1) for each in union)
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(_JSON_TYPES.get(str(each), "any") for each in kind)
    if kind == "array":
        return f"{_type(schema.get('items'), depth + 1)}[]"
    if kind == "object" and schema.get("properties"):
        return "\n".join(["{", *_fields(schema, depth + 1), "}"])
    return "object" if kind == "object" else _JSON_TYPES.get(str(kind), "any")


def _json(value: Any) -> str | None:
    import orjson

    try:
        return orjson.dumps(value).decode()
    except (TypeError, orjson.JSONEncodeError):
        return None
