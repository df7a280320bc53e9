from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.dialects import detect
from usagetap.model import Request
from usagetap.providers import HOSTS, SUFFIXES, provider, serves_models

# https://github.com/open-telemetry/semantic-conventions-genai: gen_ai.provider.name
OTEL = {
    *("openai", "anthropic", "cohere", "deepseek", "groq", "mistral_ai", "moonshot_ai", "perplexity", "x_ai"),
    *("azure.ai.inference", "azure.ai.openai", "aws.bedrock", "gcp.gen_ai", "gcp.gemini", "gcp.vertex_ai"),
    "ibm.watsonx.ai",
}


def asked(host: str, path: str = "/v1/chat/completions", headers: dict[str, str] | None = None) -> Request:
    return Request("POST", host, 443, path, headers=headers or {})


@pytest.mark.parametrize(
    ("host", "path", "name"),
    [
        ("api.openai.com", "/v1/responses", "openai"),
        ("eu.api.openai.com", "/v1/responses", "openai"),
        ("mine.openai.azure.com", "/openai/deployments/d/chat/completions", "azure.ai.openai"),
        ("mine.openai.azure.us", "/openai/v1/responses", "azure.ai.openai"),
        ("mine.services.ai.azure.com", "/openai/v1/responses", "azure.ai.openai"),
        ("mine.services.ai.azure.com", "/models/chat/completions", "azure.ai.inference"),
        ("mine.cognitiveservices.azure.com", "/voice-live/realtime", "azure.ai.openai"),
        ("us-east5-aiplatform.googleapis.com", "/v1/x:rawPredict", "gcp.vertex_ai"),
        ("daily-cloudcode-pa.sandbox.googleapis.com", "/v1internal:generateContent", "gcp.gen_ai"),
        ("bedrock-runtime.eu-central-1.amazonaws.com", "/model/m/converse", "aws.bedrock"),
        ("bedrock-mantle.us-east-1.api.aws", "/v1/responses", "aws.bedrock"),
        ("runtime.sagemaker.us-east-1.amazonaws.com", "/endpoints/mine/invocations", "aws.sagemaker"),
        ("api.individual.githubcopilot.com", "/chat/completions", "github_copilot"),
        ("adb-1.azuredatabricks.net", "/serving-endpoints/x/invocations", "databricks"),
        ("openrouter.ai", "/api/v1/chat/completions", "openrouter"),
        ("ai-gateway.vercel.sh", "/v1/chat/completions", "vercel"),
    ],
)
def test_hosts_have_their_names(host: str, path: str, name: str) -> None:
    assert provider(asked(host, path)) == name


def test_every_word_of_otel_that_has_a_host_can_come_out() -> None:
    assert {*HOSTS.values(), *(name for _, name in SUFFIXES)} >= OTEL


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("x-litellm-response-cost", "litellm"),
        ("x-portkey-trace-id", "portkey"),
        ("cf-aig-cache-status", "cloudflare"),
        ("x-bifrost-request-id", "bifrost"),
        ("helicone-id", "helicone"),
    ],
)
def test_a_gateway_on_a_host_of_the_users_own_shows_itself_by_its_headers(header: str, name: str) -> None:
    assert provider(asked("localhost")) == "localhost"
    assert provider(asked("localhost"), {"content-type": "application/json", header: "1"}) == name
    assert provider(asked("localhost", headers={header: "1"})) == name


def test_a_known_host_is_itself_whatever_headers_pass() -> None:
    assert provider(asked("api.openai.com", headers={"helicone-auth": "x"}), {"x-litellm-model-id": "x"}) == "openai"


@given(st.text(min_size=1))
def test_a_host_nobody_knows_stays_itself(host: str) -> None:
    known = host in HOSTS or any(host.endswith(suffix) for suffix, _ in SUFFIXES)
    assert known or provider(asked(host)) == host


@pytest.mark.parametrize("host", ["evil-api.openai.com.example", "notopenrouter.ai", "openai.azure.com.example"])
def test_a_host_that_only_looks_like_a_provider_is_none(host: str) -> None:
    assert provider(asked(host)) == host


@pytest.mark.parametrize(
    ("host", "known"), [("api.deepseek.com", True), ("eu.api.openai.com", True), ("127.0.0.1", False), ("x.com", False)]
)
def test_a_host_is_known_for_models_or_it_is_not(host: str, known: bool) -> None:
    assert serves_models(Request("POST", host, 443, "/responses")) is known
    assert (detect(Request("POST", host, 443, "/responses")) is not None) is known
