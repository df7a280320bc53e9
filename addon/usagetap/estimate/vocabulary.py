"""Which vocabulary a model's tokens come from, and the tokenizer for it (extra `estimate`: bpe-openai).

OpenAI's vocabularies are public and counts with them are exact. Other makers' are not in the wheel: their texts are
counted with OpenAI's newest and scaled by what the corpus shows for the family, which is an approximation.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol


class Tokenizer(Protocol):
    """What is used of bpe-openai's Rust tokenizer."""

    def count(self, text: str) -> int:
        """How many tokens `text` is."""
        ...

    def pretokenize(self, text: str) -> list[str]:
        """`text` cut where no token may reach across."""
        ...


@dataclass(frozen=True, slots=True)
class Family:
    """How models of one family count. Overheads are what usage says beyond the visible text, in tokens."""

    name: str
    encoding: str = "o200k_base"
    exact: bool = False
    """The vocabulary is the model's own."""
    scale: float = 1.0
    """Tokens of the model for each token of `encoding`, from the corpus."""
    per_answer: int = 0
    """Before an answer: the marks of its channel."""
    per_thought: int = 0
    """Before an answer of chat that was thought about, which chat does not show (Responses does: 2)."""
    per_schema: int = 0
    """Before an answer that is held to a schema."""
    per_offer: int = 0
    """Before an answer in words where tools were offered."""
    per_call: int = 7
    """Around a tool call."""
    per_message: int = 4
    """Around a message of the request."""
    per_request: int = 3
    per_past_call: int = 4
    """Around a call in the conversation and its result."""
    around_tools: int = 9
    """Around the definitions of tools, beside their text."""
    around_tools_chat: int = 9
    """The same in chat: later models are told there how to call, in some eighty tokens."""
    tools_in_system: bool = False
    """Tools are told in the system message, where there is one, and need no frame of their own."""


#: the first that matches the model's name (without a `provider/` before it) holds. OpenAI's marks are what is left of
#: its counts when the text's tokens are taken off; they were read off one half of the corpus, and
#: `python -m bench.estimates` measures on the other
FAMILIES: tuple[tuple[str, Family], ...] = (
    (
        r"gpt-3\.5|gpt-35|gpt-4(?![.o\d])|text-embedding|davinci-002|babbage-002",
        Family("gpt-4", "cl100k_base", True, tools_in_system=True),
    ),
    (
        r"gpt-5\.|gpt-[6-9]",
        Family(
            "gpt-5.x", exact=True, per_answer=3, per_schema=4, per_request=2, per_past_call=12, around_tools_chat=90
        ),
    ),
    (
        r"gpt-5",
        Family(
            "gpt-5",
            exact=True,
            per_answer=3,
            per_thought=6,
            per_schema=3,
            per_request=2,
            per_past_call=9,
            around_tools_chat=90,
        ),
    ),
    (r"o[134](-|$)", Family("o-series", exact=True, per_answer=3, per_thought=10, per_request=2)),
    (r"gpt-oss", Family("gpt-oss", per_answer=9, per_message=5, per_request=63)),
    (
        r"gpt-|chatgpt-|ft:|codex|computer-use",
        Family("gpt-4o", exact=True, per_offer=1, per_schema=4, around_tools=3, tools_in_system=True),
    ),
    (
        r"claude|anthropic",
        Family("claude", scale=1.14, per_answer=3, per_call=36, around_tools=430, around_tools_chat=430),
    ),
    (r"gemini|gemma", Family("gemini", scale=1.04, per_call=10, per_message=0, per_request=1)),
    (r"mi[sx]tral|magistral|codestral|devstral|ministral|voxtral", Family("mistral", scale=1.15, per_message=2)),
    (r"llama", Family("llama", per_message=5, per_request=10)),
    (r"qwen|qwq", Family("qwen", per_message=5, per_request=4)),
    (r"deepseek", Family("deepseek", per_answer=1, per_message=4, per_request=0)),
    (r"grok", Family("grok", per_call=30, per_message=7)),
    (r"kimi|moonshot", Family("kimi", scale=1.1)),
    (r"glm", Family("glm", per_answer=4)),
    (r"command|cohere", Family("command")),
)
_COMPILED = tuple((re.compile(pattern), family) for pattern, family in FAMILIES)
UNKNOWN = Family("unknown")


@lru_cache(maxsize=1024)
def family_of(model: str | None) -> Family:
    """The family of `model`; `UNKNOWN` (counted with OpenAI's newest vocabulary) where the name says nothing."""
    name = (model or "").lower()
    for candidate in (name.rpartition("/")[2], name):
        for pattern, family in _COMPILED:
            if pattern.match(candidate) or (not family.exact and pattern.search(candidate)):
                return family
    return UNKNOWN


def installed() -> bool:
    """Whether the extra is there."""
    return importlib.util.find_spec("bpe_openai") is not None


@lru_cache(maxsize=4)
def tokenizer(encoding: str) -> Tokenizer:
    """The tokenizer of `encoding`; some 70 MB stay in memory for each. `ImportError` without the extra.

    The Rust part is loaded by itself: the package around it reads every vocabulary a second time at import, which
    costs half a second and 60 MB that nobody needs.
    """
    package = importlib.util.find_spec("bpe_openai")
    if package is None:
        raise ImportError("bpe-openai is not installed: pip install 'usagetap[estimate]'")
    spec = importlib.machinery.PathFinder.find_spec("_bindings", package.submodule_search_locations)
    if spec is None or spec.loader is None:
        from bpe_openai import _bindings
    else:
        _bindings = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(_bindings)
    found: Tokenizer = _bindings.tokenizer_for_encoding(encoding)
    return found
