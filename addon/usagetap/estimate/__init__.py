"""Counting tokens offline, for what the provider never said (extra `estimate`). Never exact columns, only `estimated_`.

Counts are for people who ask what an aborted stream may have cost. What is hidden cannot be counted: a reasoning
model's thoughts do not pass by, so its estimate is of the visible answer.
"""

from __future__ import annotations

import math
from typing import Any

from usagetap.estimate import vocabulary
from usagetap.estimate.deltas import delta_text, strands
from usagetap.estimate.request import count_request
from usagetap.estimate.tally import OutputTally, asked

__all__ = ["Estimator", "OutputTally", "delta_text", "strands"]


class Estimator:
    """Token counts by model. Cheap to make; a vocabulary is loaded (60 ms, 70 MB) when it is first counted with."""

    @staticmethod
    def available() -> bool:
        """Whether the `estimate` extra is installed; without it every count is `None`."""
        return vocabulary.installed()

    def exact(self, model: str | None) -> bool:
        """Whether the model's own vocabulary is used (OpenAI's); elsewhere a count is an approximation."""
        return vocabulary.family_of(model).exact

    def count_text(self, model: str | None, text: str) -> int | None:
        """Tokens in `text` alone."""
        family = vocabulary.family_of(model)
        tokenizer = self._tokenizer(family)
        return None if tokenizer is None else math.ceil(tokenizer.count(text) * family.scale)

    def count_request(self, model: str | None, body: Any) -> int | None:
        """Input tokens of a request body; `None` where images, audio or files make it unknowable."""
        family = vocabulary.family_of(model)
        tokenizer = self._tokenizer(family)
        return None if tokenizer is None else count_request(tokenizer, family, body)

    def tally(self, model: str | None, dialect: str, body: Any = None) -> OutputTally | None:
        """A fresh tally for the answer of one response; `body` is its request. `None` without the extra."""
        family = vocabulary.family_of(model)
        tokenizer = self._tokenizer(family)
        return None if tokenizer is None else OutputTally(tokenizer, family, dialect, asked(body))

    @staticmethod
    def _tokenizer(family: vocabulary.Family) -> vocabulary.Tokenizer | None:
        return vocabulary.tokenizer(family.encoding) if vocabulary.installed() else None
