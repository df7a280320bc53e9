from __future__ import annotations

import pytest

from usagetap.upstream.behaviour import Behaviour
from usagetap.upstream.chunks import Finish, GenerationError, Reasoning, Text, ToolCall, UsageChunk
from usagetap.upstream.generate import generate, usage_of


def test_the_order_of_things():
    kinds = [type(chunk) for chunk in generate(Behaviour(reasoning=1, chunks=2, tools=1))]
    assert kinds == [Reasoning, Text, Text, ToolCall, Finish, UsageChunk]


def test_each_choice_is_told_and_finished():
    chunks = list(generate(Behaviour(chunks=1, finish="length"), choices=2))
    assert [chunk for chunk in chunks if isinstance(chunk, Finish)] == [Finish("length", 0), Finish("length", 1)]
    assert chunks[-1].output_tokens == 2


def test_it_is_the_same_each_time():
    how = Behaviour(reasoning=2, tools=2, chunks=20)
    assert list(generate(how)) == list(generate(how))


def test_usage_counts_pieces_unless_told():
    assert usage_of(Behaviour(chunks=3, reasoning=2, tools=1)) == UsageChunk(11, 6, 0, None, 2)
    assert usage_of(Behaviour(input=5, output=9, cached=4, written=1)) == UsageChunk(5, 9, 4, 1, 0)
    assert not any(isinstance(chunk, UsageChunk) for chunk in generate(Behaviour(no_usage=True)))


@pytest.mark.parametrize("after", [0, 2, 99])
def test_the_error_comes_after_so_many_pieces_and_before_any_finish(after):
    seen = []
    with pytest.raises(GenerationError):
        seen.extend(generate(Behaviour(chunks=3, error=after)))
    chunks = list(_until_error(Behaviour(chunks=3, error=after)))
    assert [type(chunk) for chunk in chunks] == [Text] * min(after, 3)


def _until_error(how):
    try:
        yield from generate(how)
    except GenerationError:
        return


def test_text_has_characters_of_every_length_or_the_size_asked_for():
    text = "".join(chunk.text for chunk in generate(Behaviour(chunks=10)) if isinstance(chunk, Text))
    assert {len(letter.encode()) for letter in text} == {1, 2, 3, 4}
    assert next(generate(Behaviour(size=1000))).text == "x" * 1000
