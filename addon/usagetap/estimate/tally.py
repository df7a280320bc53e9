"""Counting an answer while it streams by, without keeping it.

Text is counted in runs; what is kept is the end of each strand, where a token may still grow. So the count is the same
however the stream was cut.

Around the text lie marks that are counted as output and never shown: which channel follows, which tool is called, that
the turn has ended. OpenAI's were measured (`bench/estimates.py`): they are the same for every answer of a kind.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

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
#: OpenAI's wrapping of parallel calls: so many once, and so many for each call
_PARALLEL, _EACH = 16, 7


class Asked(NamedTuple):
    """What of a request decides which marks lie around its answer."""

    forced_tool: bool = False
    """It names the tool to call, so the name is not written, nor anything around it."""
    tools: bool = False
    schema: bool = False


_NOTHING = Asked()


def asked(body: Any) -> Asked:
    """What `body`, a request of chat or of the Responses API, asks for."""
    if not isinstance(body, dict):
        return Asked()
    choice, text = body.get("tool_choice"), body.get("text")
    form = body.get("response_format") or (text.get("format") if isinstance(text, dict) else None)
    return Asked(
        forced_tool=isinstance(choice, dict) and choice.get("type") == "function",
        tools=bool(body.get("tools")),
        schema=isinstance(form, dict) and form.get("type") == "json_schema",
    )


class OutputTally:
    """How many output tokens have passed. Feed it texts or payloads, ask `total` at any time."""

    def __init__(self, tokenizer: Tokenizer, family: Family, dialect: str, asked: Asked = _NOTHING) -> None:
        self._tokenizer = tokenizer
        self._family = family
        self._responses = dialect == "openai_responses"
        self._dialect = dialect
        self._asked = asked
        # models that think first write the name even so
        self._forced = asked.forced_tool and not family.per_answer
        self._counted = 0
        self._tails: dict[Strand, str] = {}
        self._calls: set[Strand] = set()
        self._spoke = False
        self._ended = False
        self._thought = False

    def observe(self, payload: Any) -> None:
        """Count what one parsed payload adds. Total: any JSON is fine."""
        for strand, text in strands(self._dialect, payload):
            self.feed(text, strand)
        if self._responses and isinstance(payload, dict):
            kind, item = payload.get("type"), payload.get("item")
            self._ended |= kind == "response.completed"
            self._thought |= isinstance(item, dict) and item.get("type") == "reasoning"

    def feed(self, text: str, strand: Strand = ("text",)) -> None:
        """Count `text`, the next piece of `strand`."""
        if not text or (self._forced and strand[:2] == (TOOL, "name")):
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
        groups = self._groups()
        visible = self._counted + sum(
            self._tokenizer.count(_compacted(tail) if self._parallel(strand, groups) else tail)
            for strand, tail in self._tails.items()
        )
        return math.ceil(visible * self._family.scale) + self._marks(groups)

    def _groups(self) -> dict[str, int]:
        """How many calls each choice makes. The Responses API has one choice, whose items are counted through."""
        groups: dict[str, int] = {}
        for call in self._calls:
            choice = "" if self._responses or not call else call[0]
            groups[choice] = groups.get(choice, 0) + 1
        return groups

    def _marks(self, groups: dict[str, int]) -> int:
        """What is written around texts and calls, and at the end of a turn, which the Responses API counts as well."""
        family, spoken = self._family, self._spoken()
        if not family.exact:
            return family.per_answer + self._ended + sum(family.per_call * calls for calls in groups.values())
        marks = self._ended + sum(self._before_text(strand) for strand in spoken)
        for calls in groups.values():
            if not self._forced:
                marks += family.per_answer + (family.per_call if calls == 1 else _PARALLEL + _EACH * calls)
        if self._responses:
            return marks + 2 * self._thought
        return marks + family.per_thought * max(len({strand[-1] for strand in spoken} | groups.keys()), 1)

    def _parallel(self, strand: Strand, groups: dict[str, int]) -> bool:
        return self._family.exact and strand[:2] == (TOOL, "arguments") and groups.get(strand[2], 0) > 1

    def _spoken(self) -> list[Strand]:
        return [strand for strand in self._tails if strand[0] in ("text", "refusal")]

    def _before_text(self, strand: Strand) -> int:
        family, tools = self._family, self._asked.tools
        refused = strand[0] == "refusal"
        # models without channels have nothing to say before a text, unless it could have been a call
        schema = self._asked.schema and not refused and (tools or family.per_answer > 0)
        offer = family.per_offer if tools or refused else 0
        return family.per_answer + offer + (family.per_schema if schema else 0)


def _compacted(arguments: str) -> str:
    """Arguments as the model wrote them: those of parallel calls are shown with spaces that it did not write."""
    return arguments.replace('": ', '":').replace(', "', ',"')
