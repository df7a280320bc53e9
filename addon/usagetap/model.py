"""The words of the project as shapes: what was asked, what was told, what is written down.

Everything here is plain: no mitmproxy, no database, no clock. ``None`` always means "nobody said"; 0 means
"they said zero".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Literal

Status = Literal["open", "ok", "aborted", "error"]
Transport = Literal["json", "sse", "ndjson", "json_array", "eventstream", "websocket"]
UsageQuality = Literal["exact", "partial", "estimated", "missing"]

#: every `end_reason`, with the `status` that it gives (contract.md, section 3)
STATUS_OF_END: dict[str, Status] = {
    "complete": "ok",
    "client_disconnected": "aborted",
    "killed": "aborted",
    "upstream_disconnected": "error",
    "upstream_error": "error",
    "http_error": "error",
    "connect_failed": "error",
    "idle_timeout": "error",
    "no_usage": "error",
    "proxy_stopped": "error",
    "proxy_died": "error",
}


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request as far as a dialect may look at it. Header names are lower case; `path` has no query."""

    method: str
    host: str
    port: int
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    """The body parsed as JSON, `None` where there is none or it is not JSON."""

    def text(self, name: str) -> str | None:
        """The string at `name` in a JSON object body, else `None`."""
        value = self.body.get(name) if isinstance(self.body, dict) else None
        return value if isinstance(value, str) and value else None


@dataclass(slots=True)
class Usage:
    """Token counts by our own rules, whatever the provider's: cached tokens are inside `input_tokens`,
    reasoning inside `output_tokens` (contract.md, section 3)."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    cache_write_5m_input_tokens: int | None = None
    cache_write_1h_input_tokens: int | None = None
    reasoning_output_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    image_input_tokens: int | None = None
    image_output_tokens: int | None = None
    tool_use_input_tokens: int | None = None

    def merge(self, later: Usage) -> None:
        """Take every number that `later` has; what it does not say stays (the last word per field wins)."""
        for name in USAGE_FIELDS:
            value = getattr(later, name)
            if value is not None:
                setattr(self, name, value)

    @property
    def known(self) -> bool:
        """Whether anything at all has been said."""
        return any(getattr(self, name) is not None for name in USAGE_FIELDS)


USAGE_FIELDS: tuple[str, ...] = tuple(f.name for f in fields(Usage))


@dataclass(slots=True)
class Observation:
    """What a response has told so far. A dialect's `observe` folds payloads into it; nothing else writes to it."""

    response_id: str | None = None
    response_model: str | None = None
    service_tier: str | None = None
    finish_reasons: dict[int, str | int | None] = field(default_factory=dict)
    """Per choice: the provider's own word (from Vertex it may be a number), `None` for a choice that was seen and has
    not finished."""
    usage: Usage = field(default_factory=Usage)
    usage_raw: Any = None
    """The provider's own usage object (or objects, in a list or dict), as parsed."""
    usage_final: bool = False
    """The provider's last word on usage was seen: what follows can only repeat it."""
    terminal: bool = False
    """The payload's own terminal event was seen (`[DONE]`, `message_stop`, `response.completed`, …)."""
    error_type: str | None = None
    error_message: str | None = None
    cost: Decimal | None = None
    """What the provider itself says this response cost, in `currency`."""
    currency: str | None = None
    background: bool = False
    """The response goes on elsewhere (Responses' background mode): no usage is due on this exchange."""

    @property
    def finished(self) -> bool:
        """Whether every choice that was seen has its finish reason (and at least one was seen)."""
        return bool(self.finish_reasons) and None not in self.finish_reasons.values()

    def fail(self, error_type: str | None, message: str | None) -> None:
        """Note an error that the payload told of; the first one stays."""
        if self.error_type is None:
            self.error_type = error_type or "error"
            self.error_message = message


@dataclass(slots=True)
class Record:
    """One row of table `usage`: names, units and meanings as in contract.md, section 3.

    Times are seconds since the epoch here (the store writes ISO 8601); `cost` is a Decimal (the store writes text).
    """

    uid: str
    """Unique for ever: the writer's idempotency key (`<instance>-<number>`)."""
    flow_id: str
    started_at: float
    turn: int = 0
    replay: bool = False
    instance: str = ""
    ended_at: float | None = None
    time_to_first_chunk: float | None = None
    duration: float | None = None
    status: Status = "open"
    end_reason: str | None = None
    http_status: int | None = None
    error_type: str | None = None
    error_message: str | None = None
    client_address: str | None = None
    client_agent: str | None = None
    key_fingerprint: str | None = None
    tag: str | None = None
    server_address: str | None = None
    path: str | None = None
    provider: str | None = None
    dialect: str | None = None
    operation: str | None = None
    transport: Transport | None = None
    stream: bool | None = None
    request_model: str | None = None
    response_model: str | None = None
    response_id: str | None = None
    service_tier: str | None = None
    finish_reasons: list[str | int | None] | None = None
    client_include_usage: bool | None = None
    injected: bool = False
    inject_skipped: str | None = None
    stripped: bool = False
    retried: bool = False
    request_fingerprint: str | None = None
    duplicate_of: int | None = None
    """Set by the writer: the row id that already counted this response id's usage."""
    usage: Usage = field(default_factory=Usage)
    usage_quality: UsageQuality | None = None
    estimated_input_tokens: int | None = None
    estimated_output_tokens: int | None = None
    usage_raw: Any = None
    cost: Decimal | None = None
    currency: str | None = None
    cost_source: str | None = None
    price_version: str | None = None
    price_note: str | None = None
    chunks: int | None = None
    frames: int | None = None
    body_bytes: int | None = None
    truncated: bool = False
