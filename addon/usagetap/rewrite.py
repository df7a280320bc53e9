"""The smallest edit of a request, and the one frame that may be withheld from a response.

A request body is edited by splicing bytes in: every other byte, key order, number and space stays as the client sent it
(re-serialising reorders keys and kills prompt caches: kubeai #690).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from usagetap.framing import BLANK_LINE, Sse
from usagetap.model import Request

STRIP_LIMIT = 64 << 10
"""Bytes of one undecided frame that may be held back (contract.md, section 5)."""


class Untouchable(Exception):
    """A body that cannot be edited safely; the argument is the word for the column `inject_skipped`."""

    @property
    def reason(self) -> str:
        """The word for the column."""
        return str(self.args[0])


class Member(NamedTuple):
    """One key of a JSON object and where its value stands in the text."""

    key: str
    start: int
    end: int


_KEY = re.compile(rb'[\s,]*("(?:[^"\\]++|\\.)*+")\s*:\s*', re.DOTALL)
_SCALAR = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[^\s,{}\[\]"]+', re.DOTALL)
_NESTED = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\]]', re.DOTALL)
_BLANK = b" \t\r\n"


def members(text: bytes, start: int = 0) -> list[Member]:
    """The keys of the JSON object that begins at `start`, in order, duplicates included. `text` must be valid JSON."""
    found = []
    at = text.index(b"{", start) + 1
    while key := _KEY.match(text, at):
        value_start = key.end()
        scalar = _SCALAR.match(text, value_start)
        at = scalar.end() if scalar else _end_of_nested(text, value_start)
        found.append(Member(orjson.loads(key[1]), value_start, at))
    return found


def _end_of_nested(text: bytes, start: int) -> int:
    depth = 0
    for token in _NESTED.finditer(text, start):
        bracket = token[0]
        if bracket in (b"{", b"["):
            depth += 1
        elif bracket in (b"}", b"]"):
            depth -= 1
            if depth == 0:
                return token.end()
    raise Untouchable("not_json")


def include_usage(text: bytes, *, override: bool, continuous: bool = False) -> bytes:
    """`text`, a JSON object with `"stream": true`, with `stream_options.include_usage` true.

    Without `override` an explicit `false` stays as it is. `continuous` adds `continuous_usage_stats` (vLLM, SGLang).
    Returns `text` itself where nothing needs to change; raises `Untouchable` where the edit would not be safe.
    """
    keys = [] if _is_silent(text) else members(text)
    names = [member.key for member in keys]
    if len(set(names)) != len(names):
        raise Untouchable("duplicate_keys")
    wanted = ["include_usage", *(["continuous_usage_stats"] if continuous else [])]
    value = b"{" + b",".join(b'"%b":true' % name.encode() for name in wanted) + b"}"
    options = next((member for member in keys if member.key == "stream_options"), None)
    if options is None:
        rest = text[: text.rindex(b"}")].rstrip(_BLANK)
        comma = b"" if rest.endswith(b"{") else b","
        return rest + comma + b'"stream_options":' + value + text[len(rest) :]
    if text[options.start : options.end] == b"null":
        return text[: options.start] + value + text[options.end :]
    if text[options.start : options.start + 1] != b"{":
        raise Untouchable("stream_options_shape")
    for name in wanted:
        text = _set_true(text, options.start, name, override=override)
    return text


_ESCAPED = re.compile(rb"\\u00[5-7]")
"""A letter or underscore as an escape, with which a key may be spelled in another way."""


def _is_silent(text: bytes) -> bool:
    """Whether no key of `text` is `stream_options`, and `stream` stands in it once: then there is no need to look for
    its keys, which takes milliseconds in a long conversation. (Another key that is there twice is upstream's affair.)
    """
    return b"stream_options" not in text and text.count(b'"stream"') == 1 and not _ESCAPED.search(text)


def _set_true(text: bytes, start: int, name: str, *, override: bool) -> bytes:
    """Make `name` true in the object at `start`, whose end may have moved."""
    inner = members(text, start)
    if len({member.key for member in inner}) != len(inner):
        raise Untouchable("duplicate_keys")
    present = next((member for member in inner if member.key == name), None)
    if present is None:
        comma = b"," if inner else b""
        return text[: start + 1] + b'"%b":true' % name.encode() + comma + text[start + 1 :]
    value = text[present.start : present.end]
    if value == b"true" or (value == b"false" and not override):
        return text
    return text[: present.start] + b"true" + text[present.end :]


def strip_model_prefix(text: bytes, prefixes: Sequence[str]) -> bytes:
    """`text` with the first of `prefixes` that its top-level `model` begins with taken off; `text` itself for none.

    Raises `Untouchable` for duplicate keys.
    """
    keys = members(text)
    models = [member for member in keys if member.key == "model"]
    if len(models) > 1:
        raise Untouchable("duplicate_keys")
    for member in models:
        model = orjson.loads(text[member.start : member.end])
        for prefix in prefixes:
            # compared as a string: PHP writes "openai\/gpt-5"
            if isinstance(model, str) and prefix and model.startswith(prefix) and model != prefix:
                return text[: member.start] + orjson.dumps(model[len(prefix) :]) + text[member.end :]
    return text


_SIGNATURE_HEADERS = (
    "x-amz-content-sha256",
    "content-digest",
    "digest",
    "content-md5",
    "signature-input",
    "repr-digest",
)


def signed(headers: Mapping[str, str], query: Mapping[str, str]) -> bool:
    """Whether something vouches for the body's bytes (AWS SigV4, HTTP message signatures, a digest)."""
    authorization = headers.get("authorization", "")
    if authorization.startswith(("AWS4-", "Signature ")) or "X-Amz-Signature" in query:
        return True
    return any(name in headers for name in _SIGNATURE_HEADERS)


#: who refuses `stream_options`: 422 extra_forbidden (dnakov/anon-kode#53); Databricks serving of Bedrock and Claude
#: models (anomalyco/opencode#4698)
_REFUSING_HOSTS = re.compile(r"(?:^|\.)(?:api\.mistral\.ai|codestral\.mistral\.ai)$")
_DATABRICKS = re.compile(r"\.(?:azuredatabricks\.net|cloud\.databricks\.com|gcp\.databricks\.com)$")
_AZURE_SINCE = "2024-10-21"
"""Azure OpenAI takes the field from this api-version on (griptape-ai/griptape#1640)."""


def refuses(request: Request) -> str | None:
    """Why this request must not get `stream_options`, as the word for `inject_skipped`; `None` where it may."""
    if _REFUSING_HOSTS.search(request.host) or (_DATABRICKS.search(request.host) and "claude" in request.path):
        return "host_refuses"
    version = request.query.get("api-version", "")
    if "/deployments/" in request.path and re.match(r"\d{4}-\d\d-\d\d", version) and version[:10] < _AZURE_SINCE:
        return "api_version"
    if isinstance(request.body, dict) and "data_sources" in request.body:  # Azure/azure-sdk-for-js#30751
        return "data_sources"
    return None


_BLAME = re.compile(rb"stream_options|include_usage|continuous_usage_stats")
_REFUSING_WORDS = re.compile(
    rb"unknown|unrecognized|unsupported|not (?:supported|allowed|permitted|valid|a valid|recognized)|extra|unexpected|"
    rb"invalid(?!_request)|forbidden|additional|param incorrect|does not support|should not exist|only allowed",
    re.IGNORECASE,
)


def blames_us(http_status: int, body: bytes) -> bool:
    """Whether a refusal is about the field that we added: status 400 or 422, and a body that names the field.

    The field's name must stand with a word of refusal: a body that merely echoes the request is no refusal of it.
    """
    if http_status not in (400, 422):
        return False
    return any(
        _REFUSING_WORDS.search(body, max(found.start() - 300, 0), found.end() + 300)
        for found in list(_BLAME.finditer(body[: 64 << 10]))[:8]
    )


_HAS_CHOICE = re.compile(rb'"choices"\s*:\s*\[\s*[^\s\]]')
_CHOICE_BEGUN = 64
"""Bytes in which a choice may have begun; one in more whitespace is found when its frame ends."""
_HAS_USAGE = re.compile(rb'"usage"\s*:\s*\{')


def is_usage_frame(frame: bytes) -> bool:
    """Whether an SSE frame is the final usage frame: `choices` empty or absent, `usage` an object, and no error.

    Azure's first frame has empty choices and no usage; it is not one (litellm #14298).
    """
    if not _HAS_USAGE.search(frame) or _HAS_CHOICE.search(frame):
        return False
    payload = Sse(STRIP_LIMIT).payload(frame)
    try:
        told: Any = orjson.loads(payload or b"")
    except orjson.JSONDecodeError:
        return False
    if not isinstance(told, dict) or told.get("error") is not None:
        return False
    return not told.get("choices") and isinstance(told.get("usage"), dict)


def _ends_a_frame(chunk: bytes) -> bool:
    """Whether the last bytes are one blank line, and not part of several: of those, one may begin the next frame."""
    if chunk.endswith(b"\r\n\r\n"):
        return chunk[-5:-4] not in (b"\r", b"\n")
    return chunk.endswith(b"\n\n") and chunk[-3:-2] not in (b"\r", b"\n")


class Stripper:
    """Passes a plain SSE body on without its usage frame; every other byte leaves as it came.

    Only the bytes of one undecided frame are held: until it ends, until a choice shows that it is another frame, or
    until there are `STRIP_LIMIT` of them.
    """

    def __init__(self) -> None:
        self.stripped = 0
        self._held = bytearray()
        self._passing = False  # the frame that has begun is decided: the rest of it passes
        self._tail = b""  # the last bytes of the frame that has begun: its blank line may have begun too
        self._line_feed: bytes | None = None  # what goes on of an LF that comes now: the last frame ended in a CR

    @property
    def held(self) -> bytes:
        """What is held back for now."""
        return bytes(self._held)

    def feed(self, chunk: bytes) -> bytes:
        """What of `chunk`, and of what was held before it, goes on now."""
        passed = bytearray()
        if self._line_feed is not None and chunk:
            if chunk.startswith(b"\n"):
                passed += self._line_feed
                chunk = chunk[1:]
            self._line_feed = None
        if not self._tail and _ends_a_frame(chunk) and not _HAS_USAGE.search(chunk):
            return bytes(passed) + chunk  # the usual chunk: whole frames, none of them in question
        window, before = self._tail + chunk, len(self._tail)
        begin = 0
        for blank in BLANK_LINE.finditer(window):
            end = blank.end() - before
            stays = self._decide(chunk[begin:end], passed)
            if end == len(chunk) and window.endswith(b"\r"):
                self._line_feed = b"" if stays else b"\n"
            begin = end
        rest = chunk[begin:]
        self._tail = window[-3:] if begin == 0 else rest[-3:]
        if self._passing:
            passed += rest
        else:
            searched = max(0, len(self._held) - _CHOICE_BEGUN)
            self._held += rest
            if len(self._held) > STRIP_LIMIT or _HAS_CHOICE.search(self._held, searched):
                passed += self.release()
                self._passing = True
        return bytes(passed)

    def _decide(self, end_of_frame: bytes, passed: bytearray) -> bool:
        """Pass the frame that ends here on, but for a usage frame; true for that one."""
        frame = self.release() + end_of_frame
        stays = not self._passing and is_usage_frame(frame)
        self._passing = False
        if stays:
            self.stripped += 1
        else:
            passed += frame
        return stays

    def release(self) -> bytes:
        """What is held; the end of the body, or of our trust in ourselves."""
        held = bytes(self._held)
        self._held.clear()
        return held
