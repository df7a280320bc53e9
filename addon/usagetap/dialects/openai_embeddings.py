"""OpenAI Embeddings, and who answers in its shape: Azure, Mistral, Voyage, vLLM, OpenRouter, Perplexity.

https://platform.openai.com/docs/api-reference/embeddings; Voyage tells a total only, also on its multimodal and
contextualized endpoints: https://docs.voyageai.com/reference/embeddings-api
"""

from __future__ import annotations

import re

from usagetap.dialects.openai_plain import OpenAIPlain
from usagetap.model import Request

_PATH = re.compile(r"(?<!^/api)/(?:contextualized|multimodal)?embeddings$")
"""Ollama's own `/api/embeddings` is another dialect."""


class OpenAIEmbeddings(OpenAIPlain):
    """`…/embeddings`."""

    name = "openai_embeddings"

    def matches(self, request: Request) -> bool:
        if request.method != "POST" or not _PATH.search(request.path.rstrip("/")):
            return False
        return not isinstance(request.body, dict) or any(name in request.body for name in ("input", "inputs", "model"))

    def operation(self, request: Request) -> str:
        return "embeddings"
