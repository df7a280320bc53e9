"""openai-node and @anthropic-ai/sdk through a real mitmdump with the addon.

npm installs them once, in the versions that `node/package-lock.json` names.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.sdk import (
    H1,
    PROXIES,
    REVERSE,
    House,
    Seen,
    Way,
    headers_for,
    masked,
    masked_text,
    reported,
    without_null_usage,
    without_usage_frame,
)
from tests.proxy import ROOT

from usagetap.upstream.server import running_upstream

FOLDER = Path(__file__).with_name("node")
"""The script that makes the calls, and the SDKs' versions. (openai 7 wants a Node that few have yet.)"""
TUNNEL = ROOT / "addon" / "usagetap" / "launch" / "node_proxy.cjs"
"""What `usagetap exec` gives to a Node that does not heed HTTPS_PROXY by itself."""


@pytest.fixture(scope="session")
def script() -> Path:
    """The script, with the SDKs beside it; skipped with the reason where they cannot be had."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed")
    locked, installed = FOLDER / "package-lock.json", FOLDER / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < locked.stat().st_mtime:
        # in the folder: with `--prefix`, npm looks there for its global configuration too, and misses a company's CA
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
        try:
            ran = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=100, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip("npm took more than 100 seconds to install the SDKs")
        if ran.returncode:
            pytest.skip(f"npm cannot install the SDKs: {ran.stderr.strip()[-300:]}")
    return FOLDER / "sdk.mjs"


class Node:
    """One process that makes calls, one after the other."""

    def __init__(self, script: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            ["node", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )

    def call(self, **told: Any) -> Seen:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        seen, headers = headers_for(told.pop("words"))
        print(json.dumps(told | {"headers": headers}), file=self.process.stdin, flush=True)
        said = json.loads(self.process.stdout.readline())
        seen.items, seen.error = said["items"], said["error"] and masked_text(said["error"])
        return seen

    def close(self) -> None:
        with self.process:
            self.process.terminate()


@pytest.fixture(scope="module")
def node(home: House, script: Path) -> Iterator[Callable[[Way, str], Node]]:
    """A process for each way and proxy, started when it is first needed."""
    started: dict[tuple[Way, str], Node] = {}

    def get(way: Way, proxy: str) -> Node:
        if (way, proxy) not in started:
            through = {"HTTPS_PROXY": f"http://127.0.0.1:{home.proxies[proxy].ports[0]}", "NODE_USE_ENV_PROXY": "1"}
            trust = {"NODE_EXTRA_CA_CERTS": str(home.certificate(proxy)), "NODE_OPTIONS": f"--require {TUNNEL}"}
            started[way, proxy] = Node(script, {} if way.reverse else through | trust)
        return started[way, proxy]

    yield get
    for one in started.values():
        one.close()


HOSTS = {"openai": ("api.openai.com", "/v1"), "anthropic": ("api.anthropic.com", "")}
SAID = [{"role": "user", "content": "?"}]
CHAT = {"model": "gpt-4o-mini", "messages": SAID}
ASKED = {"stream_options": {"include_usage": True}}
MESSAGE = {"model": "claude-fake-1", "messages": SAID, "max_tokens": 99}
RESPONSE = {"model": "gpt-4o-mini", "input": "?"}
STREAM = {"stream": True}

# what is asked, and whether the addon asks for usage there that the client did not ask for
CALLS = [
    ("openai", "chat.completions.create", CHAT, "encoding=gzip", False),
    ("openai", "chat.completions.create", CHAT | STREAM, "tools=1", True),
    ("openai", "chat.completions.create", CHAT | STREAM | ASKED, "encoding=br", False),
    ("openai", "completions.create", {"model": "davinci", "prompt": "?"} | STREAM, "slice=-1;encoding=gzip", True),
    ("openai", "responses.create", RESPONSE, "", False),
    ("openai", "responses.create", RESPONSE | STREAM, "reasoning=2;encoding=gzip", False),
    ("openai", "responses.parse", RESPONSE, "encoding=br", False),
    ("openai", "responses.stream", RESPONSE, "slice=-1", False),
    ("anthropic", "messages.create", MESSAGE, "encoding=br", False),
    ("anthropic", "messages.create", MESSAGE | STREAM, "cached=4;tools=1", False),
    ("anthropic", "messages.stream", MESSAGE, "slice=-1", False),
    ("anthropic", "beta.messages.stream", MESSAGE, "cached=4;encoding=gzip", False),
]


def ask(home: House, node: Callable[[Way, str], Node], way: Way, proxy: str, sdk: str, **told: Any) -> Seen:
    host, path = HOSTS[sdk]
    return node(way, proxy).call(sdk=sdk, url=way.url(home, proxy, host) + path, **told)


@pytest.mark.parametrize("way", [H1, REVERSE], ids=lambda way: way.name)
@pytest.mark.parametrize(
    ("sdk", "kind", "arguments", "words", "forced"), CALLS, ids=[f"{call[0]}-{call[1]}-{call[3]}" for call in CALLS]
)
def test_a_call_sees_what_it_sees_without_us_and_has_its_row(
    home: House,
    node: Callable[[Way, str], Node],
    way: Way,
    sdk: str,
    kind: str,
    arguments: dict[str, Any],
    words: str,
    forced: bool,
) -> None:
    told = {"kind": kind, "arguments": arguments, "words": words}
    seen = {proxy: ask(home, node, way, proxy, sdk, **told) for proxy in PROXIES}
    assert [one.error for one in seen.values()] == [None] * 3
    bare, tap, strip = (masked(seen[proxy].items) for proxy in PROXIES)
    assert len(bare) >= 1
    assert (without_null_usage(strip) if forced else strip) == bare
    assert (without_usage_frame(tap) if forced else tap) == bare
    for proxy in ("tap", "strip"):
        row = home.proxies[proxy].row(seen[proxy].tag)
        expected = {"status": "ok", "end_reason": "complete", "usage_quality": "exact", "injected": int(forced)}
        expected |= {"request_model": arguments["model"]} | ({} if way.reverse else {"provider": sdk})
        assert {name: row[name] for name in expected} == expected
        assert (row["input_tokens"], row["output_tokens"]) == reported(seen["tap"].items)


@pytest.mark.parametrize("way", [H1, REVERSE], ids=lambda way: way.name)
def test_raw_text_is_what_upstream_sent(home: House, node: Callable[[Way, str], Node], way: Way) -> None:
    told = {"kind": "chat.completions.create", "arguments": CHAT | STREAM, "words": "chunks=30", "take": "raw"}
    seen = ask(home, node, way, "tap", "openai", **told)
    (exchange,) = home.exchanges(seen.call)
    assert seen.items[0].encode() == bytes(exchange.sent)
    assert home.proxies["tap"].row(seen.tag)["output_tokens"] == 30


@pytest.mark.parametrize("way", [H1, REVERSE], ids=lambda way: way.name)
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_a_stream_that_the_client_leaves_is_aborted(
    home: House, node: Callable[[Way, str], Node], way: Way, sdk: str
) -> None:
    kind, arguments = ("chat.completions.create", CHAT) if sdk == "openai" else ("messages.create", MESSAGE)
    told = {"kind": kind, "arguments": arguments | STREAM, "words": "chunks=20;hold=6", "take": 3}
    seen = ask(home, node, way, "tap", sdk, **told)
    assert (len(seen.items), seen.error) == (3, None)
    row = home.proxies["tap"].row(seen.tag)
    assert (row["status"], row["end_reason"]) == ("aborted", "client_disconnected")


@pytest.mark.parametrize("refusal", ["400", "422"])
def test_a_refusal_of_stream_options_is_invisible(home: House, node: Callable[[Way, str], Node], refusal: str) -> None:
    """The first request is asked again as the client made it; the second is not touched at all."""
    with running_upstream(default=f"refuse={refusal}", tls=True) as refusing:
        for number in (1, 2):
            told = {"kind": "chat.completions.create", "arguments": CHAT | STREAM | {"user": str(number)}, "words": ""}
            before = len(refusing.requests)
            seen = {proxy: node(H1, proxy).call(sdk="openai", url=f"{refusing.url}/v1", **told) for proxy in PROXIES}
            assert [one.error for one in seen.values()] == [None] * 3
            bare, tap, strip = (masked(seen[proxy].items) for proxy in PROXIES)
            assert tap == strip == bare
            assert len(bare) == 7
            asked = [exchange.body for exchange in refusing.requests[before:]]
            refused = [body for body in asked if b"stream_options" in body]
            # bare once; each addon once refused and once as the client made it; then once each
            assert (len(asked), len(refused)) == ((5, 2) if number == 1 else (3, 0))
            assert set(asked) - set(refused) == {asked[0]}
            for proxy in ("tap", "strip"):
                row = home.proxies[proxy].row(seen[proxy].tag)
                assert (row["status"], row["retried"], row["injected"]) == ("ok", int(number == 1), 0)


def test_an_error_is_the_same_error(home: House, node: Callable[[Way, str], Node]) -> None:
    told = {"kind": "chat.completions.create", "arguments": CHAT | STREAM, "words": "status=429"}
    seen = {proxy: ask(home, node, H1, proxy, "openai", **told) for proxy in PROXIES}
    assert seen["tap"].error == seen["strip"].error == seen["bare"].error
    assert (seen["tap"].error or "").startswith("RateLimitError: 429")
    assert home.proxies["tap"].row(seen["tap"].tag)["end_reason"] == "http_error"
