"""The fake provider: formats generated chunks as a provider's stream, replays captures, and breaks on request."""

from usagetap.upstream.behaviour import Behaviour, parse_behaviour
from usagetap.upstream.chunks import Chunk, Finish, GenerationError, Reasoning, Text, ToolCall, UsageChunk
from usagetap.upstream.exchange import Exchange
from usagetap.upstream.openai_chat import format_chat, format_chat_async
from usagetap.upstream.server import Upstream, running_upstream, serve

__all__ = [
    "Behaviour",
    "Chunk",
    "Exchange",
    "Finish",
    "GenerationError",
    "Reasoning",
    "Text",
    "ToolCall",
    "Upstream",
    "UsageChunk",
    "format_chat",
    "format_chat_async",
    "parse_behaviour",
    "running_upstream",
    "serve",
]
