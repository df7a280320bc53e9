"""The registry: every dialect once, in the order in which they are asked. A new dialect is one file and one line here."""

from __future__ import annotations

from usagetap.dialects.base import Dialect
from usagetap.dialects.openai_chat import OpenAIChat, OpenAICompletions
from usagetap.model import Request

DIALECTS: tuple[Dialect, ...] = (
    OpenAIChat(),
    OpenAICompletions(),
)


def detect(request: Request) -> Dialect | None:
    """The dialect that `request` speaks; `None` for traffic that is not ours."""
    return next((dialect for dialect in DIALECTS if dialect.matches(request)), None)
