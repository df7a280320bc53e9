"""The variables that send a program's traffic through the proxy and make it trust the proxy's CA.

Plain functions from mappings to mappings; `exec` hands the result to a child, `env` prints it for a shell.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

#: read by nearly everything, in one case or the other (curl reads only the lower-case http_proxy)
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
NO_PROXY_VARIABLES = ("NO_PROXY", "no_proxy")

#: a file of certificates, always set; who reads it
CA_VARIABLES = {
    "SSL_CERT_FILE": "OpenSSL: Python's ssl and httpx, Ruby, Go on Linux, Rust's native-tls, uv",
    "REQUESTS_CA_BUNDLE": "requests, pip",
    "CURL_CA_BUNDLE": "curl",
    "NODE_EXTRA_CA_CERTS": "Node, Bun, npm",
    "AWS_CA_BUNDLE": "boto3 and the AWS command line (Bedrock)",
    "GIT_SSL_CAINFO": "git",
    "DENO_CERT": "Deno",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": "gRPC",
}
#: the same, replaced only where the user has set it: left alone it would keep a program from trusting the proxy
CA_VARIABLES_IF_SET = (
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "NIX_SSL_CERT_FILE",
    "HTTPLIB2_CA_CERTS",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "NPM_CONFIG_CAFILE",
    "npm_config_cafile",
)

#: set beside the others, so that `exec` inside such a shell knows that this proxy is ours and not a company's
OWN_PROXY = "USAGETAP_PROXY"

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "127.0.0.0/8", "::1", "[::1]", "0.0.0.0"})


def no_proxy(environment: Mapping[str, str], *, loopback_direct: bool = False) -> str:
    """What NO_PROXY is to be: the user's own list without the loopback names (and without `*`).

    Loopback goes through the proxy, since model servers live there (Ollama, vLLM, llama.cpp); the proxy is on the
    same machine and reaches whatever the program reaches. With `loopback_direct` the loopback names are in the list.
    """
    named = next((environment[name] for name in NO_PROXY_VARIABLES if environment.get(name)), "")
    entries = [entry for part in named.split(",") if (entry := part.strip()) and entry != "*"]
    kept = [entry for entry in entries if entry.lower() not in LOOPBACK_NAMES]
    return ",".join([*kept, "localhost", "127.0.0.1", "::1"] if loopback_direct else kept)


def proxy_variables(url: str, environment: Mapping[str, str], *, loopback_direct: bool = False) -> dict[str, str]:
    """The proxy variables for a proxy at `url`, given what the user's environment says already."""
    exceptions = no_proxy(environment, loopback_direct=loopback_direct)
    variables = dict.fromkeys(PROXY_VARIABLES, url) | dict.fromkeys(NO_PROXY_VARIABLES, exceptions)
    if not loopback_direct:  # a proxy behind another one must stay in the chain
        variables[OWN_PROXY] = url
    return variables | node_variables(environment)


def node_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """What makes Node's `fetch` use the proxy: a switch since 22.21 and 24.0, our preloaded script before."""
    preload = str(Path(__file__).with_name("node_proxy.cjs")).replace("\\", "\\\\").replace('"', '\\"')
    option = f'--require "{preload}"'
    present = environment.get("NODE_OPTIONS", "")
    options = present if option in present else f"{present} {option}".strip()
    return {"NODE_USE_ENV_PROXY": "1", "NODE_OPTIONS": options}


def ca_variables(bundle: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The certificate variables, all naming `bundle` (see `bundle.write_bundle`)."""
    names = [*CA_VARIABLES, *(name for name in CA_VARIABLES_IF_SET if name in environment)]
    return dict.fromkeys(names, str(bundle))


def variables(
    url: str, bundle: Path, environment: Mapping[str, str], *, loopback_direct: bool = False
) -> dict[str, str]:
    """Everything that a program needs to be seen: proxy and certificates."""
    return proxy_variables(url, environment, loopback_direct=loopback_direct) | ca_variables(bundle, environment)
