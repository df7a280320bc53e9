"""Cohere, Bedrock's Converse, Ollama, models that say one text, and answers that are no text."""

from __future__ import annotations

from usagetap.assembly.answer import Answer, Choice, add, add_arguments, items, objects, word
from usagetap.assembly.openai import function
from usagetap.dialects.base import Json, mapping

_COHERE = ("content-start", "content-delta", "tool-plan-delta", "tool-call-start", "tool-call-delta", "message-end")
TEXTS = ("response", "completion", "outputText", "generation", "generated_text", "content", "text", "value")
"""Keys under which a payload may hold its one text."""


def cohere(choice: Choice, kind: str, payload: Json) -> bool:
    """Take an event of Cohere's v2 in; false if it is none."""
    if kind not in _COHERE:
        return False
    delta = mapping(payload.get("delta"))
    said = mapping(delta.get("message"))
    content = mapping(said.get("content"))
    add(choice.text, content.get("text"))
    add(choice.reasoning, content.get("thinking"))
    add(choice.text, said.get("tool_plan"))
    if isinstance(said.get("tool_calls"), dict):
        number = len(choice.calls) - (kind == "tool-call-delta")
        function(choice.call(max(number, 0)), said["tool_calls"].get("id"), said["tool_calls"].get("function"))
    choice.finish_reason = word(delta.get("finish_reason")) or choice.finish_reason
    return True


def converse(answer: Answer, payload: Json) -> None:
    """A whole answer of Bedrock's Converse."""
    choice = answer.choice()
    for part in objects(mapping(mapping(payload["output"]).get("message")).get("content")):
        add(choice.text, part.get("text"))
        add(choice.reasoning, mapping(mapping(part.get("reasoningContent")).get("reasoningText")).get("text"))
        use = mapping(part.get("toolUse"))
        if use:
            call = choice.call(len(choice.calls))
            call.name, call.call_id = str(use.get("name") or ""), str(use.get("toolUseId") or "")
            add_arguments(call, use.get("input"))
    choice.finish_reason = word(payload.get("stopReason")) or choice.finish_reason


def converse_start(answer: Answer, payload: Json) -> None:
    """A block begins."""
    event = mapping(payload["contentBlockStart"])
    use = mapping(mapping(event.get("start")).get("toolUse"))
    if use:
        call = answer.choice().call(event.get("contentBlockIndex", 0))
        call.name, call.call_id = str(use.get("name") or ""), str(use.get("toolUseId") or "")


def converse_delta(answer: Answer, payload: Json) -> None:
    """A piece of a block."""
    event, choice = mapping(payload["contentBlockDelta"]), answer.choice()
    delta = mapping(event.get("delta"))
    add(choice.text, delta.get("text"))
    add(choice.reasoning, mapping(delta.get("reasoningContent")).get("text"))
    if isinstance(delta.get("toolUse"), dict):
        add_arguments(choice.call(event.get("contentBlockIndex", 0)), delta["toolUse"].get("input"))


def converse_stop(answer: Answer, payload: Json) -> None:
    """The answer ends."""
    answer.choice().finish_reason = word(mapping(payload["messageStop"]).get("stopReason"))


def one_text(answer: Answer, payload: Json) -> None:
    """A text, or a piece of one; the whole that some repeat at the end is passed over."""
    said = next((payload[name] for name in TEXTS if isinstance(payload.get(name), str)), None)
    if payload.get("is_finished") is not True and not (payload.get("generated_text") and "token" in payload):
        add(answer.choice().text, said)
    finish(answer.choice(), payload)


def token(answer: Answer, payload: Json) -> None:
    """A token of Text Generation Inference."""
    token = mapping(payload["token"])
    if token.get("special") is not True:
        add(answer.choice().text, token.get("text"))
    finish(answer.choice(), mapping(payload.get("details")))


def several_texts(answer: Answer, payload: Json) -> None:
    """Texts side by side: Titan, Mistral on Bedrock, Cohere's generations; or documents in order."""
    for name in ("outputs", "results", "generations"):
        for position, each in enumerate(objects(payload.get(name))):
            choice = answer.choice(position)
            if "relevance_score" in each:
                answer.notes.append(f"document {each.get('index', position)}: {each['relevance_score']}")
                continue
            add(choice.text, each.get("text") or each.get("outputText"))
            finish(choice, each)


def finish(choice: Choice, source: Json) -> None:
    """Why it ended, under its several names."""
    for name in ("done_reason", "finish_reason", "stop_reason", "completionReason", "stop_type"):
        choice.finish_reason = word(source.get(name)) or choice.finish_reason


def several_data(answer: Answer, payload: Json) -> None:
    """Vectors and images, named only."""
    found = [mapping(each) for each in items(payload["data"])]
    vectors = [each["embedding"] for each in found if "embedding" in each]
    if vectors:
        size = f" of {len(vectors[0])}" if isinstance(vectors[0], list) else ""
        answer.notes.append(f"{len(vectors)} vector{'s' * (len(vectors) > 1)}{size}")
    answer.notes += [
        str(each.get("url") or f"an image, {len(str(each['b64_json']))} characters of base64")
        for each in found
        if each.get("url") or each.get("b64_json")
    ]


def vectors(answer: Answer, payload: Json) -> None:
    """Vectors of Cohere, Ollama and Gemini."""
    vectors = payload["embeddings"]
    answer.notes.append(f"{len(vectors)} vectors" if isinstance(vectors, list) else "vectors by type")
