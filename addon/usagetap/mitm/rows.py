"""Rows out of what mitmproxy knows: opened when a request leaves, concluded when its response has ended."""

from __future__ import annotations

import time

from mitmproxy import http

from usagetap.ending import Cut, End, end_reason, usage_quality
from usagetap.mitm.edits import Edit
from usagetap.mitm.incoming import credential_of, masked, tag_of
from usagetap.mitm.recording import Recording
from usagetap.model import STATUS_OF_END, Observation, Record, Request
from usagetap.providers import provider
from usagetap.reader import Reader


def open_row(
    flow: http.HTTPFlow,
    request: Request,
    recording: Recording,
    *,
    dialect: str,
    operation: str,
    model: str | None,
    stream: bool,
    edit: Edit | None = None,
    raw: bytes | None = None,
    turn: int = 0,
) -> Record:
    """The row of a request that leaves now; of a flow read from a file, that left then."""
    edit = edit or Edit()
    peer = flow.client_conn.peername
    credential = credential_of(request)
    return Record(
        uid=recording.uid(),
        instance=recording.instance,
        flow_id=flow.id,
        turn=turn,
        started_at=time.time() if flow.live else flow.request.timestamp_end or flow.request.timestamp_start,
        replay=flow.is_replay is not None,
        client_address=peer[0] if peer else None,
        client_agent=(request.headers.get("user-agent") or "")[:300] or None,
        key_fingerprint=recording.fingerprint(credential.encode() if credential else None),
        tag=tag_of(request.headers.get(recording.settings.tag_header)),
        server_address=f"{request.host}:{request.port}",
        path=request.path[:1000],
        provider=provider(request),
        dialect=dialect,
        operation=operation,
        stream=stream,
        request_model=model,
        client_include_usage=edit.client_include_usage,
        injected=edit.injected,
        inject_skipped=edit.skipped,
        request_fingerprint=recording.fingerprint(raw),
    )


def take_seen(record: Record, seen: Observation) -> None:
    """Copy what a response has told into its row."""
    record.response_id, record.response_model = seen.response_id, seen.response_model
    record.service_tier = seen.service_tier
    record.finish_reasons = [seen.finish_reasons[index] for index in sorted(seen.finish_reasons)] or None
    record.usage, record.usage_raw = seen.usage, seen.usage_raw
    record.error_type, record.error_message = seen.error_type, seen.error_message
    record.cost, record.currency = seen.cost, seen.currency
    record.cost_source = None if seen.cost is None else "provider"


def take_read(record: Record, reader: Reader) -> None:
    """Copy what a reader has seen and counted into its row."""
    take_seen(record, reader.seen)
    if reader.transport is not None:  # else nothing came, and what was asked for stands
        record.transport, record.stream = reader.transport, reader.transport != "json"
    record.chunks, record.frames, record.body_bytes = reader.chunks, reader.frames, reader.body_bytes
    record.truncated = reader.truncated


def conclude(record: Record, seen: Observation, end: End, request: Request, message: str | None) -> None:
    """Decide how the response ended. `message` is mitmproxy's, for ends that the payload says nothing about.

    The request's credentials never get into a row, though some providers repeat a key in an error's text.
    """
    record.end_reason = end_reason(seen, end)
    record.usage_quality = usage_quality(seen, record.end_reason, end.http_status)
    record.status = STATUS_OF_END[record.end_reason]
    if record.error_type is None and record.status == "error" and message:
        record.error_type, record.error_message = record.end_reason, message[:500]
    if record.error_message:
        record.error_message = masked(record.error_message, request)


def conclude_unread(record: Record, cut: Cut | None) -> None:
    """End a row though we failed to: who cut the response is known, what it said up to then may be there."""
    record.end_reason = end_reason(Observation(), End(cut=cut, http_status=record.http_status, readable=False))
    record.status, record.truncated = STATUS_OF_END[record.end_reason], True
    record.usage_quality = record.usage_quality or (None if record.end_reason == "http_error" else "missing")
    record.ended_at = record.ended_at or time.time()


def timed(record: Record, elapsed: float, first_chunk: float | None) -> None:
    """Set the times of a live response: seconds since its request left."""
    record.duration = round(elapsed, 3)
    record.ended_at = record.started_at + record.duration
    record.time_to_first_chunk = None if first_chunk is None else round(first_chunk, 3)


def timed_by_flow(record: Record, flow: http.HTTPFlow) -> None:
    """Set the times of a response read from a file, by the flow's own."""
    ended_at = flow.response.timestamp_end if flow.response is not None else None
    if ended_at is None and flow.error is not None:
        ended_at = flow.error.timestamp
    if ended_at is not None:
        record.ended_at = ended_at
        record.duration = round(max(ended_at - record.started_at, 0.0), 3)
