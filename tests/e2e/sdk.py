"""What the SDK tests share: the ways from an SDK to the fake upstream, calls as values, what an SDK has seen as JSON.

Every way leads through three proxies: `bare` streams and does nothing else, `tap` is the addon with its defaults,
`strip` the addon with `usage_strip_frame=injected`.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

from tests.proxy import ROOT, STREAM_ONLY, USAGE, Mitmdump, running_mitmdump

from usagetap.upstream.exchange import Exchange
from usagetap.upstream.server import Upstream, running_upstream

NAMES = ROOT / "tests" / "mitm" / "scripts" / "names.py"
PROXIES = ("bare", "tap", "strip")
_numbers = itertools.count(1)


@dataclass
class House:
    """The upstreams and the three proxies, each with a `regular` and a `reverse` port."""

    plain: Upstream
    secure: Upstream
    proxies: dict[str, Mitmdump]

    def certificate(self, name: str) -> Path:
        """The CA of one proxy, as a client has to trust it."""
        conf = Path(self.proxies[name].db).parent / "conf"
        return conf / "mitmproxy-ca-cert.pem"

    def trust(self, name: str) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certificate(name))

    def exchanges(self, call: str) -> list[Exchange]:
        """What arrived upstream for one call (header `x-call`)."""
        both = [*self.plain.requests, *self.secure.requests]
        return [exchange for exchange in both if exchange.header("x-call") == call]


@contextmanager
def house(folder: Path) -> Iterator[House]:
    """All of it, up and running."""
    captures = [ROOT / "captures"]
    with running_upstream(replay=captures) as plain, running_upstream(tls=True, replay=captures) as secure:
        modes = ("regular", f"reverse:{plain.url}")

        def proxy(name: str, *scripts: Path, **options: str) -> Any:
            return running_mitmdump(folder / name, *modes, scripts=[*scripts, NAMES], **options)

        ours = {"usage_estimate": "false"}
        with (
            proxy("bare", STREAM_ONLY) as bare,
            proxy("tap", USAGE, **ours) as tap,
            proxy("strip", USAGE, usage_strip_frame="injected", **ours) as strip,
        ):
            yield House(plain, secure, {"bare": bare, "tap": tap, "strip": strip})


@dataclass(frozen=True)
class Way:
    """How a client gets to the provider: `reverse` (plain HTTP/1.1), or `regular` over HTTPS with HTTP/1.1 or 2."""

    name: str

    @property
    def reverse(self) -> bool:
        return self.name == "reverse"

    def url(self, house: House, proxy: str, provider: str) -> str:
        """The provider's address as the client knows it."""
        if self.reverse:
            return f"http://127.0.0.1:{house.proxies[proxy].ports[1]}"
        return f"https://{provider}:{house.secure.port}"

    def options(self, house: House, proxy: str) -> dict[str, Any]:
        """Arguments of httpx's client."""
        if self.reverse:
            return {"trust_env": False}
        through = {"proxy": f"http://127.0.0.1:{house.proxies[proxy].ports[0]}", "verify": house.trust(proxy)}
        return through | {"http2": self.name == "h2", "trust_env": False}


H1, H2, REVERSE = Way("h1"), Way("h2"), Way("reverse")


@dataclass(frozen=True)
class Call:
    """One call of an SDK: the method's place under the client, its arguments, and what the row must say of it."""

    method: str
    arguments: Mapping[str, Any]
    row: Mapping[str, Any]
    words: str = ""
    """How the upstream is to behave (behaviour.py)."""
    forced: bool = False
    """Whether the addon asks for usage here, and the client did not."""

    @property
    def name(self) -> str:
        asks = [key for key in ("stream", "stream_options") if self.arguments.get(key)]
        return "-".join([self.method, *asks, *filter(None, [self.words])])


@dataclass
class Seen:
    """What the SDK gave its caller."""

    call: str
    tag: str
    items: list[Any] = field(default_factory=list)
    """The items of a stream, or the one answer."""
    error: str | None = None

    def add(self, item: Any) -> None:
        self.items.append(jsonable(item))


def headers_for(words: str) -> tuple[Seen, dict[str, str]]:
    """A new call's headers, and where what it sees is to be put."""
    name = f"call-{next(_numbers)}"
    told = {"x-usage-tag": name, "x-call": name}
    return Seen(name, name), told | ({"x-upstream": words} if words else {})


