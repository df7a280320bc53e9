from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from usagetap.pricing.bundled import KINDS, find
from usagetap.pricing.rates import UNIT, Tiered

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("provider", "url", "model", "known_as"),
    [
        ("openai", "", "gpt-4o-2024-08-06", "openai/gpt-4o"),
        ("gcp.gemini", "", "gemini-2.5-flash", "google/gemini-2.5-flash"),
        ("gcp.vertex_ai", "", "claude-sonnet-4-5@20250929", "google/claude-sonnet-4-5"),
        ("azure.ai.openai", "", "gpt-4o", "azure/gpt-4o"),
        ("x_ai", "", "grok-4", "x-ai/grok-4"),
        ("openrouter", "", "openai/gpt-4o", "openrouter/"),
        ("together", "", "meta-llama/Llama-3.3-70B-Instruct-Turbo", "together/"),
        ("host", "https://api.together.xyz/v1/chat", "meta-llama/Llama-3.3-70B-Instruct-Turbo", "together/"),
        ("github_copilot", "", "gpt-5.6-sol", "github-copilot/"),
    ],
)
def test_a_provider_is_found_by_our_name_or_by_its_address(provider, url, model, known_as):
    found = find(provider, url, [model], NOW)
    assert found is not None
    assert found.version.split(" ")[2].startswith(known_as)


def test_a_host_that_is_nobodys_has_no_prices_even_for_a_famous_model():
    assert find("localhost", "https://localhost/v1/chat/completions", ["gpt-4o"], NOW) is None


def test_the_second_name_is_tried_where_the_first_is_unknown():
    found = find("openai", "", ["my-deployment", "gpt-4o"], NOW)
    assert found is not None
    assert found.version.endswith("openai/gpt-4o")


def test_tiers_by_length_are_kept():
    found = find("openai", "", ["gpt-5.4"], NOW)
    assert found is not None
    assert found.rates.rate["input"] == Tiered(Decimal("2.5"), ((272_000, Decimal(5)),))


def test_every_kind_that_the_table_names_is_one_that_can_be_billed():
    assert {kind for kind, _ in KINDS.values()} <= set(UNIT)


def test_nothing_is_fetched(monkeypatch):
    import socket

    def refuse(*_arguments):
        raise AssertionError("a price was looked up in the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert find("openai", "", ["gpt-4o-mini"], NOW + 12345) is not None
