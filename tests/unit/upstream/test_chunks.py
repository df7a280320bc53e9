from __future__ import annotations

import pytest

from usagetap.upstream.chunks import Finish, GenerationError, Reasoning, Text, ToolCall, UsageChunk, error_words, gather


def test_gather_reads_a_stream_to_its_end_per_choice():
    call = ToolCall("1", "f", {})
    whole = gather([Text("a"), Text("b", 1), Reasoning("r"), Text("c"), call, Finish("length", 1), UsageChunk(1, 2)])
    assert (whole.turns[0].text, whole.turns[0].reasoning, whole.turns[0].tool_calls) == ("ac", "r", [call])
    assert (whole.turns[1].text, whole.turns[1].reason) == ("b", "length")
    assert whole.usage == UsageChunk(1, 2)


def test_gather_of_nothing_is_one_empty_turn_without_usage():
    whole = gather([])
    assert (list(whole.turns), whole.turns[0].text, whole.usage) == ([0], "", None)


def test_gather_lets_exceptions_through():
    def broken():
        yield Text("a")
        raise GenerationError("sorry")

    with pytest.raises(GenerationError, match="sorry"):
        gather(broken())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (GenerationError("m", type="t", code="c"), ("m", "t", "c")),
        (ValueError("m"), ("m", "server_error", None)),
        (ValueError(), ("ValueError", "server_error", None)),
    ],
)
def test_error_words(error, words):
    assert error_words(error) == words
