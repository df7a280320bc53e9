"""The tables as peewee models. A column's `help_text` is its documentation: the README's tables are made from it.

The models describe; they are bound to no database. Everything works the same on SQLite and PostgreSQL: truth values
are 0/1/NULL, times are text (UTC, ISO 8601 with milliseconds and `Z`, so that they sort as text), money decimal text.
"""

from __future__ import annotations

from peewee import BigAutoField, BigIntegerField, DoubleField, Model, SmallIntegerField, TextField


def _flag(help_text: str) -> SmallIntegerField[int]:
    return SmallIntegerField(help_text=help_text)


def _maybe(help_text: str) -> SmallIntegerField[int | None]:
    return SmallIntegerField(null=True, help_text=help_text)


def _text(help_text: str) -> TextField[str | None]:
    return TextField(null=True, help_text=help_text)


def _count(help_text: str) -> BigIntegerField[int | None]:
    return BigIntegerField(null=True, help_text=help_text)


class UsageRow(Model):
    """One model response: INSERTed as `open` when the request leaves, UPDATEd once when it ends."""

    id = BigAutoField(help_text="integer key")
    flow_id = TextField(help_text="mitmproxy's flow id (a client replay keeps it: `flow_id`, `turn` is not unique)")
    turn = BigIntegerField(help_text="`0` for HTTP, `1…` for the response turns of a WebSocket")
    replay = _flag("1 if replayed")
    instance = TextField(help_text="which proxy process wrote it: `id` in table `instance`")
    started_at = TextField(help_text="when the request left: UTC, ISO 8601 with milliseconds and `Z`")
    ended_at = _text("when the response ended, likewise")
    time_to_first_chunk = DoubleField(null=True, help_text="seconds from request to the first body chunk from upstream")
    duration = DoubleField(null=True, help_text="seconds from request to the end of the body")
    status = TextField(help_text="`open` · `ok` · `aborted` · `error`")
    end_reason = _text("what ended it: `complete` and the other words of the table below")
    http_status = _count("upstream's HTTP status")
    error_type = _text("upstream's word for what went wrong")
    error_message = _text("upstream's message, cut at 500 characters")
    client_address = _text("who asked: the client's IP address")
    client_agent = _text("who asked: the client's User-Agent")
    key_fingerprint = _text("who asked: a keyed hash of the credential (the secret lies beside the database)")
    tag = _text("who asked: the value of the tag header")
    server_address = _text("upstream, `host:port`")
    path = _text("upstream path, without the query")
    provider = _text("OTel's `gen_ai.provider.name` (`openai`, `anthropic`, …), the host where unknown")
    dialect = _text("the wire format: `openai_chat`, `anthropic`, `gemini`, …")
    operation = _text("OTel's `gen_ai.operation.name`: `chat`, `embeddings`, …")
    transport = _text("`json` · `sse` · `ndjson` · `json_array` · `eventstream` · `websocket`")
    stream = _maybe("1 if the response was a stream")
    request_model = _text("the model as sent")
    response_model = _text("the model as served")
    response_id = _text("the provider's id of the response")
    service_tier = _text("the tier as served")
    finish_reasons = _text("JSON list, one per choice, the provider's own words")
    client_include_usage = _maybe("`stream_options.include_usage` as the client sent it; NULL if it did not")
    injected = _flag("1 if we changed the request so that usage comes")
    inject_skipped = _text("why we did not: `refused_before`, `signed`, `encoding`, `too_large`, …")
    stripped = _flag("1 if we withheld the usage frame from the client")
    retried = _flag("1 if upstream refused our field and the original was sent again")
    request_fingerprint = _text("keyed hash of the request body: shows repeated requests, reveals nothing")
    duplicate_of = _count("`id` of the row that already counted this response's usage; reports count it once")
    input_tokens = _count("everything that went in, cached tokens included; like all counts here the provider's own")
    output_tokens = _count("everything that came out, reasoning included")
    total_tokens = _count("the provider's own total; NULL if it gives none")
    cache_read_input_tokens = _count("subset of input: read from the provider's cache")
    cache_write_input_tokens = _count("subset of input: written to the provider's cache")
    cache_write_5m_input_tokens = _count("subset of cache writes that live five minutes (Anthropic)")
    cache_write_1h_input_tokens = _count("subset of cache writes that live an hour (Anthropic)")
    reasoning_output_tokens = _count("subset of output: reasoning")
    audio_input_tokens = _count("subset of input: audio")
    audio_output_tokens = _count("subset of output: audio")
    image_input_tokens = _count("subset of input: images")
    image_output_tokens = _count("subset of output: images")
    tool_use_input_tokens = _count("Gemini's `toolUsePromptTokenCount`; not in `input_tokens`")
    usage_quality = _text("`exact` · `partial` (the stream was cut: a lower bound) · `estimated` · `missing`")
    estimated_input_tokens = _count("counted offline where the provider's count never came or was cut short")
    estimated_output_tokens = _count("likewise, from the deltas that passed")
    usage_raw = _text("the provider's own usage object(s) as JSON")
    cost = _text("decimal text; NULL is unpriced, never 0")
    currency = _text("`USD` unless the price says otherwise")
    cost_source = _text(
        "`provider` · `price_table` · `override` · `resolved` · `estimated` (from estimated tokens, or of what failed)"
    )
    price_version = _text("what the price came from")
    price_note = _text("what the price left out")
    chunks = _count("chunks of the body as they came from upstream")
    frames = _count("frames (events) in it")
    body_bytes = _count("bytes of the body on the wire")
    truncated = _flag("1 if a frame was over `usage_frame_limit` and was not read")
    uid = TextField(unique=True, help_text="unique for ever, given by the proxy: what makes writing twice harmless")

    class Meta:  # noqa: D106 - peewee's own way
        table_name = "usage"


