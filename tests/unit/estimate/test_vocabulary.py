from __future__ import annotations

import sys

import pytest

from usagetap.estimate import vocabulary


@pytest.mark.parametrize(
    ("model", "family", "encoding", "exact"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o", "o200k_base", True),
        ("openai/gpt-4.1-mini", "gpt-4o", "o200k_base", True),
        ("gpt-4-0613", "gpt-4", "cl100k_base", True),
        ("gpt-4", "gpt-4", "cl100k_base", True),
        ("gpt-35-turbo", "gpt-4", "cl100k_base", True),
        ("gpt-5-mini-2025-08-07", "gpt-5", "o200k_base", True),
        ("gpt-5.4-2026-03-05", "gpt-5.x", "o200k_base", True),
        ("o4-mini", "o-series", "o200k_base", True),
        ("o1", "o-series", "o200k_base", True),
        ("openai/gpt-oss-20b", "gpt-oss", "o200k_base", False),
        ("anthropic/claude-sonnet-4-5", "claude", "o200k_base", False),
        ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", "claude", "o200k_base", False),
        ("accounts/fireworks/models/llama-v3p1-8b", "llama", "o200k_base", False),
        ("Meta-Llama-3.1-8B-Instruct", "llama", "o200k_base", False),
        ("gemini-2.5-flash", "gemini", "o200k_base", False),
        ("nobody", "unknown", "o200k_base", False),
        (None, "unknown", "o200k_base", False),
    ],
)
def test_the_family_of_a_model(model, family, encoding, exact):
    found = vocabulary.family_of(model)
    assert (found.name, found.encoding, found.exact) == (family, encoding, exact)


def test_the_package_around_the_tokenizer_is_not_loaded():
    pytest.importorskip("bpe_openai", reason="the `estimate` extra is not installed")
    sys.modules.pop("bpe_openai", None)
    vocabulary.tokenizer.cache_clear()
    assert vocabulary.tokenizer("cl100k_base").count("hello world") == 2
    assert "bpe_openai" not in sys.modules


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    vocabulary.tokenizer.cache_clear()
    monkeypatch.setattr(vocabulary.importlib.util, "find_spec", lambda _name: None)
    assert not vocabulary.installed()
    with pytest.raises(ImportError, match=r"pip install 'usagetap\[estimate\]'"):
        vocabulary.tokenizer("o200k_base")
