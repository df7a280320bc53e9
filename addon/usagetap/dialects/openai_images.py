"""OpenAI Images: generations, edits, variations; also streamed (`partial_images`).

https://platform.openai.com/docs/api-reference/images: GPT image models tell tokens, text and image apart; DALL-E tells
nothing; xAI tells only what it costs (recorded).
"""

from __future__ import annotations

import re

from usagetap.dialects.base import Weight
from usagetap.dialects.openai_plain import OpenAIPlain
from usagetap.model import Request

_PATH = re.compile(r"/images/(?:generations|edits|variations)$")
_PARTIAL = re.compile(rb'event: ?image_\w+\.partial_image|data: ?\{"type": ?"image_\w+\.partial_image"')


class OpenAIImages(OpenAIPlain):
    """`…/images/generations`, `…/images/edits`, `…/images/variations`."""

    name = "openai_images"
    terminal_types = frozenset({"image_generation.completed", "image_edit.completed"})
    dull_event = re.compile(rb"image_\w+\.partial_image")

    def matches(self, request: Request) -> bool:
        return request.method == "POST" and _PATH.search(request.path.rstrip("/")) is not None

    def operation(self, request: Request) -> str:
        return "image_generation"

    def weigh(self, frame: bytes) -> Weight:
        return Weight.NOTHING if _PARTIAL.match(frame) else Weight.PARSE
