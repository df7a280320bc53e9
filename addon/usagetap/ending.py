"""How a response ended: decided by the payload first, by whoever cut second (contract.md, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from usagetap.model import Observation, Transport, UsageQuality

Cut = Literal["client", "upstream", "connect", "killed", "idle", "stopped"]


@dataclass(frozen=True, slots=True)
class End:
    """What is known of an end besides the payload."""

    cut: Cut | None = None
    """Who cut the exchange short; `None` where the body ended as its framing says."""
    http_status: int | None = None
    transport: Transport | None = None
    finish_ends: bool = True
    """The dialect has no terminal event, or leaves it out at times: finish reasons and a clean end will do."""
    usage_due: bool = False
    """Usage was asked for, by us or by the client, on a stream of a dialect that answers such a wish."""
    readable: bool = True
    """The body could be read to its end: no unknown coding, no frame over the limit."""


def end_reason(seen: Observation, end: End) -> str:
    """The column `end_reason`."""
    if end.http_status is not None and end.http_status >= 400:
        return "http_error"
    if seen.error_type is not None:
        return "upstream_error"
    if _over(seen, end):
        return "no_usage" if end.usage_due and seen.usage_raw is None and end.readable else "complete"
    match end.cut:
        case "client":
            return "client_disconnected"
        case "killed":
            return "killed"
        case "connect":
            return "connect_failed"
        case "idle":
            return "idle_timeout"
        case "stopped":
            return "proxy_stopped"
        case _:
            return "upstream_disconnected"


def _over(seen: Observation, end: End) -> bool:
    """Whether the response was over, whatever happened to the connection then."""
    if seen.terminal:
        return True
    if end.cut is None and (seen.background or not end.readable or _elsewhere(end.http_status)):
        return True
    if not (seen.finished and end.finish_ends):
        return False
    return end.cut is None or not end.usage_due or seen.usage_raw is not None


def _elsewhere(http_status: int | None) -> bool:
    """Whether the status says that no answer is here: nothing (204), or another URL (FastAPI's 307 to a `/` more)."""
    return http_status is not None and (http_status == 204 or 300 <= http_status < 400)


def usage_quality(seen: Observation, reason: str, http_status: int | None = None) -> UsageQuality | None:
    """The column `usage_quality`; `None` where no usage was due: nothing was generated, or it is told elsewhere."""
    if seen.usage_raw is not None:
        return "exact" if reason == "complete" or seen.usage_final else "partial"
    if reason in ("http_error", "connect_failed") or seen.background or _elsewhere(http_status):
        return None
    return "missing"
