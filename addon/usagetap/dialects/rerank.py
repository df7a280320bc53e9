"""Rerank as Voyage, Jina, OpenRouter, Together and vLLM serve it; Cohere's own is in `cohere.py`.

https://docs.voyageai.com/reference/reranker-api: `usage.total_tokens` counts query and documents, all of it input.
"""

from __future__ import annotations

from usagetap.dialects.base import told_by_path
from usagetap.dialects.openai_plain import OpenAIPlain
from usagetap.model import Request


class Rerank(OpenAIPlain):
    """`…/rerank` with a query and documents."""

    name = "rerank"

    def matches(self, request: Request) -> bool:
        if request.method != "POST" or not request.path.rstrip("/").endswith("/rerank"):
            return False
        if told_by_path(request):
            return True
        return isinstance(request.body, dict) and "query" in request.body and "documents" in request.body

    def operation(self, request: Request) -> str:
        return "rerank"
