"""OpenAI Audio: transcriptions and translations (multipart requests), speech; also Mistral's and OpenRouter's.

https://platform.openai.com/docs/api-reference/audio: `usage` counts tokens, or for Whisper seconds
(`{"type": "duration"}`, no tokens then); subtitles, plain text and sound carry none. Mistral's stream ends with
`transcription.done`: https://docs.mistral.ai/capabilities/audio/.
"""

from __future__ import annotations

import re

from usagetap.dialects.base import Weight
from usagetap.dialects.openai_plain import OpenAIPlain
from usagetap.model import Request

_PATH = re.compile(r"/audio/(transcription|translation|speech)s?$")
_TELLS = re.compile(rb'"usage"\s*:\s*\{|"type"\s*:\s*"[\w.]+\.done"|"error"\s*:\s*(?!null)\S')


class OpenAIAudio(OpenAIPlain):
    """`…/audio/transcriptions`, `…/audio/translations`, `…/audio/speech`."""

    name = "openai_audio"
    terminal_types = frozenset({"transcript.text.done", "speech.audio.done", "transcription.done"})
    dull_event = re.compile(
        rb"transcript\.text\.(?:delta|segment)|speech\.audio\.delta|transcription\.(?:text\.delta|segment|language)"
    )

    def matches(self, request: Request) -> bool:
        return request.method == "POST" and _PATH.search(request.path.rstrip("/")) is not None

    def operation(self, request: Request) -> str:
        found = _PATH.search(request.path.rstrip("/"))
        return found[1] if found else "transcription"

    def weigh(self, frame: bytes) -> Weight:
        return Weight.PARSE if _TELLS.search(frame) else Weight.NOTHING
