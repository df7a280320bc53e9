"""The rewrite keeps every other byte: of a request all but the splice, of a response all but the usage frame."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.property.wire import WISHES, Spelling, Wish, byte_by_byte, event, split

from usagetap.framing import Sse
from usagetap.rewrite import (
    STRIP_LIMIT,
    Stripper,
    Untouchable,
    include_usage,
    is_usage_frame,
    members,
    strip_model_prefix,
)

SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Raw(str):
    """A number as the client wrote it."""


NUMBERS = st.sampled_from(["0", "-0", "1.0", "1e5", "1E-9", "123456789012345678901234567890", "0.10", "-1.5e+3"]).map(
    Raw
)
WORDS = st.sampled_from(
    ["model", "messages", "stream", "stream_options", "include_usage", "a", "b", "c", "é", "漢", '"', "\\"]
)
values = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
OPTIONS = st.dictionaries(
    st.sampled_from(["include_usage", "include_obfuscation", "continuous_usage_stats", "x"]), values
)


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """JSON text of `value`, with any whitespace and any escapes that JSON allows."""
    blank = st.sampled_from(["", "", "", " ", "\n  ", "\t", "\r\n"])

    def text(word: str) -> str:
        style = draw(st.sampled_from(["plain", "plain", "ascii", "php", "all escaped"]))
        if style == "all escaped":
            units = word.encode("utf-16-be")
            return '"' + "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)) + '"'
        quoted = json.dumps(word, ensure_ascii=style == "ascii")
        return quoted.replace("/", "\\/") if style == "php" else quoted

    def write(each: Any) -> str:
        if isinstance(each, Raw):
            return str(each)
        if isinstance(each, str):
            return text(each)
        if isinstance(each, dict):
            inner = (
                f"{draw(blank)}{text(key)}{draw(blank)}:{draw(blank)}{write(one)}{draw(blank)}"
                for key, one in each.items()
            )
            return "{" + (",".join(inner) or draw(blank)) + "}"
        if isinstance(each, list):
            return "[" + ",".join(f"{draw(blank)}{write(one)}{draw(blank)}" for one in each) + "]"
        return json.dumps(each)

    return draw(blank) + write(value) + draw(blank)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A chat request's body."""
    body = draw(st.dictionaries(WORDS, values, max_size=5))
    body.pop("stream_options", None)
    if draw(st.booleans()):
        body["stream_options"] = draw(st.none() | OPTIONS)
    body["stream"] = True
    items = draw(st.permutations(list(body.items())))
    return draw(written(dict(items))).encode()


def pairs(text: bytes) -> Any:
    """JSON with key order, duplicates and numbers as written."""
    return json.loads(text, object_pairs_hook=list, parse_int=str, parse_float=str)


def common(before: bytes, after: bytes) -> tuple[bytes, bytes]:
    """What was taken out of `before` and put into `after` in its place, as one splice."""
    start = 0
    while start < min(len(before), len(after)) and before[start] == after[start]:
        start += 1
    end = 0
    while end < min(len(before), len(after)) - start and before[-1 - end] == after[-1 - end]:
        end += 1
    return before[start : len(before) - end], after[start : len(after) - end]


@given(requests(), st.booleans(), st.booleans())
@settings(SLOW, max_examples=300)
def test_the_rewrite_keeps_every_other_byte(body: bytes, override: bool, continuous: bool) -> None:
    told = json.loads(body)
    edited = include_usage(body, override=override, continuous=continuous)
    # what it says
    wanted = ["include_usage", *(["continuous_usage_stats"] if continuous else [])]
    before = told.get("stream_options") or {}
    for name in wanted:
        kept = not override and before.get(name) is False
        assert json.loads(edited)["stream_options"][name] is not kept
    # what it keeps: order, numbers as written, everything else
    asked = [(key, value) for key, value in pairs(body) if key != "stream_options"]
    assert [(key, value) for key, value in pairs(edited) if key != "stream_options"] == asked
    options = dict(pairs(edited))["stream_options"]
    assert [(key, value) for key, value in options if key not in wanted] == [
        (key, value) for key, value in (dict(pairs(body)).get("stream_options") or []) if key not in wanted
    ]
    # and byte for byte: one splice, in which nothing was but null or another value of what is wanted
    taken, put = common(body, edited)
    assert len(put) <= len(b',"stream_options":{"include_usage":true,"continuous_usage_stats":true}') + len(taken)
    if not before:
        assert taken in (b"", b"null") or told.get("stream_options") == {}
    if edited == body:
        assert edited is body
    again = include_usage(edited, override=override, continuous=continuous)
    assert again is edited


@given(requests())
@settings(SLOW, max_examples=200)
def test_taking_the_splice_out_gives_back_the_original(body: bytes) -> None:
    if "stream_options" in json.loads(body):
        return
    edited = include_usage(body, override=True)
    assert edited.replace(b',"stream_options":{"include_usage":true}', b"", 1) == body


@given(requests())
@settings(SLOW, max_examples=200)
def test_members_are_what_a_parser_finds(body: bytes) -> None:
    found = members(body)
    assert [(member.key, json.loads(body[member.start : member.end])) for member in found] == list(
        json.loads(body).items()
    )


@given(requests(), st.sampled_from(["stream", "model", "stream_options"]))
@settings(SLOW, max_examples=150)
def test_duplicate_keys_are_left_alone(body: bytes, key: str) -> None:
    text = body.rstrip()[:-1] + b',"%b":null,"\\u00%x%b":null}' % (key.encode(), ord(key[0]), key[1:].encode())
    assert orjson.loads(text)
    with pytest.raises(Untouchable) as refused:
        include_usage(text, override=True)
    assert refused.value.reason == "duplicate_keys"
    if key == "model":
        with pytest.raises(Untouchable):
            strip_model_prefix(text, ["openai/"])


