"""OpenAI Embeddings, and who answers in its shape: Azure, Mistral, Voyage, vLLM, OpenRouter, Perplexity.

https://platform.openai.com/docs/api-reference/embeddings; Voyage tells a total only, also on its multimodal and
contextualized endpoints: https://docs.voyageai.com/reference/embeddings-api
"""

from __future__ import annotations

import re
from typing import Any

from usagetap.dialects.base import mapping
from usagetap.dialects.openai_plain import OpenAIPlain
from usagetap.model import Request

_PATH = re.compile(r"(?<!^/api)/(?:contextualized|multimodal)?embeddings$")
"""Ollama's own `/api/embeddings` is another dialect."""


class OpenAIEmbeddings(OpenAIPlain):
    """`…/embeddings`, with texts as `input` also `…/invocations` (Databricks).

    https://docs.databricks.com/machine-learning/foundation-models/api-reference
    """

    name = "openai_embeddings"

    def matches(self, request: Request) -> bool:
        path = request.path.rstrip("/")
        if request.method == "POST" and path.endswith("/invocations"):
            return _texts(mapping(request.body).get("input"))
        if request.method != "POST" or not _PATH.search(path):
            return False
        return not isinstance(request.body, dict) or any(name in request.body for name in ("input", "inputs", "model"))

    def operation(self, request: Request) -> str:
        return "embeddings"


def _texts(asked: Any) -> bool:
    """A text, or several: agents on the same path are asked with messages."""
    return isinstance(asked, str) or (isinstance(asked, list) and all(isinstance(each, str) for each in asked))
