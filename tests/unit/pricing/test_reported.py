from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.pricing.reported import Reported

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
    assert isinstance(Reported(raw).cached_modalities, dict | None)
    assert isinstance(Reported(raw).iterations, list)
    assert Reported(raw).web_searches >= 0
    assert Reported(raw).audio_seconds >= 0
    assert isinstance(Reported(raw).tier(None), str)


def test_a_later_object_wins_and_null_never_does():
    raw = [{"speed": "fast"}, {"speed": None}, {"speed": "standard"}, {"speed": None}]
    assert Reported(raw).last("speed") == "standard"


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
    assert Reported(raw).tier(tier) == word


def test_cached_modalities_of_openai_realtime_and_gemini():
    openai = {"input_token_details": {"cached_tokens_details": {"text_tokens": 5, "audio_tokens": 7}}}
    assert Reported(openai).cached_modalities == {"audio": 7, "image": 0}
    gemini = {"cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 3}, {"modality": "TEXT", "tokenCount": 9}]}
    assert Reported(gemini).cached_modalities == {"audio": 3, "image": 0}
    assert Reported({"input_tokens": 3}).cached_modalities is None


def test_seconds_of_whisper_and_of_mistral():
    assert Reported({"type": "duration", "seconds": 7.5}).audio_seconds == Decimal("7.5")
    assert Reported({"prompt_audio_seconds": 4}).audio_seconds == 4
    assert Reported({"type": "tokens", "seconds": None}).audio_seconds == 0


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
    (found,) = Reported(raw).iterations
    assert (found.kind, found.model, found.usage.input_tokens) == ("compaction", None, 55196)
    assert found.usage.cache_write_5m_input_tokens == 55096
