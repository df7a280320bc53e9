"""What the addon leaves on a flow about its response, in `flow.metadata["usagetap"]`: plain JSON, so that it is saved
with the flow and found by `~meta`; the content views read it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mitmproxy import flow

from usagetap.headline import headline
from usagetap.model import Record

KEY = "usagetap"


def told(record: Record, *, body_cut: bool = False) -> dict[str, Any]:
    """What a record says, for the views. `body_cut`: more of the body passed than was kept."""
    return {
        "headline": headline(record),
        "status": record.status,
        "end_reason": record.end_reason,
        "error_type": record.error_type,
        "error_message": record.error_message,
        "request_model": record.request_model,
        "response_model": record.response_model,
        "provider": record.provider,
        "dialect": record.dialect,
        "finish_reasons": record.finish_reasons,
        "service_tier": record.service_tier,
        "usage": {name: count for name, count in asdict(record.usage).items() if count is not None},
        "usage_quality": record.usage_quality,
        "estimated_input_tokens": record.estimated_input_tokens,
        "estimated_output_tokens": record.estimated_output_tokens,
        "cost": None if record.cost is None else format(record.cost, "f"),
        "currency": record.currency,
        "cost_source": record.cost_source,
        "time_to_first_chunk": record.time_to_first_chunk,
        "duration": record.duration,
        "client_include_usage": record.client_include_usage,
        "injected": record.injected,
        "inject_skipped": record.inject_skipped,
        "stripped": record.stripped,
        "retried": record.retried,
        "tag": record.tag,
        "body_cut": body_cut,
    }


def of(viewed: flow.Flow | None) -> dict[str, Any]:
    """What was left on a flow; empty where nothing was. (A saved flow may carry anything: only a dict counts.)"""
    left = viewed.metadata.get(KEY) if viewed is not None else None
    return left if isinstance(left, dict) else {}
