"""A small database with one of everything that a report has to tell apart."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from click.testing import CliRunner

from usagetap.cli import main
from usagetap.model import Record, Usage
from usagetap.store.database import connect
from usagetap.store.migrations import migrate
from usagetap.store.rows import to_row
from usagetap.store.upsert import write

RAW = {"prompt_tokens": 1234, "completion_tokens": 56}


def record(number, day, **values):
    started = datetime(2026, 11, day, 9, 30, number % 60, tzinfo=UTC).timestamp()
    defaults = {
        "uid": f"test-{number}",
        "flow_id": f"{number:04d}aaaa-flow",
        "started_at": started,
        "ended_at": started + 2.5,
        "duration": 2.5,
        "time_to_first_chunk": 0.32,
        "instance": "test",
        "status": "ok",
        "end_reason": "complete",
        "http_status": 200,
        "provider": "openai",
        "server_address": "api.openai.com:443",
        "path": "/v1/chat/completions",
        "dialect": "openai_chat",
        "operation": "chat",
        "transport": "sse",
        "stream": True,
        "request_model": "gpt-5-mini",
        "response_model": "gpt-5-mini-2025-08-07",
        "response_id": f"resp-{number}",
        "tag": "billing",
        "client_address": "127.0.0.1",
        "usage_quality": "exact",
        "finish_reasons": ["stop"],
    }
    return Record(**(defaults | values))


def priced(cost, currency="USD", source="price_table"):
    return {"cost": Decimal(cost), "currency": currency, "cost_source": source, "price_version": "genai-prices 0.2.3"}


RECORDS = [
    record(
        1,
        18,
        usage=Usage(input_tokens=1234, output_tokens=56, cache_read_input_tokens=1000, reasoning_output_tokens=12),
        usage_raw=RAW,
        injected=True,
        stripped=True,
        chunks=40,
        frames=42,
        body_bytes=12345,
        **priced("0.0012"),
    ),
    record(2, 18, usage=Usage(input_tokens=2_000_000, output_tokens=65_000), **priced("0.63")),
    record(
        3,
        19,
        request_model="claude-sonnet-5",
        response_model="claude-sonnet-5",
        provider="anthropic",
        server_address="api.anthropic.com:443",
        dialect="anthropic",
        tag="search",
        usage=Usage(
            input_tokens=88_000, output_tokens=900, cache_read_input_tokens=80_000, cache_write_input_tokens=4_000
        ),
        **priced("0.035"),
    ),
    record(
        4,
        19,
        request_model="qwen3:14b",
        response_model="qwen3:14b",
        provider="localhost",
        server_address="localhost:11434",
        tag=None,
        usage=Usage(input_tokens=500, output_tokens=700),
        price_note="no price for qwen3:14b at localhost",
    ),
    record(
        5,
        19,
        status="aborted",
        end_reason="client_disconnected",
        usage_quality="estimated",
        estimated_input_tokens=400,
        estimated_output_tokens=90,
        **priced("0.00028", source="estimated"),
    ),
    record(6, 20, status="error", end_reason="no_usage", usage_quality="missing"),
    record(
        7,
        20,
        status="error",
        end_reason="http_error",
        http_status=429,
        error_type="rate_limit",
        error_message="slow down \x1b[31mnow",
        usage_quality="missing",
        tag="=HYPERLINK(1)",
    ),
    record(8, 20, status="open", end_reason=None, ended_at=None, duration=None, usage_quality=None, http_status=None),
    record(
        9,
        20,
        request_model="local-sats",
        response_model="local-sats",
        provider="llm.example",
        server_address="llm.example:443",
        usage=Usage(input_tokens=10, output_tokens=5),
        **priced("42", "sats", "override"),
    ),
]


@pytest.fixture
def db(tmp_path):
    """Where the database is."""
    path = tmp_path / "usage.db"
    database = connect(path)
    migrate(database)
    write(database, [to_row(each) for each in RECORDS])
    database.close()
    return path


@pytest.fixture
def run(db, monkeypatch):
    """Run `usagetap …` on the database: its exit code and what it printed."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "UTC")

    def call(*arguments, code=0, width=120, env=None, **options):
        environment = {"COLUMNS": str(width), "USAGETAP_DB": str(db), **(env or {})}
        result = CliRunner().invoke(main, list(arguments), env=environment, **options)
        assert result.exit_code == code, result.output
        return result.stdout if code == 0 else result.output

    return call
