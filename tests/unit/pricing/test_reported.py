from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.pricing import reported

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text()
            | st.sampled_from(
                ["iterations", "server_tool_use", "cacheTokensDetails", "type", "seconds", "cache_creation"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_any_json_gives_an_answer(raw):
    reported.cached_modalities(raw)
    reported.iterations(raw)
    assert reported.web_searches(raw) >= 0
    assert reported.audio_seconds(raw) >= 0
    assert isinstance(reported.tier(None, raw), str)


def test_a_later_object_wins_and_null_never_does():
    raw = [{"speed": "fast"}, {"speed": None}, {"speed": "standard"}, {"speed": None}]
    assert reported.last(raw, "speed") == "standard"


@pytest.mark.parametrize(
    ("tier", "raw", "word"),
    [
        ("flex", None, "flex"),
        (None, {"trafficType": "ON_DEMAND_FLEX"}, "flex"),
        (None, {"trafficType": "ON_DEMAND"}, "on_demand"),
        (None, {"trafficType": 1}, "1"),
        (None, {"trafficType": "PROVISIONED_THROUGHPUT"}, "provisioned_throughput"),
        (None, None, ""),
    ],
)
def test_the_tier_is_read_from_wherever_it_is(tier, raw, word):
    assert reported.tier(tier, raw) == word


def test_cached_modalities_of_openai_realtime_and_gemini():
    openai = {"input_token_details": {"cached_tokens_details": {"text_tokens": 5, "audio_tokens": 7}}}
    assert reported.cached_modalities(openai) == {"audio": 7, "image": 0}
    gemini = {"cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 3}, {"modality": "TEXT", "tokenCount": 9}]}
    assert reported.cached_modalities(gemini) == {"audio": 3, "image": 0}
    assert reported.cached_modalities({"input_tokens": 3}) is None


def test_seconds_of_whisper_and_of_mistral():
    assert reported.audio_seconds({"type": "duration", "seconds": 7.5}) == Decimal("7.5")
    assert reported.audio_seconds({"prompt_audio_seconds": 4}) == 4
    assert reported.audio_seconds({"type": "tokens", "seconds": None}) == 0


def test_iterations_count_cached_tokens_inside_their_input():
    raw = {
        "iterations": [
            {
                "type": "compaction",
                "input_tokens": 100,
                "cache_creation_input_tokens": 55096,
                "cache_creation": {"ephemeral_5m_input_tokens": 55096},
                "output_tokens": 131,
            }
        ]
    }
    (found,) = reported.iterations(raw)
    assert (found.kind, found.model, found.usage.input_tokens) == ("compaction", None, 55196)
    assert found.usage.cache_write_5m_input_tokens == 55096