class InstanceRow(Model):
    """One run of a proxy process with its writer."""

    id = TextField(primary_key=True, help_text="random id of this run")
    pid = BigIntegerField(help_text="process id on its host")
    host = TextField(help_text="host name")
    version = TextField(help_text="usagetap's version")
    started_at = TextField(help_text="UTC, ISO 8601")
    heartbeat_at = TextField(help_text="last sign of life, written every 15 seconds")
    stopped_at = TextField(null=True, help_text="when it stopped in good order; NULL while it runs, or if it died")
    lock_path = TextField(null=True, help_text="the file whose lock shows that it is alive, on its own host")

    class Meta:  # noqa: D106 - peewee's own way
        table_name = "instance"


class RefusalRow(Model):
    """Who refuses `stream_options`: learned from a 400 or 422 that blames the field."""

    id = BigAutoField(help_text="integer key")
    host = TextField(help_text="`host:port` upstream")
    scope = TextField(help_text="the model or API version that the refusal is about; empty for the whole host")
    refused_at = TextField(help_text="when it was last refused, UTC, ISO 8601")
    expires_at = TextField(null=True, help_text="when it is tried again")
    reason = TextField(null=True, help_text="the refusal in upstream's words, cut")

    class Meta:  # noqa: D106 - peewee's own way
        table_name = "refusals"
        indexes = ((("host", "scope"), True),)


class PriceHistoryRow(Model):
    """What a reprice replaced."""

    id = BigAutoField(help_text="integer key")
    usage_id = BigIntegerField(index=True, help_text="`id` in table `usage`")
    replaced_at = TextField(help_text="when, UTC, ISO 8601")
    cost = _text("the cost that stood there before")
    currency = _text("its currency")
    cost_source = _text("its source")
    price_version = _text("what it came from")
    price_note = _text("what it left out")

    class Meta:  # noqa: D106 - peewee's own way
        table_name = "price_history"


MODELS: tuple[type[Model], ...] = (UsageRow, InstanceRow, RefusalRow, PriceHistoryRow)

#: every column of table `usage` but `id`, in order
COLUMNS: tuple[str, ...] = tuple(name for name in UsageRow._meta.sorted_field_names if name != "id")

#: What nearly every row is: ended well, counted by the provider, priced (or not) in the usual currency. Reports sum
#: such rows without asking anything of each, and look closely at the rest only.
PLAIN = (
    "CASE WHEN status = 'ok' AND usage_quality = 'exact' AND duplicate_of IS NULL AND retried = 0"
    " AND COALESCE(currency, 'USD') = 'USD' AND COALESCE(cost_source, '') <> 'estimated' THEN 1 ELSE 0 END"
)

_SUMMED = (
    *("input_tokens", "cache_read_input_tokens", "cache_write_input_tokens", "output_tokens"),
    *("reasoning_output_tokens", "cost"),
)
_JUDGED = (
    *("status", "end_reason", "usage_quality", "duplicate_of", "retried", "currency", "cost_source"),
    *("estimated_input_tokens", "estimated_output_tokens"),
)
_GROUPED = (
    *("request_model", "response_model", "provider", "dialect", "tag", "client_address", "key_fingerprint"),
    "server_address",
)

