import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usagetap.launch.hosts import LLM_HOSTS, allow_hosts, expression


def allowed(address, *usage_hosts):
    """As mitmproxy asks (addons/next_layer.py)."""
    return re.search(allow_hosts(usage_hosts), address, re.IGNORECASE) is not None


@pytest.mark.parametrize(
    "address",
    [
        "api.openai.com:443",
        "API.OpenAI.com:443",
        "eu.api.openai.com:443",
        "myteam.openai.azure.com:443",
        "us-east1-aiplatform.googleapis.com:443",
        "bedrock-runtime.eu-west-1.amazonaws.com:443",
        "bedrock-runtime-fips.us-east-1.amazonaws.com:443",
        "daily-cloudcode-pa.googleapis.com:443",
        "dashscope-intl.aliyuncs.com:443",
        "localhost:11434",
        "127.0.0.1:8000",
        "::1:11434",  # mitmproxy writes no brackets
    ],
)
def test_known_hosts_are_decrypted(address):
    assert allowed(address)


@pytest.mark.parametrize(
    "address",
    [
        "example.com:443",
        "openai.com:443",
        "notapi.openai.com.evil.example:443",
        "xapi.anthropic.com:443",
        "api.anthropic.com.example:443",
        "apixopenai.com:443",
        "s3.amazonaws.com:443",
        "storage.googleapis.com:443",
        "localhost:5432",
        "127.0.0.1:9443",
    ],
)
def test_other_hosts_keep_their_tls(address):
    assert not allowed(address)


def test_the_users_hosts_are_added_and_taken_out():
    mine = ("llm.corp:8443/v1", "*.lab.example", "!api.openai.com", "!chatgpt.com/backend-api", "[fe80::1]:80")
    assert allowed("llm.corp:8443", *mine)
    assert not allowed("llm.corp:443", *mine)
    assert allowed("gpu3.lab.example:8000", *mine)
    assert not allowed("api.openai.com:443", *mine)
    assert allowed("eu.api.openai.com:443", *mine), "only the named host is excluded"
    assert allowed("chatgpt.com:443", *mine), "excluded for one path only: the addon looks at paths"
    assert allowed("fe80::1:80", *mine)


def test_exclusion_is_of_the_whole_name():
    assert allowed("api.openai.com:443", "!api.openai.co", "!pi.openai.com")


HOSTS = st.text(alphabet=string.ascii_lowercase + string.digits + "-.", min_size=1, max_size=30)


@given(HOSTS, st.integers(1, 65535))
def test_a_plain_host_matches_itself_alone(host, port):
    assert re.fullmatch(expression(host), f"{host}:{port}")
    assert not re.fullmatch(expression(host), f"{host}x:{port}")
    assert re.fullmatch(expression(f"{host}:{port}"), f"{host}:{port}")
    assert not re.fullmatch(expression(f"{host}:{port}"), f"{host}:{port}1")


@given(st.lists(st.text(max_size=20), max_size=5))
def test_no_pattern_of_the_users_breaks_the_expression(entries):
    re.compile(allow_hosts(entries))


def test_no_host_is_listed_twice():
    assert len(set(LLM_HOSTS)) == len(LLM_HOSTS)
