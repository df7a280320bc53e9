"""An error's message without what it quotes of the request.

Google answers a field of the wrong type with its value (`Invalid value at 'contents' (…), "the whole prompt"`), others
with a piece of the prompt that they could not read. Prompts are never written down, so neither are those pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

RUN = 16
"""Characters in a row that stand in both, from which on they are a quotation: shorter words stand in any error."""
_GRAM = RUN // 2  # every run that long holds one piece of the request that begins at a multiple of this
TEXT_LIMIT = 256 << 10
"""Characters of a request that are looked through, the latest first: some ten milliseconds."""
_TRIES = 2_000
"""Places that may be compared; who needs more gets no message at all."""
CUT = "***"


def without_quotes(message: str, body: Any) -> str:
    """`message` with `***` for every run of characters that also stands in a text of the request's JSON `body`.

    The model's name is no secret, and stays.
    """
    places: dict[str, list[int]] = {}
    for at in range(len(message) - _GRAM + 1):
        places.setdefault(message[at : at + _GRAM], []).append(at)
    quoted = bytearray(len(message))
    tries = 0
    for text in _texts(body) if places else ():
        for at in range(0, len(text) - _GRAM + 1, _GRAM):
            for place in places.get(text[at : at + _GRAM], ()):
                tries += 1
                if tries > _TRIES:
                    return CUT
                begin, end = _run(message, place, text, at)
                if end - begin >= RUN:
                    quoted[begin:end] = b"\1" * (end - begin)
    return _cut(message, quoted)


def _texts(body: Any) -> Iterator[str]:
    """The strings in `body`, the latest first, up to the limit."""
    left = TEXT_LIMIT
    waiting = [body]
    while waiting and left > 0:
        value = waiting.pop()
        if isinstance(value, str):
            yield value[:left]
            left -= len(value)
        elif isinstance(value, dict):
            waiting.extend(inner for name, inner in value.items() if name != "model")
        elif isinstance(value, list):
            waiting.extend(value)


def _run(message: str, place: int, text: str, at: int) -> tuple[int, int]:
    """Where in `message` the run begins and ends that has `message[place]` for `text[at]`."""
    begin, end = 0, _GRAM
    while place + begin > 0 and at + begin > 0 and message[place + begin - 1] == text[at + begin - 1]:
        begin -= 1
    while place + end < len(message) and at + end < len(text) and message[place + end] == text[at + end]:
        end += 1
    return place + begin, place + end


def _cut(message: str, quoted: bytearray) -> str:
    if not any(quoted):
        return message
    kept = []
    for at, letter in enumerate(message):
        if not quoted[at]:
            kept.append(letter)
        elif at == 0 or not quoted[at - 1]:
            kept.append(CUT)
    return "".join(kept)
