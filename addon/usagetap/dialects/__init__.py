"""The registry: every dialect once, in the order in which they are asked. A new one is one file and one line here."""

from __future__ import annotations

from usagetap.dialects.anthropic import Anthropic, AnthropicComplete
from usagetap.dialects.base import Dialect
from usagetap.dialects.bedrock_converse import BedrockConverse
from usagetap.dialects.bedrock_invoke import BedrockInvoke
from usagetap.dialects.cohere import Cohere, CohereEmbed, CohereRerank
from usagetap.dialects.gemini import Gemini, GeminiEmbeddings
from usagetap.dialects.gemini_interactions import GeminiInteractions
from usagetap.dialects.llamacpp import LlamaCpp
from usagetap.dialects.mistral_conversations import MistralConversations
from usagetap.dialects.ollama import Ollama
from usagetap.dialects.openai_assistants import OpenAIAssistants
from usagetap.dialects.openai_audio import OpenAIAudio
from usagetap.dialects.openai_chat import OpenAIChat, OpenAICompletions, StrictChat
from usagetap.dialects.openai_decisions import OpenAIDecisions
from usagetap.dialects.openai_embeddings import OpenAIEmbeddings
from usagetap.dialects.openai_images import OpenAIImages
from usagetap.dialects.openai_responses import OpenAIResponses
from usagetap.dialects.replicate import Replicate
from usagetap.dialects.rerank import Rerank
from usagetap.dialects.tgi import TextGeneration
from usagetap.dialects.unknown import Unknown
from usagetap.dialects.workers_ai import WorkersAI
from usagetap.model import Request

_CHAT, _COMPLETIONS = OpenAIChat(), OpenAICompletions()

DIALECTS: tuple[Dialect, ...] = (
    Cohere(),  # before OpenAIChat: both have a /v1/chat
    _CHAT,  # the most common ones early: every request asks one after the other
    OpenAIResponses(),
    Anthropic(),
    AnthropicComplete(),
    Gemini(),
    GeminiEmbeddings(),
    GeminiInteractions(),
    BedrockConverse(),
    BedrockInvoke(),
    CohereEmbed(),
    CohereRerank(),
    Ollama(),
    MistralConversations(),
    OpenAIAssistants(),
    OpenAIEmbeddings(),
    OpenAIAudio(),
    OpenAIImages(),
    OpenAIDecisions(),
    Rerank(),
    Replicate(),
    TextGeneration(),
    LlamaCpp(),
    StrictChat(),
    WorkersAI(),
    _COMPLETIONS,
)

UNKNOWN = Unknown()
"""For POSTs to the user's `usage_hosts` that no dialect knows; never detected."""


def detect(request: Request, *, openai_compatible: bool = False) -> Dialect | None:
    """The dialect that `request` speaks; `None` for traffic that is not ours.

    `openai_compatible`: the user says so of this host, so the body's shape alone will do.
    """
    found = next((dialect for dialect in DIALECTS if dialect.matches(request)), None)
    if found is not None or not openai_compatible or not isinstance(request.body, dict):
        return found
    if "messages" in request.body:
        return _CHAT
    return _COMPLETIONS if "prompt" in request.body else None