@given(st.data(), st.sampled_from(["gpt-5", "é/漢", 'q"', "openai/x", ""]), st.sampled_from(["openai/", "é/", "a", ""]))
@settings(SLOW, max_examples=300)
def test_the_prefix_goes_and_nothing_else(data: st.DataObject, name: str, prefix: str) -> None:
    rest = data.draw(st.dictionaries(WORDS.filter(lambda word: word != "model"), values, max_size=3))
    items = data.draw(st.permutations([*rest.items(), ("model", prefix + name)]))
    body = data.draw(written(dict(items))).encode()
    edited = strip_model_prefix(body, ["nobody/", prefix])
    (model,) = [member for member in members(body) if member.key == "model"]
    assert edited.startswith(body[: model.start])
    assert edited.endswith(body[model.end :])
    value = json.loads(edited[model.start : len(edited) - (len(body) - model.end)])
    assert value == (name or prefix)
    if not name or not prefix:
        assert edited is body


# -- what is withheld from a response

USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
STAY: list[Any] = [
    {"id": "c", "choices": [], "usage": USAGE},
    {"id": "c", "usage": USAGE},
    {"id": "c", "choices": None, "usage": USAGE | {"prompt_tokens_details": {"cached_tokens": 1}}},
]
PASS: list[Any] = [
    {"id": "c", "choices": [{"index": 0, "delta": {"content": "Hi"}}], "usage": None},
    {"id": "c", "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}], "usage": USAGE},
    {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
    {"choices": [], "usage": None},
    {"choices": [], "usage": 7},
    {"choices": [], "usage": USAGE, "error": {"message": "no"}},
    {"choices": [{"delta": {"content": '"usage":{"choices":[]'}}]},
    {"error": {"message": "overloaded"}},
    "[DONE]",
    "no JSON",
    [1, {"usage": {}}],
]


@st.composite
def responses(draw: st.DrawFn) -> tuple[list[bytes], list[bool]]:
    """Frames, and of each whether it stays behind."""
    line_end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    frames, stay = [], []
    for payload in draw(st.lists(st.sampled_from(STAY + PASS), max_size=8)):
        how = Spelling(
            line_end,
            space=draw(st.sampled_from([" ", ""])),
            comment=draw(st.sampled_from(["", "", ": hi"])),
            several_lines=draw(st.booleans()),
        )
        frames.append(event(None, payload if isinstance(payload, str) else json.dumps(payload), how))
        stay.append(payload in STAY)
        if draw(st.booleans()):
            frames.append(draw(st.sampled_from([b": keep-alive\n\n", b": OPENROUTER PROCESSING\r\n\r\n"])))
            stay.append(False)
    return frames, stay


@given(responses(), WISHES)
@settings(SLOW, max_examples=300)
def test_every_byte_but_the_usage_frames_passes_at_any_split(
    response: tuple[list[bytes], list[bool]], wish: Wish
) -> None:
    frames, stay = response
    expected = b"".join(frame for frame, stays in zip(frames, stay, strict=True) if not stays)
    body = b"".join(frames)
    for chunks in ([body], frames, split(body, wish), byte_by_byte(body)):
        stripper = Stripper()
        passed = b"".join([*map(stripper.feed, chunks), stripper.release()])
        assert passed == expected
        assert stripper.stripped == sum(stay)
    assert [is_usage_frame(frame) for frame in frames] == stay


@given(responses())
@settings(SLOW, max_examples=200)
def test_a_whole_frame_is_never_held(response: tuple[list[bytes], list[bool]]) -> None:
    """Azure's first frame, a frame with a choice, a comment: each leaves with its own chunk."""
    stripper = Stripper()
    for frame, stays in zip(*response, strict=True):
        assert stripper.feed(frame) == (b"" if stays else frame)
        assert stripper.release() == b""


@given(
    st.lists(
        st.binary(max_size=60) | st.sampled_from([b"\r", b"\n", b"\r\n", b'"usage":{', b'"choices":[{', b"data: "])
    )
)
@settings(SLOW, max_examples=300)
def test_what_is_no_stream_passes_unchanged(chunks: list[bytes]) -> None:
    body = b"".join(chunks)
    if any(map(is_usage_frame, Sse(1 << 20).feed(body))):
        return
    stripper = Stripper()
    assert b"".join([*map(stripper.feed, chunks), stripper.release()]) == body


@pytest.mark.parametrize("step", [1, 1_000, 40_000, 1 << 20])
@pytest.mark.parametrize("begin", [b'data: {"x":"', b'data: {"choices":[],"usage":{"x":"', b": comment "])
def test_no_more_than_64_kib_are_ever_held(begin: bytes, step: int) -> None:
    body = begin + b"y" * (STRIP_LIMIT + 20_000)
    stripper, passed = Stripper(), b""
    for at in range(0, len(body), step):
        passed += stripper.feed(body[at : at + step])
        assert min(at + step, len(body)) - len(passed) <= STRIP_LIMIT
    passed += stripper.feed(b'"}}\n\n')
    assert passed == body + b'"}}\n\n'
    assert stripper.feed(b'data: {"choices":[],"usage":{}}\n\ndata: 2\n\n') == b"data: 2\n\n"


def test_a_choice_lets_its_frame_go_at_once() -> None:
    stripper = Stripper()
    assert stripper.feed(b'data: {"id":"c","choi') == b""
    assert stripper.feed(b'ces" : [ ') == b""
    assert stripper.feed(b'{"delta') == b'data: {"id":"c","choices" : [ {"delta'
    assert stripper.feed(b'":{}}],"usage":{}}\n') == b'":{}}],"usage":{}}\n'
    assert stripper.feed(b"\n") == b"\n"