def run(client: Any, call: Call) -> Seen:
    """Make the call with a client that blocks."""
    seen, headers = headers_for(call.words)
    try:
        answer = attrgetter(call.method)(client)(**call.arguments, extra_headers=headers)
        if hasattr(answer, "__enter__"):
            with answer as entered:
                for item in entered:
                    seen.add(item)
        else:
            seen.add(answer.parse() if "with_raw_response" in call.method else answer)
    except Exception as error:  # noqa: BLE001 - what it raises is what it sees
        seen.error = masked_text(f"{type(error).__name__}: {error}")
    return seen


def run_async(client: Any, call: Call) -> Seen:
    """Make the call with a client that is awaited, which is closed after it."""

    async def go() -> Seen:
        seen, headers = headers_for(call.words)
        async with client:
            try:
                answer = attrgetter(call.method)(client)(**call.arguments, extra_headers=headers)
                if hasattr(answer, "__await__"):
                    answer = await answer
                if hasattr(answer, "__aenter__"):
                    async with answer as entered:
                        async for item in entered:
                            seen.add(item)
                else:
                    parsed = answer.parse() if "with_raw_response" in call.method else answer
                    seen.add(await parsed if hasattr(parsed, "__await__") else parsed)
            except Exception as error:  # noqa: BLE001 - what it raises is what it sees
                seen.error = masked_text(f"{type(error).__name__}: {error}")
        return seen

    return asyncio.run(go())


# -- comparing


def jsonable(value: Any) -> Any:
    """A pydantic model (and what holds some) as JSON, without fields that nobody sent."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_unset=True, by_alias=True, warnings=False)
    if isinstance(value, list | tuple):
        return [jsonable(each) for each in value]
    return value


_RANDOM = re.compile(r"\b(chatcmpl|cmpl|resp|msg|rs|fc|item|sess|event|toolu|call|req|srvtoolu)[-_][0-9A-Za-z]{12,}")
_NAMED_RANDOM = {"created", "created_at", "responseId", "signature", "snapshot"}


def masked_text(text: str) -> str:
    return _RANDOM.sub(r"\1-*", text)


def masked(value: Any) -> Any:
    """Without what the upstream makes up anew for every answer: ids and times."""
    if isinstance(value, dict):
        return {key: "*" if key in _NAMED_RANDOM else masked(each) for key, each in value.items()}
    if isinstance(value, list):
        return [masked(each) for each in value]
    return masked_text(value) if isinstance(value, str) else value


def without_null_usage(items: list[Any]) -> list[Any]:
    """Without `"usage":null`, which OpenAI puts on every frame once it is asked for usage."""
    return [
        {key: each for key, each in item.items() if not (key == "usage" and each is None)}
        if isinstance(item, dict)
        else item
        for item in items
    ]


def without_usage_frame(items: list[Any]) -> list[Any]:
    """Without the frame that carries usage and no choice, nor `"usage":null`."""
    return without_null_usage([item for item in items if not is_usage_frame(item)])


def is_usage_frame(item: Any) -> bool:
    return isinstance(item, dict) and item.get("choices") == [] and isinstance(item.get("usage"), dict)


def reported(items: list[Any]) -> tuple[int, int] | None:
    """Input and output tokens as the SDK's user would read them off: the last word of each, wherever it stands.

    Anthropic's input is without cached tokens, Gemini's output without thoughts: both are added here.
    """
    counts: dict[str, int] = {}
    for item in items:
        for usage in _usages(item):
            counts |= {key: value for key, value in usage.items() if isinstance(value, int)}
    for given, made, more in (
        ("prompt_tokens", "completion_tokens", ()),
        ("input_tokens", "output_tokens", ("cache_read_input_tokens", "cache_creation_input_tokens")),
        ("promptTokenCount", "candidatesTokenCount", ("thoughtsTokenCount",)),
    ):
        if given in counts:
            extra = sum(counts.get(name, 0) for name in more)
            thoughts = extra if "thoughtsTokenCount" in more else 0
            return counts[given] + extra - thoughts, counts.get(made, 0) + thoughts
    return None


def _usages(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key in ("usage", "usageMetadata", "usage_metadata") and isinstance(each, dict):
                yield each
            else:
                yield from _usages(each)
    elif isinstance(value, list):
        for each in value:
            yield from _usages(each)
