"""What a provider itself says a response cost.

Sources, recorded in the corpus unless noted: OpenRouter and Vercel `usage.cost`, Perplexity `usage.cost.total_cost`,
xAI `cost_in_usd_ticks` (1 tick = 1e-10 USD, verified against grok-4-fast list prices), pydantic gateway
`usage.pydantic_ai_gateway.cost_estimate`, LiteLLM's header `x-litellm-response-cost`, Copilot
`copilot_usage.total_nano_aiu` (1e9 nano-AIU = 0.01 USD; from a Copilot proxy's source, not recorded).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from usagetap.dialects.base import Json, mapping
from usagetap.model import Observation

_TICK = Decimal("1e-10")
_NANO_AIU = Decimal("1e-11")


def money(value: Any) -> Decimal | None:
    """A non-negative amount as sent (number or text) without binary rounding; `None` where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and amount >= 0 else None


def observe_cost(seen: Observation, usage: Json) -> None:
    """Take the cost that a usage object carries; a later one replaces it (Perplexity sends zeros until the last)."""
    cost = _of_usage(usage)
    if cost is not None:
        seen.cost, seen.currency = cost, "USD"


def _of_usage(usage: Json) -> Decimal | None:
    told = usage.get("cost")
    if isinstance(told, dict):  # Perplexity; its embeddings say the currency, always USD so far
        return money(told.get("total_cost"))
    if "cost_in_usd_ticks" in usage:
        ticks = money(usage["cost_in_usd_ticks"])
        return None if ticks is None else ticks * _TICK
    gateway = money(mapping(usage.get("pydantic_ai_gateway")).get("cost_estimate"))
    cost = money(told) if gateway is None else gateway
    if cost is not None and usage.get("is_byok") is True:
        # OpenRouter with the user's own provider key: `cost` is OpenRouter's fee, the provider bills the rest
        upstream = money(mapping(usage.get("cost_details")).get("upstream_inference_cost"))
        return None if upstream is None else cost + upstream
    return cost


def observe_copilot(seen: Observation, payload: Json) -> None:
    """Take GitHub Copilot's bill, a sibling of `usage`, possibly on a frame of its own."""
    amount = money(mapping(payload.get("copilot_usage")).get("total_nano_aiu"))
    if amount is not None:
        seen.cost, seen.currency = amount * _NANO_AIU, "USD"


def observe_header(seen: Observation, headers: Mapping[str, str]) -> None:
    """Take the cost that a LiteLLM proxy puts into a header."""
    cost = money(headers.get("x-litellm-response-cost", ""))
    if cost is not None:
        seen.cost, seen.currency = cost, "USD"
