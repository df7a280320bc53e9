"""The bundled price table: genai-prices, offline, loaded on first use (a third of a second, on the writer thread).

Only its data is used: which provider and model a name means, and the dated, tiered rates. The arithmetic is
`rates.bill`, the same as for the user's own file, because usage here is counted by our rules and may be incoherent
where genai-prices would raise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from usagetap.pricing.names import known_as
from usagetap.pricing.rates import Rate, Rates, Tiered

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, Provider

#: OpenTelemetry's `gen_ai.provider.name` -> the id in genai-prices, where they differ
PROVIDER_IDS = {
    "gcp.gemini": "google",
    "gcp.vertex_ai": "google",
    "gcp.gen_ai": "google",
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "aws.bedrock": "aws",
    "mistral_ai": "mistral",
    "x_ai": "x-ai",
    "moonshot_ai": "moonshotai",
    "github_copilot": "github-copilot",
}

#: genai-prices' name of a rate -> our kind, and what its rate must be divided by to be for `UNIT[kind]`
KINDS: dict[str, tuple[str, int]] = {
    "input_mtok": ("input", 1),
    "cache_read_mtok": ("cache_read", 1),
    "cache_write_mtok": ("cache_write", 1),
    "cache_write_5m_mtok": ("cache_write_5m", 1),
    "cache_write_1h_mtok": ("cache_write_1h", 1),
    "output_mtok": ("output", 1),
    "output_reasoning_mtok": ("reasoning", 1),
    "input_audio_mtok": ("audio_in", 1),
    "output_audio_mtok": ("audio_out", 1),
    "cache_audio_read_mtok": ("audio_cache_read", 1),
    "input_image_mtok": ("image_in", 1),
    "output_image_mtok": ("image_out", 1),
    "cache_image_read_mtok": ("image_cache_read", 1),
    "requests_kcount": ("request", 1000),
    "web_searches_kcount": ("web_search", 1000),
    "audio_hours": ("audio_second", 3600),
}


@dataclass(frozen=True, slots=True)
class Found:
    """A model's rates at one moment, and where they came from."""

    rates: Rates
    version: str
    tier_missing: bool
    """A special tier was asked for and the table has no rate for it at that time: these are the ordinary ones."""


@cache
def installed() -> bool:
    """Whether genai-prices is there (looked for, not loaded). The addon runs without it: then there is no table."""
    return find_spec("genai_prices") is not None


def sellers() -> list[str]:
    """The providers that the table has prices of, by its names and ours; empty without the table."""
    if not installed():
        return []
    from genai_prices.data_snapshot import get_snapshot

    return sorted({each.id for each in get_snapshot().providers} | PROVIDER_IDS.keys())


def find(
    provider: str | None, url: str, models: Sequence[str], moment: float, context: Sequence[tuple[str, str]] = ()
) -> Found | None:
    """The rates of the first of `models` that the provider's table knows, at `moment` (seconds since the epoch).

    `provider` is ours (OTel's words, or a host); where it means nothing, `url` is looked up among the providers'
    own addresses. `context` picks a special tier: `("service_tier", "flex")`, `("processing", "batch")`.
    """
    if not installed():
        return None
    seller, names = known_as(provider, models)
    return _find(seller, url, names, int(moment // 60), tuple(context))


@lru_cache(maxsize=4096)
def _find(
    provider: str | None, url: str, models: tuple[str, ...], minute: int, context: tuple[tuple[str, str], ...]
) -> Found | None:
    import genai_prices
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    seller = _provider(snapshot, provider, url)
    if seller is None:
        return None
    for name in models:
        model = seller.find_model(name, all_providers=snapshot.providers)
        if model is not None:
            break
    else:
        return None
    at = datetime.fromtimestamp(minute * 60, UTC)
    # as in genai-prices: another seller's tiers do not hold here (Azure falls back to OpenAI's table)
    own = any(model is each for each in seller.models)
    prices = model.get_prices(at, dict(context) if own else None)
    rates = _rates(prices, anthropic="claude" in model.id.lower())
    if not rates.rate:
        return None
    version = f"genai-prices {genai_prices.__version__} {seller.id}/{model.id}"
    return Found(rates, version, bool(context) and not (own and _has_tier(model, context, at)))


def _provider(snapshot: DataSnapshot, provider: str | None, url: str) -> Provider | None:
    wanted = PROVIDER_IDS.get(provider or "", provider)
    for each in snapshot.providers:
        if each.id == wanted:
            return each
    try:
        return snapshot.find_provider(None, None, url)
    except LookupError:
        return None


def _has_tier(model: ModelInfo, context: tuple[tuple[str, str], ...], at: datetime) -> bool:
    asked = dict(context)
    return any(
        (variant.constraint is None or variant.constraint.active(at))
        and all(asked.get(key) == value for key, value in variant.when.items())
        for variant in model.price_variants or ()
    )


def _rates(prices: ModelPrice, *, anthropic: bool) -> Rates:
    rate: dict[str, Rate] = {}
    for name, (kind, divisor) in KINDS.items():
        value = prices.__dict__.get(name)
        if value is not None:
            rate[kind] = _rate(value, divisor)
    return Rates(rate, anthropic=anthropic)


def _rate(value: Any, divisor: int) -> Rate:
    if isinstance(value, Decimal):
        return value / divisor
    return Tiered(value.base / divisor, tuple((step.start, step.price / divisor) for step in value.tiers))
