"""How the fake upstream is to answer, told by the request itself so that any real client can drive it.

The words stand in the header `x-upstream`, or after the model's name and an `@`, separated by `;`, and are laid over
the server's own default:

    curl -H 'x-upstream: chunks=50;delay=0.01;die=10;cut=rst' …
    client.chat.completions.create(model="gpt-4o@tools=1;encoding=gzip", …)

A word alone is a yes (`crlf`), `=0` takes it back. What each one does stands beside its field below.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Any, get_type_hints

CUTS = ("fin", "rst", "silence", "bad_chunk", "half_head", "stream", "cancel", "goaway", "graceful", "late_reset")
REFUSALS = ("400", "422", "openai", "azure", "azure_old", "mistral", "databricks")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Every word of the little language, with its default. Counts are of frames unless said otherwise."""

    # what the model generates
    chunks: int = 5
    """pieces of text"""
    size: int = 0
    """letters per piece of text (0: words of several scripts)"""
    reasoning: int = 0
    """pieces of thinking before the text"""
    tools: int = 0
    """tool calls after the text"""
    finish: str | None = None
    """the reason to name, in the dialect's own word (none: the dialect's fallback)"""
    error: int | None = None
    """the generator raises after that many pieces: an error frame inside a 200 stream, a 500 when not streaming"""
    input: int = 11
    """input tokens, cached ones included"""
    output: int | None = None
    """output tokens, thinking included (none: one per piece)"""
    cached: int = 0
    """cached tokens in the input"""
    written: int | None = None
    """tokens written to the cache, in the input"""
    # what is left out or told differently
    no_usage: bool = False
    """usage never comes, whoever asked"""
    no_done: bool = False
    """the stream ends well but without its terminal event"""
    crlf: bool = False
    """frames end in CR LF"""
    untyped: bool = False
    """no content-type on the answer"""
    # answers that are no answer
    refuse: str | None = None
    """refuse `stream_options`, in the words of `openai`, `azure`, `azure_old`, `mistral` or `databricks`
    (`400` is `azure`, `422` is `mistral`); a request without it is answered"""
    status: int | None = None
    """answer this HTTP status with the dialect's error body"""
    # pace
    first: float = 0
    """seconds before the head"""
    delay: float = 0
    """seconds before each piece"""
    hold: int | None = None
    """after that many pieces, wait for `Upstream.release()`"""
    silent: bool = False
    """take the request and never answer"""
    # how it breaks
    die: int | None = None
    """break after that many pieces; -1: before the head; with `cut` and without `die`: instead of the body's end"""
    cut: str | None = None
    """`fin` (default), `rst`, `silence` (never another byte), `bad_chunk` (a malformed chunk header), `half_head`;
    HTTP/2: `stream` (RST_STREAM INTERNAL_ERROR), `cancel` (RST_STREAM CANCEL), `goaway` (and close), `graceful`
    (GOAWAY NO_ERROR, the stream goes on), `late_reset` (RST_STREAM NO_ERROR after the end)"""
    # the wire
    encoding: str | None = None
    """gzip, deflate, deflate_raw, br, zstd, or several with `+`; flushed at each piece; not if the request's
    accept-encoding does not name it"""
    stubborn: bool = False
    """compress whatever the request accepts"""
    unfinished: bool = False
    """leave out the compressor's trailer"""
    framing: str | None = None
    """`chunked`, `length` (content-length), `close` (body ends with the connection); none: what fits"""
    join: int = 1
    """that many frames per piece"""
    slice: int = 0
    """cut the body anew into pieces of that many bytes; -1: into pieces of random length, also inside characters"""
    seed: int = 0
    """of the random lengths"""
    hints: bool = False
    """103 Early Hints before the head"""
    trailers: bool = False
    """trailers after the body"""

    def __post_init__(self) -> None:
        _check("cut", self.cut, CUTS)
        _check("refuse", self.refuse, REFUSALS)
        _check("framing", self.framing, ("chunked", "length", "close"))
        for coding in (self.encoding or "").split("+"):
            _check("encoding", coding or None, ("gzip", "deflate", "deflate_raw", "br", "zstd", "identity"))


def _check(name: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        raise ValueError(f"{name}={value} is not known; use one of {', '.join(allowed)}")


_TYPES: dict[str, Any] = get_type_hints(Behaviour)
NAMES = tuple(field.name for field in fields(Behaviour))
_SUFFIX = re.compile(r"[a-z_]+(=[^;]*)?(;[a-z_]+(=[^;]*)?)*;?")


def parse_behaviour(words: str, default: Behaviour | None = None) -> Behaviour:
    """Lay `words` over `default`. An unknown word or an impossible value raises ValueError with what is allowed."""
    said: dict[str, Any] = {}
    for word in filter(None, (part.strip() for part in words.split(";"))):
        name, equals, value = word.partition("=")
        name = name.strip().replace("-", "_")
        if name not in NAMES:
            raise ValueError(f"{name} is not a word of the fake upstream; it knows {', '.join(NAMES)}")
        said[name] = _value(name, value.strip() if equals else None)
    return replace(default or Behaviour(), **said)


def _value(name: str, text: str | None) -> Any:
    kind = str(_TYPES[name])
    if "bool" in kind:
        return text not in ("0", "false", "no")
    if text is None:
        if "int" in kind:
            return 1
        raise ValueError(f"{name} needs a value: {name}=…")
    if "str" in kind:
        return text.replace("-", "_") if name in ("cut", "refuse", "encoding") else text
    try:
        return float(text) if "float" in kind else int(text)
    except ValueError:
        raise ValueError(f"{name}={text} is not a number") from None


def split_model(model: str) -> tuple[str, str]:
    """The model's name and the words after its `@`; a suffix that is no such words belongs to the name."""
    name, _, words = model.rpartition("@")
    if name and _SUFFIX.fullmatch(words) and words.partition("=")[0].partition(";")[0] in NAMES:
        return name, words
    return model, ""
