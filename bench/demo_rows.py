"""Thirty days of made-up traffic of one team, for screenshots and for trying the dashboard. The same every time.

python -m bench.demo_rows FILE        # writes a database
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from usagetap.model import Record, Usage
from usagetap.store.database import connect
from usagetap.store.migrations import migrate
from usagetap.store.rows import to_row
from usagetap.store.schema import COLUMNS

DAY = 86_400


class Model(NamedTuple):
    """A model: what it is called, what a million tokens cost, how quick it is, how often it is asked."""

    name: str
    provider: str
    host: str
    dialect: str
    rates: tuple[str, str] | None
    first_chunk: float
    pace: float
    weight: int
    size: int


MODELS = (
    Model("claude-sonnet-4-5", "anthropic", "api.anthropic.com:443", "anthropic", ("3", "15"), 1.3, 71, 30, 14_000),
    Model("gpt-5-mini", "openai", "api.openai.com:443", "openai_chat", ("0.25", "2"), 0.62, 118, 26, 3_200),
    Model("gpt-5", "openai", "api.openai.com:443", "openai_responses", ("1.25", "10"), 2.4, 84, 12, 5_200),
    Model(
        "gemini-2.5-flash",
        "gcp.gemini",
        "generativelanguage.googleapis.com:443",
        "gemini",
        ("0.3", "2.5"),
        0.48,
        205,
        14,
        4_100,
    ),
    Model("claude-opus-4-1", "anthropic", "api.anthropic.com:443", "anthropic", ("15", "75"), 2.1, 46, 3, 9_000),
    Model("deepseek-chat", "deepseek", "api.deepseek.com:443", "openai_chat", ("0.27", "1.1"), 1.1, 39, 7, 2_600),
    Model("mistral-medium-latest", "mistral_ai", "api.mistral.ai:443", "openai_chat", ("0.4", "2"), 0.41, 96, 5, 1_900),
    Model("llama-3.3-70b-versatile", "groq", "api.groq.com:443", "openai_chat", ("0.59", "0.79"), 0.21, 276, 6, 1_500),
    Model(
        "text-embedding-3-small", "openai", "api.openai.com:443", "openai_embeddings", ("0.02", "0"), 0.19, 0, 6, 900
    ),
    Model("qwen3:32b", "workstation.local", "workstation.local:11434", "ollama", None, 0.35, 31, 5, 1_100),
)
TAGS = ("docs-bot", "code-review", "support", "nightly-eval", None)
CLIENTS = ("10.0.0.12", "10.0.0.17", "10.0.0.31", "127.0.0.1")
AGENTS = ("OpenAI/Python 2.8.0", "anthropic-sdk-python/0.74.0", "claude-cli/2.0.31", "node-fetch")


def records(now: float, days: int = 30, per_day: int = 120) -> Iterator[Record]:
    """Responses until `now`, busier on weekdays and by day, the oldest first."""
    choose = random.Random(7)
    starts = []
    for day in range(days + 1):
        midnight = now - now % DAY - (days - day) * DAY
        weekend = time.gmtime(midnight).tm_wday >= 5
        count = round(per_day * (0.35 if weekend else 1) * (0.7 + 0.5 * day / days) * choose.uniform(0.8, 1.2))
        starts += [midnight + (13.5 + choose.gauss(0, 3.4)) % 24 * 3600 for _ in range(count)]
    recent = [now - choose.uniform(2, 5400) for _ in range(30)]
    for number, started in enumerate(sorted(start for start in starts + recent if start < now - 1)):
        yield _record(number, started, now, choose)


def _record(number: int, started: float, now: float, choose: random.Random) -> Record:
    model = choose.choices(MODELS, [each.weight for each in MODELS])[0]
    streams = model.pace > 0 and choose.random() < 0.9
    first = model.first_chunk * math.exp(choose.gauss(0, 0.42))
    tokens_in = max(20, round(model.size * math.exp(choose.gauss(0, 0.8))))
    tokens_out = max(3, round(420 * math.exp(choose.gauss(0, 0.9)))) if model.pace else 0
    took = first + (tokens_out / (model.pace * math.exp(choose.gauss(0, 0.25))) if model.pace else 0)
    record = Record(
        uid=f"demo-{number}",
        flow_id=f"{choose.getrandbits(32):08x}-0000-4000-8000-{number:012x}",
        started_at=started,
        instance="demo",
        http_status=200,
        client_address=choose.choice(CLIENTS),
        client_agent=choose.choice(AGENTS),
        key_fingerprint=f"{choose.randrange(3):016x}",
        tag=choose.choices(TAGS, (30, 34, 18, 12, 9))[0],
        server_address=model.host,
        path="/v1/messages" if model.dialect == "anthropic" else "/v1/chat/completions",
        provider=model.provider,
        dialect=model.dialect,
        operation="chat" if model.pace else "embeddings",
        transport="sse" if streams else "json",
        stream=streams,
        request_model=model.name,
        response_model=model.name,
        response_id=f"resp_{number:08d}",
        injected=streams and model.dialect == "openai_chat" and choose.random() < 0.7,
        request_fingerprint=f"{choose.randrange(60_000):016x}",
        time_to_first_chunk=round(first, 3),
        duration=round(took, 3),
    )
    _end(record, choose.random(), tokens_in, tokens_out, choose)
    if started + took > now - 4:  # still running
        record.status, record.end_reason, record.duration, record.usage = "open", None, None, Usage()
        return record
    record.ended_at = started + (record.duration or 0)
    _price(record, model)
    return record


def _end(record: Record, luck: float, tokens_in: int, tokens_out: int, choose: random.Random) -> None:
    cached = round(tokens_in * choose.uniform(0.3, 0.9)) if choose.random() < 0.55 else 0
    record.status, record.end_reason, record.usage_quality = "ok", "complete", "exact"
    record.finish_reasons = ["tool_calls" if luck > 0.6 else "stop"]
    record.usage = Usage(
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        total_tokens=tokens_in + tokens_out,
        cache_read_input_tokens=cached,
        reasoning_output_tokens=round(tokens_out * 0.4) if record.request_model == "gpt-5" else None,
    )
    record.usage_raw = {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
    }
    if luck < 0.035:
        record.status, record.end_reason, record.usage_quality = "aborted", "client_disconnected", "partial"
        record.usage.output_tokens = max(1, tokens_out // 5)
        record.estimated_output_tokens = record.usage.output_tokens + 9
        record.finish_reasons = [None]
    elif luck < 0.05:
        record.status, record.end_reason, record.usage_quality = "aborted", "client_disconnected", "estimated"
        record.usage = Usage()
        record.estimated_input_tokens, record.estimated_output_tokens = tokens_in, tokens_out // 3
        record.finish_reasons = [None]
    elif luck < 0.065:
        record.status, record.end_reason, record.usage_quality = "error", "http_error", "missing"
        record.http_status, record.error_type = 429, "rate_limit_error"
        record.error_message = "Number of request tokens has exceeded your per-minute rate limit"
        record.usage, record.finish_reasons, record.time_to_first_chunk = Usage(), None, None
        record.duration = 0.3
    elif luck < 0.072:
        record.status, record.end_reason, record.usage_quality = "error", "upstream_disconnected", "missing"
        record.usage, record.finish_reasons = Usage(), [None]


def _price(record: Record, model: Model) -> None:
    estimated = record.usage_quality == "estimated"
    used = record.usage
    tokens_in = record.estimated_input_tokens if estimated else used.input_tokens
    tokens_out = record.estimated_output_tokens if estimated else used.output_tokens
    if model.rates is None or tokens_in is None or tokens_out is None:
        return
    cached = used.cache_read_input_tokens or 0
    rate_in, rate_out = map(Decimal, model.rates)
    record.cost = ((tokens_in - cached) * rate_in + cached * rate_in / 10 + tokens_out * rate_out) / 1_000_000
    record.currency = "USD"
    record.cost_source = "estimated" if estimated else "price_table"
    record.price_version = "genai-prices 0.0.35"


def build(path: Path, now: float | None = None) -> Path:
    """A database with these rows at `path`."""
    db = connect(path)
    migrate(db)
    insert = f"INSERT INTO usage ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608
    with db.atomic():
        for record in records(time.time() if now is None else now):
            row = to_row(record)
            db.execute_sql(insert, [row[name] for name in COLUMNS])
    db.close()
    return path


if __name__ == "__main__":
    print(json.dumps({"db": str(build(Path(sys.argv[1])))}))
