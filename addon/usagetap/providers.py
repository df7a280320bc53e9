"""Who serves: OpenTelemetry's `gen_ai.provider.name` from the host, else from the headers that gateways leave.

The words are OTel's where it has one
(https://github.com/open-telemetry/semantic-conventions-genai, `gen_ai.provider.name`, read 2026-11); the others are the
provider's own name in lower case. A gateway is named as itself, whatever it passes on to: it sends the bill.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from usagetap.model import Request

HOSTS: dict[str, str] = {
    # OTel's words
    "api.openai.com": "openai",
    "chatgpt.com": "openai",  # Codex with a subscription
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "cloudcode-pa.googleapis.com": "gcp.gen_ai",  # Gemini Code Assist
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "codestral.mistral.ai": "mistral_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    # gateways
    "openrouter.ai": "openrouter",
    "ai-gateway.vercel.sh": "vercel",
    "api.portkey.ai": "portkey",
    "gateway.ai.cloudflare.com": "cloudflare",
    "api.cloudflare.com": "cloudflare",
    "copilot-proxy.githubusercontent.com": "github_copilot",
    "models.github.ai": "github_models",
    "models.inference.ai.azure.com": "github_models",
    "gateway.pydantic.dev": "pydantic_gateway",
    "oai.helicone.ai": "helicone",
    "ai-gateway.helicone.ai": "helicone",
    "router.huggingface.co": "huggingface",
    "api-inference.huggingface.co": "huggingface",
    # the rest, by their documentation's base URL
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "api.sambanova.ai": "sambanova",
    "api.novita.ai": "novita",
    "api.studio.nebius.ai": "nebius",
    "api.studio.nebius.com": "nebius",
    "api.tokenfactory.nebius.com": "nebius",
    "api.hyperbolic.xyz": "hyperbolic",
    "integrate.api.nvidia.com": "nvidia",
    "api.z.ai": "zai",
    "open.bigmodel.cn": "zhipuai",
    "api.minimax.io": "minimax",
    "api.voyageai.com": "voyageai",
    "api.jina.ai": "jina",
    "api.writer.com": "writer",
    "api.avian.io": "avian",
    "api.deepinfra.com": "deepinfra",
    "api.inference.crusoecloud.com": "crusoe",
    "api.centml.com": "centml",
    "api.replicate.com": "replicate",
    "ollama.com": "ollama",
}

SUFFIXES: tuple[tuple[str, str], ...] = (
    # regions, resources, workspaces: a name of the user's own stands in front
    (".api.openai.com", "openai"),
    (".openai.azure.com", "azure.ai.openai"),
    (".openai.azure.us", "azure.ai.openai"),  # Azure Government
    (".cognitiveservices.azure.com", "azure.ai.openai"),
    (".services.ai.azure.com", "azure.ai.inference"),
    (".inference.ai.azure.com", "azure.ai.inference"),
    (".models.ai.azure.com", "azure.ai.inference"),
    ("-aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("cloudcode-pa.googleapis.com", "gcp.gen_ai"),
    ("cloudcode-pa.sandbox.googleapis.com", "gcp.gen_ai"),
    (".api.aws", "aws.bedrock"),  # bedrock-mantle.<region>.api.aws
    (".amazonaws.com", "aws.bedrock"),  # bedrock-runtime.<region>, and its VPC endpoints
    (".ml.cloud.ibm.com", "ibm.watsonx.ai"),
    (".api.x.ai", "x_ai"),
    (".githubcopilot.com", "github_copilot"),
    (".azuredatabricks.net", "databricks"),
    (".databricks.com", "databricks"),
    (".snowflakecomputing.com", "snowflake"),
    (".inference.heroku.com", "heroku"),
    (".helicone.ai", "helicone"),
    (".aliyuncs.com", "alibaba"),  # dashscope and dashscope-intl
    (".endpoints.huggingface.cloud", "huggingface"),
)

HEADERS: tuple[tuple[str, str], ...] = (
    # prefixes of the headers by which a gateway on a host of the user's own shows itself
    ("x-litellm-", "litellm"),  # https://docs.litellm.ai/docs/proxy/response_headers
    ("x-portkey-", "portkey"),  # https://portkey.ai/docs/api-reference/inference-api/response-schema
    ("cf-aig-", "cloudflare"),  # https://developers.cloudflare.com/ai-gateway/glossary
    ("x-bifrost-", "bifrost"),  # https://docs.getbifrost.ai/providers/response-headers
    ("helicone-", "helicone"),  # https://docs.helicone.ai/helicone-headers/header-directory
    ("ngrok-aig-", "ngrok"),  # https://ngrok.com/docs/ai-gateway/how-it-works#response-headers
)

_PREFIXES = tuple(prefix for prefix, _ in HEADERS)


def provider(request: Request, response_headers: Mapping[str, str] | None = None) -> str:
    """OTel's `gen_ai.provider.name` for who answers `request`; the host where nobody is recognised.

    Header names are lower case. Ask again once the response's headers are there: LiteLLM shows itself only by them.
    """
    known = _of_host(request.host)
    if known == "azure.ai.inference" and request.path.lstrip("/").startswith("openai/"):
        return "azure.ai.openai"  # Foundry serves both under one host: OpenAI's API here, all models under /models
    if known is not None:
        return known
    for headers in (response_headers or {}, request.headers):
        for name in headers:
            if name.startswith(_PREFIXES):
                return next(gateway for prefix, gateway in HEADERS if name.startswith(prefix))
    return request.host


OLLAMA_PORT = 11434


def serves_models(request: Request) -> bool:
    """Whether the host, or Ollama's port, is known for models."""
    return _of_host(request.host) is not None or request.port == OLLAMA_PORT


@lru_cache(maxsize=1024)
def _of_host(host: str) -> str | None:
    known = "aws.sagemaker" if host.startswith("runtime.sagemaker.") else HOSTS.get(host)
    return known or next((name for suffix, name in SUFFIXES if host.endswith(suffix)), None)
