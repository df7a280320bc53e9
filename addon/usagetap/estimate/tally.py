"""Counting an answer while it streams by, without keeping it.

Text is counted in runs; what is kept is the end of each strand, where a token may still grow. So the count is the same
however the stream was cut.
"""

from __future__ import annotations

import math
from typing import Any

from usagetap.estimate.deltas import TOOL, Strand, strands
from usagetap.estimate.vocabulary import Family, Tokenizer

#: characters of a strand that are gathered before they are counted
_RUN = 4096
#: a piece that grows beyond this (no boundary in it: padding, base64) is counted as it is, to bound memory
_LONGEST = 65_536
#: strands that are told apart; a stranger's stream may name any number of them
_STRANDS = 64
#: boundaries at the end of a text that later text can still move (`don` `'` becomes `don't`)
_UNSETTLED = 3


class OutputTally:
    """How many output tokens have passed. Feed it texts or payloads, ask `total` at any time."""

    def __init__(self, tokenizer: Tokenizer, family: Family, dialect: str, *, forced_tool: bool = False) -> None:
        """`forced_tool`: the request named the tool to call, so its name is not written, nor anything around it."""
        self._tokenizer = tokenizer
        self._family = family
        self._dialect = dialect
        self._forced_tool = forced_tool
        self._counted = 0
        self._tails: dict[Strand, str] = {}
        self._calls: set[Strand] = set()
        self._spoke = False

    def observe(self, payload: Any) -> None:
        """Count what one parsed payload adds. Total: any JSON is fine."""
        for strand, text in strands(self._dialect, payload):
            self.feed(text, strand)

    def feed(self, text: str, strand: Strand = ("text",)) -> None:
        """Count `text`, the next piece of `strand`."""
        if not text or (self._forced_tool and strand[:2] == (TOOL, "name")):
            return
        self._spoke = True
        if strand not in self._tails and len(self._tails) >= _STRANDS:
            strand = ("rest",)
        if strand[0] == TOOL:
            self._calls.add(strand[2:])
        tail = self._tails.get(strand, "") + text
        if len(tail) >= _RUN:
            tail = self._settle(tail)
        self._tails[strand] = tail

    def _settle(self, text: str) -> str:
        """Count all of `text` that later text cannot change; give back the rest."""
        pieces = self._tokenizer.pretokenize(text)
        settled = max(len(pieces) - _UNSETTLED, 0)
        # how white space is cut depends on what follows it: it must not be the end of what is counted
        while settled and pieces[settled - 1][-1].isspace():
            settled -= 1
        kept = "".join(pieces[settled:])
        if len(kept) >= _LONGEST:
            kept = ""
        self._counted += self._tokenizer.count(text[: len(text) - len(kept)])
        return kept

    @property
    def total(self) -> int:
        """Output tokens so far, with what the family adds around answers and calls; 0 if nothing was said."""
        if not self._spoke:
            return 0
        visible = self._counted + sum(self._tokenizer.count(tail) for tail in self._tails.values())
        # the Responses API counts the end of the turn as well
        around = self._family.per_answer + (self._dialect == "openai_responses")
        return math.ceil(visible * self._family.scale) + around + self._around_calls()

    def _around_calls(self) -> int:
        """What is written around tool calls; OpenAI wraps parallel ones in one more (12 + 8 each, on the corpus)."""
        calls, each = len(self._calls), self._family.per_call
        if self._forced_tool or not calls:
            return 0
        return each if calls == 1 else 12 + (each + 1) * calls
