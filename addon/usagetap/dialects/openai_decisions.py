"""OpenAI Decisions: predicates, choices and scores about an input, answered once.

openai-python 3.52, `types/decision.py`: a model and a usage object in Responses' words; no id.
"""

from __future__ import annotations

from usagetap.dialects.base import mapping
from usagetap.dialects.openai_plain import OpenAIPlain
from usagetap.model import Request


class OpenAIDecisions(OpenAIPlain):
    """`…/decisions` with questions."""

    name = "openai_decisions"

    def matches(self, request: Request) -> bool:
        asked = request.path.rstrip("/").endswith("/decisions") and "questions" in mapping(request.body)
        return request.method == "POST" and asked

    def operation(self, request: Request) -> str:
        return "generate_content"
