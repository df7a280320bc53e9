"""The text that a stream's payload adds to the answer, strand by strand.

A strand is one running text: a choice's content, its reasoning, the arguments of one tool call. Strands of one
response interleave on the wire and must not be joined: tokens never reach from one into another. Total: any JSON
gives an answer, the empty one where it says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Strand = tuple[str, ...]
#: the first word of a tool call's strands: their calls carry overhead of their own
TOOL = "tool"
#: calls that the Responses API sends whole, without deltas, and where each keeps what the model wrote
_WHOLE = (
    *("apply_patch_call", "computer_call", "local_shell_call", "shell_call", "tool_search_call"),
    "mcp_approval_request",
)
_WRITTEN = ("arguments", "action", "operation")


def strands(dialect: str, payload: Any) -> Iterator[tuple[Strand, str]]:
    """The pieces of text in one payload of `dialect`, each with the strand that it continues."""
    if not isinstance(payload, dict):
        return iter(())
    if dialect == "openai_completions":
        return _completions(payload)
    if dialect == "openai_responses":
        return _responses(payload)
    if dialect == "anthropic":
        return _anthropic(payload)
    if dialect in ("gemini", "gemini_live"):
        return _gemini(payload)
    if dialect == "ollama":
        return _ollama(payload)
    return _chat(payload)


def delta_text(dialect: str, payload: Any) -> str:
    """All the text that one payload adds, of all its strands."""
    return "".join(text for _, text in strands(dialect, payload))


def _texts(strand: Strand, *values: Any) -> Iterator[tuple[Strand, str]]:
    return ((strand, value) for value in values if isinstance(value, str) and value)


def _dicts(value: Any) -> Iterable[dict[str, Any]]:
    return (each for each in value if isinstance(each, dict)) if isinstance(value, list) else ()


def _chat(payload: dict[str, Any]) -> Iterator[tuple[Strand, str]]:
    for choice in _dicts(payload.get("choices")):
        index = str(choice.get("index", 0))
        delta = choice.get("delta") or choice.get("message")  # Writer's chunks say `message`
        if not isinstance(delta, dict):
            continue
        yield from _texts(("text", index), delta.get("content"))
        yield from _texts(("refusal", index), delta.get("refusal"))
        # the two names are of one text; servers that send both send it twice
        yield from _texts(("reasoning", index), delta.get("reasoning_content") or delta.get("reasoning"))
        for place, call in enumerate(_dicts(delta.get("tool_calls"))):
            yield from _call((index, str(call.get("index", place))), call.get("function"))
        yield from _call((index, "function"), delta.get("function_call"))


def _call(strand: Strand, function: Any) -> Iterator[tuple[Strand, str]]:
    if isinstance(function, dict):
        yield from _texts((TOOL, "name", *strand), function.get("name"))
        yield from _texts((TOOL, "arguments", *strand), function.get("arguments"))


def _completions(payload: dict[str, Any]) -> Iterator[tuple[Strand, str]]:
    for choice in _dicts(payload.get("choices")):
        yield from _texts(("text", str(choice.get("index", 0))), choice.get("text"))


def _responses(payload: dict[str, Any]) -> Iterator[tuple[Strand, str]]:
    kind = payload.get("type")
    if not isinstance(kind, str):
        return
    place = str(payload.get("output_index", 0)), str(payload.get("content_index", payload.get("summary_index", 0)))
    if kind.endswith(".delta"):
        # a reasoning summary is written by another model and not billed as output
        if "reasoning_summary" not in kind and "audio" not in kind:
            yield from _texts((*_strand_of(kind), *place), payload.get("delta"))
        return
    item = payload.get("item")
    if not isinstance(item, dict):
        return
    if kind == "response.output_item.added" and item.get("type") in ("function_call", "custom_tool_call"):
        yield from _texts((TOOL, "name", *place), item.get("name"))
    elif kind == "response.output_item.done" and item.get("type") in _WHOLE and item.get("execution") != "server":
        yield from _texts((TOOL, "name", *place), item.get("name") or item.get("type"))
        written = next((item[key] for key in _WRITTEN if item.get(key)), None)
        yield from _texts((TOOL, "arguments", *place), written if isinstance(written, str) else _compact(written))


def _strand_of(kind: str) -> Strand:
    if "arguments" in kind or "custom_tool" in kind:
        return (TOOL, "arguments")
    return next(((name,) for name in ("reasoning", "refusal", "code") if name in kind), ("text",))


def _anthropic(payload: dict[str, Any]) -> Iterator[tuple[Strand, str]]:
    index = str(payload.get("index", 0))
    block = payload.get("content_block")
    if isinstance(block, dict) and block.get("type") == "tool_use":
        yield from _texts((TOOL, "name", index), block.get("name"))
    delta = payload.get("delta")
    if isinstance(delta, dict):
        yield from _texts(("text", index), delta.get("text"))
        yield from _texts(("thinking", index), delta.get("thinking"))
        yield from _texts((TOOL, "arguments", index), delta.get("partial_json"))


def _gemini(payload: dict[str, Any]) -> Iterator[tuple[Strand, str]]:
    inner = payload.get("response")
    payload = inner if isinstance(inner, dict) else payload  # Code Assist wraps it
    live = payload.get("serverContent")
    turns = [live.get("modelTurn")] if isinstance(live, dict) else []
    turns += [candidate.get("content") for candidate in _dicts(payload.get("candidates"))]
    for index, content in enumerate(turns):
        for part in _dicts(content.get("parts") if isinstance(content, dict) else None):
            # a thought is a summary of what was thought: not what is billed
            if not part.get("thought"):
                yield from _texts(("text", str(index)), part.get("text"))
            call = part.get("functionCall")
            if isinstance(call, dict):
                yield from _texts((TOOL, "name", str(index)), call.get("name"))
                yield from _texts((TOOL, "arguments", str(index)), _compact(call.get("args")))


def _ollama(payload: dict[str, Any]) -> Iterator[tuple[Strand, str]]:
    message = payload.get("message")
    message = message if isinstance(message, dict) else payload
    yield from _texts(("text", "0"), message.get("content"), message.get("response"))
    yield from _texts(("thinking", "0"), message.get("thinking"))
    for call in _dicts(message.get("tool_calls")):
        function = call.get("function")
        if isinstance(function, dict):
            yield from _texts((TOOL, "name", "0"), function.get("name"))
            yield from _texts((TOOL, "arguments", "0"), _compact(function.get("arguments")))


def _compact(value: Any) -> str:
    import orjson

    try:
        return orjson.dumps(value).decode()
    except (TypeError, orjson.JSONEncodeError):
        return ""