INDEXES: tuple[str, ...] = (
    "CREATE INDEX usage_flow_id ON usage (flow_id)",
    "CREATE INDEX usage_response_id ON usage (response_id) WHERE response_id IS NOT NULL",
    "CREATE INDEX usage_open ON usage (instance) WHERE status = 'open'",
)

#: A million rows of a kilobyte are too much to read for a sum, and SQLite groups by sorting, so reports read indexes
#: that hold all they need. `usage_report` serves every question, by time. Most ask by model and period or not even
#: that: for these each row is in `usage_plain` or `usage_rest`, sorted so that nothing is left to sort (`aggregate`).
SQLITE_INDEXES: tuple[str, ...] = (
    f"CREATE INDEX usage_report ON usage ({', '.join(('started_at', *_GROUPED, *_JUDGED, *_SUMMED))})",
    f"CREATE INDEX usage_plain ON usage ({', '.join(('request_model', 'started_at', *_SUMMED))}) WHERE {PLAIN} = 1",
    "CREATE INDEX usage_rest ON usage"
    f" ({', '.join(('request_model', 'started_at', 'response_model', *_JUDGED, *_SUMMED))}) WHERE {PLAIN} = 0",
)
#: PostgreSQL groups by hashing and reads large pages in parallel
POSTGRES_INDEXES: tuple[str, ...] = ("CREATE INDEX usage_started_at ON usage (started_at)",)

#: `model` in views and reports: what was asked for; what was served where the request names none
MODEL = "COALESCE(request_model, response_model)"
#: ended, and the usage that was due never came; a request that failed before any model ran owes none
MISSING = (
    "status <> 'open' AND usage_quality = 'missing'"
    " AND COALESCE(end_reason, '') NOT IN ('http_error', 'connect_failed')"
)
#: used something, and nobody knows what it cost
UNPRICED = (
    "status <> 'open' AND cost IS NULL AND duplicate_of IS NULL AND usage_quality IN ('exact', 'partial', 'estimated')"
)


#: what reports count, and which tokens they sum
COUNTS: tuple[str, ...] = (
    *("requests", "still_open", "ok", "aborted", "errors", "missing", "unpriced", "estimated", "duplicates", "retried"),
)
TOKENS: tuple[str, ...] = (
    *("input_tokens", "cache_read_input_tokens", "cache_write_input_tokens", "output_tokens"),
    *("reasoning_output_tokens", "estimated_input_tokens", "estimated_output_tokens"),
)


def count_where(condition: str) -> str:
    """SQL for the number of rows for which `condition` holds."""
    return f"SUM(CASE WHEN {condition} THEN 1 ELSE 0 END)"


def sum_once(column: str) -> str:
    """SQL for the sum of a column that counts a response's usage once, however often it was fetched."""
    return f"SUM(CASE WHEN duplicate_of IS NULL THEN {column} END)"


def _view(name: str, key: str, expression: str) -> str:
    counts = {
        "requests": "COUNT(*)",
        "ok": count_where("status = 'ok'"),
        "aborted": count_where("status = 'aborted'"),
        "errors": count_where("status = 'error'"),
        "still_open": count_where("status = 'open'"),
        "missing": count_where(MISSING),
        "unpriced": count_where(UNPRICED),
    }
    tokens = {name: sum_once(name) for name in TOKENS}
    in_dollars = "duplicate_of IS NULL AND currency = 'USD' AND COALESCE(cost_source, '')"
    costs = {
        "cost_usd": f"SUM(CASE WHEN {in_dollars} <> 'estimated' THEN CAST(cost AS NUMERIC) END)",
        "estimated_cost_usd": f"SUM(CASE WHEN {in_dollars} = 'estimated' THEN CAST(cost AS NUMERIC) END)",
        "in_other_currencies": count_where("currency <> 'USD'"),
    }
    columns = ", ".join(f"{sql} AS {column}" for column, sql in (counts | tokens | costs).items())
    return f"CREATE VIEW {name} AS SELECT {expression} AS {key}, {columns} FROM usage GROUP BY {expression}"


#: For people with `sqlite3` or datasette. Days are UTC days. Usage that was fetched twice counts once; costs in another
#: currency than dollars are not summed but counted (`in_other_currencies`), as are rows without usage or price.
VIEWS: tuple[str, ...] = (
    _view("usage_daily", "day", "SUBSTR(started_at, 1, 10)"),
    _view("usage_by_model", "model", MODEL),
)
