"""The hosts where models are served, for `--only-llm`: everything else keeps its own TLS.

From the providers' own documentation (gathered in the project's notes on dialects, section 1). Globs; a host that
serves more than models (`*.amazonaws.com`) is narrowed to the names that do. Local servers are named by their
default port, so that other programs on this machine stay private.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LLM_HOSTS: tuple[str, ...] = (
    # OpenAI and those who serve its models
    "api.openai.com",
    "*.api.openai.com",
    "chatgpt.com",
    "*.openai.azure.com",
    "*.cognitiveservices.azure.com",
    "*.services.ai.azure.com",
    "*.inference.ai.azure.com",
    "models.github.ai",
    "api.githubcopilot.com",
    "api.*.githubcopilot.com",
    "copilot-proxy.githubusercontent.com",
    # Anthropic, Google, Amazon
    "api.anthropic.com",
    "generativelanguage.googleapis.com",
    "cloudcode-pa.googleapis.com",
    "*cloudcode-pa.googleapis.com",
    "*cloudcode-pa.sandbox.googleapis.com",
    "aiplatform.googleapis.com",
    "*-aiplatform.googleapis.com",
    "bedrock-runtime*.amazonaws.com",
    "bedrock-mantle.*.api.aws",
    "q.*.amazonaws.com",
    # the others, by name
    "ai-gateway.vercel.sh",
    "api-inference.huggingface.co",
    "api.cerebras.ai",
    "api.cloudflare.com",
    "api.cohere.com",
    "api.cohere.ai",
    "api.deepseek.com",
    "api.fireworks.ai",
    "api.groq.com",
    "api.hyperbolic.xyz",
    "api.inference.crusoecloud.com",
    "api.mistral.ai",
    "api.moonshot.ai",
    "api.moonshot.cn",
    "api.novita.ai",
    "api.perplexity.ai",
    "api.sambanova.ai",
    "api.studio.nebius.ai",
    "api.studio.nebius.com",
    "api.together.ai",
    "api.together.xyz",
    "api.voyageai.com",
    "api.writer.com",
    "api.x.ai",
    "*.api.x.ai",
    "api.z.ai",
    "codestral.mistral.ai",
    "dashscope*.aliyuncs.com",
    "gateway.ai.cloudflare.com",
    "integrate.api.nvidia.com",
    "ollama.com",
    "openrouter.ai",
    "router.huggingface.co",
    "*.azuredatabricks.net",
    "*.cloud.databricks.com",
    "*.inference.heroku.com",
    "*.snowflakecomputing.com",
    # on this machine: Ollama, LM Studio, vLLM, llama.cpp, LiteLLM
    *(f"{host}:{port}" for host in ("localhost", "127.0.0.1", "[::1]") for port in (11434, 1234, 8000, 8080, 4000)),
)


def allow_hosts(usage_hosts: Iterable[str] = ()) -> str:
    """The regular expression for mitmproxy's `allow_hosts`: the known hosts and the user's own.

    `usage_hosts` is written as the addon's option of that name: globs `host[:port][/path-prefix]`, `!host` excludes.
    mitmproxy matches against `host:port`, where no path is known: a path prefix is left out, and a host excluded
    for some of its paths only is kept.
    """
    included, excluded = [*LLM_HOSTS], []
    for entry in usage_hosts:
        host, slash, _ = entry.removeprefix("!").partition("/")
        if not entry.startswith("!"):
            included.append(host)
        elif not slash:
            excluded.append(host)
    guard = f"(?!(?:{'|'.join(map(expression, excluded))})$)" if excluded else ""
    return f"^{guard}(?:{'|'.join(map(expression, dict.fromkeys(included)))})$"


def expression(glob: str) -> str:
    """A glob `host[:port]` as a regular expression for mitmproxy's `host:port`; without a port any port fits.

    An IPv6 address with a port stands in brackets; mitmproxy itself writes none.
    """
    host, port = glob.strip(), ""
    if host.startswith("["):
        host, _, rest = host[1:].partition("]")
        port = rest.removeprefix(":")
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    pattern = re.escape(host).replace(r"\*", ".*").replace(r"\?", ".")
    return f"{pattern}:{port if port.isdigit() else r'\d+'}"
