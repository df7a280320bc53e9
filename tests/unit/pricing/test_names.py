from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.pricing.bundled import find
from usagetap.pricing.names import known_as

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC).timestamp()
ARN = "arn:aws:bedrock:us-east-1:123456789012"


@pytest.mark.parametrize(
    ("model", "known"),
    [
        (
            f"{ARN}:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "regional.anthropic.claude-sonnet-4-5",
        ),
        (
            f"{ARN}:inference-profile/global.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "global.anthropic.claude-sonnet-4",
        ),
        ("arn:aws:bedrock:eu-west-1::foundation-model/anthropic.claude-sonnet-4-6", "regional.anthropic.claude-sonnet"),
        ("arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0"),
        ("global.anthropic.claude-opus-4-8", "global.anthropic.claude-opus-4-8-v1:0"),
        ("us.anthropic.claude-opus-4-8", "regional.anthropic.claude-opus-4-8-v1:0"),
        ("apac.anthropic.claude-sonnet-4-20250514-v1:0", "regional.anthropic.claude-sonnet-4-20250514-v1:0"),
        ("us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0", "regional.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("amazon.nova-pro-v1:0:300k", "amazon.nova-pro-v1:0"),
        ("eu.amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0"),
        ("openai.gpt-oss-120b", "openai.gpt-oss-120b-1:0"),
    ],
)
def test_bedrock_s_ids_are_found_in_the_table_whatever_is_around_them(model, known):
    found = find("aws.bedrock", "", [model], NOW)
    assert found is not None
    assert found.version.split(" ")[2].startswith(f"aws/{known}")


@pytest.mark.parametrize("model", [f"{ARN}:application-inference-profile/otnfa2ysixqd", "minimax.minimax-m2", "MODEL"])
def test_an_id_that_names_no_model_is_unpriced(model):
    assert find("aws.bedrock", "", [model], NOW) is None


def test_the_provider_behind_hugging_face_s_router_is_named_in_the_model():
    found = find("huggingface", "https://router.huggingface.co/v1", ["openai/gpt-oss-120b:groq"], NOW)
    assert found is not None
    assert found.version.endswith("huggingface_groq/openai/gpt-oss-120b")
    assert find("huggingface", "https://router.huggingface.co/v1", ["openai/gpt-oss-120b:cheapest"], NOW) is None


@given(
    st.none() | st.sampled_from(["aws.bedrock", "huggingface", "openai"]), st.lists(st.text(max_size=40), max_size=3)
)
def test_any_names_give_names_the_whole_one_among_them(provider, models):
    _, names = known_as(provider, models)
    assert set(models) <= set(names) or provider == "aws.bedrock"
