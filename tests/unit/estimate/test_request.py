from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usagetap.estimate.request import count_request, render_tools
from usagetap.estimate.vocabulary import family_of, tokenizer

pytest.importorskip("bpe_openai", reason="the `estimate` extra is not installed")

keys = st.sampled_from(
    ["messages", "content", "role", "tools", "functions", "parameters", "properties", "type", "text", "input", "name"]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys | st.text(max_size=5), inner, max_size=4),
    max_leaves=25,
)


def count(body, model="gpt-4o"):
    family = family_of(model)
    return count_request(tokenizer(family.encoding), family, body)


@settings(deadline=None)
@given(json_values)
def test_any_json_is_counted_or_is_not(body):
    found = count(body)
    assert found is None or found >= 0


def chat(*messages, **more):
    return {"model": "gpt-4o", "messages": [{"role": role, "content": text} for role, text in messages], **more}


def test_plain_conversations_as_recorded():
    # usage.prompt_tokens of api.openai.com for these very bodies
    assert count(chat(("user", "Hello"))) == 8
    assert count(chat(("user", "Hello")), "gpt-5-mini") == 7
    assert count(chat(("user", [{"type": "text", "text": "Hello"}]))) == 8


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "where"},
                "unit": {"type": "string", "enum": ["c", "f"]},
                "days": {"type": "array", "items": {"type": "integer"}},
            },
            "required": ["city"],
        },
    },
}


def test_tools_are_told_to_the_model_as_typescript():
    assert render_tools([WEATHER]).splitlines() == [
        "namespace functions {",
        "",
        "// Get the weather",
        "type get_weather = (_: {",
        "// where",
        "city: string,",
        'unit?: "c" | "f",',
        "days?: number[],",
        "}) => any;",
        "",
        "} // namespace functions",
    ]


def test_titles_and_defaults_are_told_as_well():
    tool = {
        "name": "add",
        "parameters": {
            "title": "add_args",
            "properties": {"a": {"title": "A", "type": "integer", "default": 1}},
        },
    }
    lines = render_tools([tool]).splitlines()
    assert lines[2:7] == ["type add = (_: {", "// add_args", "// A", "a?: number, // default: 1", "}) => any;"]


def test_definitions_are_told_where_they_are_used():
    author = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    parameters = {
        "properties": {
            "author": {"$ref": "#/$defs/Author"},
            "others": {"type": "array", "items": {"$ref": "#/$defs/A"}},
        },
        "$defs": {"Author": author, "A": {"$ref": "#/$defs/Author"}},
    }
    shown = render_tools([{"name": "f", "parameters": parameters}])
    assert "author?: {\nname: string,\n}," in shown
    assert "others?: {\nname: string,\n}[]," in shown


def test_a_definition_of_itself_ends():
    endless = {"properties": {"next": {"$ref": "#/$defs/Node"}}, "$defs": {"Node": {"$ref": "#/$defs/Node"}}}
    assert "type f" in render_tools([{"name": "f", "parameters": endless}])


def test_geminis_tools_hold_lists_of_functions():
    declared = {"name": "f", "parametersJsonSchema": {"properties": {"x": {"type": "string"}}}}
    assert "x?: string," in render_tools([{"functionDeclarations": [declared, {"name": "g"}]}, {"googleSearch": {}}])


SCHEMA = {
    "type": "object",
    "properties": {"name": {"title": "Name", "type": "string"}, "age": {"title": "Age", "type": "integer"}},
    "required": ["name", "age"],
    "title": "Person",
    "additionalProperties": False,
}


def test_schemas_are_shown_without_what_only_the_grammar_needs():
    # recorded for api.openai.com: 41 tokens of this schema in a Responses request to gpt-4o, title and all
    form = {"type": "json_schema", "name": "Person", "strict": True, "schema": SCHEMA}
    plain = {"model": "gpt-4o", "input": "Hello"}
    assert count({**plain, "text": {"format": form}}) - count(plain) == 41
    lax = {key: value for key, value in SCHEMA.items() if key not in ("required", "additionalProperties")}
    assert count({**plain, "text": {"format": {**form, "schema": lax}}}) - count(plain) == 41
    # in chat the schema is a system message of its own, where there is no other
    form = {"type": "json_schema", "json_schema": {"name": "Person", "schema": SCHEMA}}
    alone, after = chat(("user", "Hello")), chat(("system", "Hello"), ("user", "Hello"))
    added = [count({**body, "response_format": form}) - count(body) for body in (alone, after)]
    assert added[0] - added[1] == 4


@pytest.mark.parametrize("form", [1, {}, {"type": "json_schema", "json_schema": 1}, {"type": "json_schema"}])
def test_a_form_that_is_none_costs_little(form):
    body = chat(("user", "Hello"))
    assert 0 <= count({**body, "response_format": form}) - count(body) <= 12


def test_tools_cost_what_was_measured():
    # the frame around tools beside their text: (model, chat or Responses) -> tokens
    rendered = tokenizer("o200k_base").count(render_tools([WEATHER]))
    for model, in_chat, in_responses in (("gpt-4o", 9, 3), ("gpt-5.4", 90, 9), ("gpt-5-mini", 90, 9)):
        bodies = (chat(("user", "Hello")), in_chat), ({"model": model, "input": "Hello"}, in_responses)
        for body, around in bodies:
            assert count({**body, "tools": [WEATHER]}, model) - count(body, model) == rendered + around


def test_tools_and_schemas_and_calls_cost_tokens():
    bare = count(chat(("user", "Hello")))
    with_tools = count(chat(("user", "Hello"), tools=[WEATHER]))
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "properties": {}}}}
    assert with_tools > bare + 30
    assert count(chat(("user", "Hello"), response_format=schema)) > bare
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "get_weather", "arguments": "{}"}}]}
    called = chat(("user", "Hello"))
    called["messages"].append(call)
    assert count(called) > bare + 4


@pytest.mark.parametrize(
    "body",
    [
        chat(("user", [{"type": "image_url", "image_url": {"url": "https://x"}}])),
        chat(("user", "hi"), tools=[{"type": "web_search"}]),
        {"model": "gpt-4o", "input": "and then?", "previous_response_id": "resp_1"},
        {"model": "gpt-4o", "input": "and then?", "conversation": "conv_1"},
        {"contents": [{"parts": [{"text": "hi"}]}], "cachedContent": "cachedContents/1"},
        {"contents": [{"parts": [{"inlineData": {"data": "…"}}]}]},
        {"messages": []},
        {},
        [],
        None,
    ],
)
def test_what_the_body_does_not_tell_is_not_guessed(body):
    assert count(body) is None


def test_embeddings_and_completions_are_their_text():
    assert count({"model": "text-embedding-3-small", "input": "hello world"}, "text-embedding-3-small") == 2
    assert count({"model": "text-embedding-3-small", "input": ["hello", "world"]}, "text-embedding-3-small") == 2
    assert count({"model": "davinci-002", "prompt": "hello world"}, "davinci-002") == 2
    assert count({"model": "text-embedding-3-small", "input": [1, 2, 3]}, "text-embedding-3-small") == 3


def test_the_responses_api_with_one_text():
    assert count({"model": "gpt-4o", "input": "Hello"}) == 8
