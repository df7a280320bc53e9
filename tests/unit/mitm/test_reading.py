from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import flow, http
from mitmproxy.addons.savehar import SaveHar
from mitmproxy.exceptions import OptionsError
from mitmproxy.io import FlowWriter
from mitmproxy.test import tflow
from tests.proxy import rows

from usagetap.mitm import recording
from usagetap.mitm.reading import Outcome, Reading, Unreadable, flows_in
from usagetap.store.database import connect
from usagetap.store.migrations import migrate

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

STREAM = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","model":"gpt-4o-mini","choices":[{"index":0,"delta":'
    b'{"content":"h\xc3\xa9"},"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","model":"gpt-4o-mini","choices":[],"usage":'
    b'{"prompt_tokens":11,"completion_tokens":5,"total_tokens":16}}\n\ndata: [DONE]\n\n'
)


def call(moment: float = 1.8e9, body: bytes | None = STREAM, asks: bool = True) -> http.HTTPFlow:
    """A chat completion that passed at `moment`."""
    asked: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [], "stream": True}
    request = http.Request.make(
        "POST",
        "https://api.openai.com/v1/chat/completions",
        json.dumps(asked | ({"stream_options": {"include_usage": True}} if asks else {})),
        {"content-type": "application/json", "authorization": "Bearer sk-x"},
    )
    request.timestamp_start = request.timestamp_end = moment
    one = tflow.tflow(req=request, resp=True)
    one.response = http.Response.make(200, body or b"", {"content-type": "text/event-stream"})
    if body is None:
        one.response.raw_content = None
    one.response.timestamp_start, one.response.timestamp_end = moment + 1, moment + 2
    return one


def broken_off(message: str, body: bytes | None = None) -> http.HTTPFlow:
    one = call(body=body)
    one.error = flow.Error(message, 1.8e9 + 3)
    return one


def saved(path: Path, *flows: flow.Flow) -> Path:
    with path.open("ab") as file:
        for each in flows:
            FlowWriter(file).add(each)
    return path


def read(db: Path, *files: Path, specs: tuple[str, ...] = ()) -> Outcome:
    """Read files as the command does."""

    async def go() -> Outcome:
        reading = Reading(database, str(db), specs)
        try:
            for path in files:
                for one in flows_in(path, lambda _bytes: None):
                    await reading.take(one)
        finally:
            await reading.close()
        return reading.outcome

    database = connect(db)
    migrate(database)
    try:
        return asyncio.run(go())
    finally:
        database.close()


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


def test_a_flow_becomes_the_row_that_it_was_live(tmp_path: Path, db: Path) -> None:
    outcome = read(db, saved(tmp_path / "flows", call(), tflow.tflow(resp=True), tflow.ttcpflow()))
    assert (outcome.flows, outcome.rows, outcome.recorded, outcome.other) == (3, 1, 1, 2)
    (row,) = rows(db)
    assert (row["status"], row["end_reason"], row["usage_quality"]) == ("ok", "complete", "exact")
    assert (row["input_tokens"], row["output_tokens"], row["response_id"]) == (11, 5, "chatcmpl-1")
    assert (row["started_at"], row["duration"]) == ("2027-01-15T08:00:00.000Z", 2.0)
    assert (row["injected"], row["client_include_usage"]) == (0, 1)


def test_usage_that_was_never_asked_for_is_not_missed(tmp_path: Path, db: Path) -> None:
    read(db, saved(tmp_path / "flows", call(body=STREAM.replace(b"usage", b"other"), asks=False)))
    (row,) = rows(db)
    assert (row["status"], row["injected"], row["input_tokens"]) == ("ok", 0, None)


def test_reading_twice_adds_nothing(tmp_path: Path, db: Path) -> None:
    path = saved(tmp_path / "flows", call(1.8e9), call(1.8e9))
    assert read(db, path).rows == 2
    first = rows(db)
    copy = saved(tmp_path / "copy", *flows_in(path, lambda _bytes: None), call(1.8e9 + 60))
    outcome = read(db, path, copy)
    assert (outcome.rows, outcome.known) == (1, 4)
    assert rows(db)[:2] == first


def test_a_client_replay_is_a_call_of_its_own(tmp_path: Path, db: Path) -> None:
    one = call(1.8e9)
    again = call(1.8e9 + 5)
    again.id, again.is_replay = one.id, "request"
    assert read(db, saved(tmp_path / "flows", one, again)).rows == 2
    assert [row["replay"] for row in rows(db)] == [0, 1]


def test_what_was_recorded_live_is_left_out(tmp_path: Path, db: Path) -> None:
    one = call(1.8e9)
    path = saved(tmp_path / "flows", one)
    read(db, path)
    connection = connect(db)
    connection.execute_sql("UPDATE usage SET uid = 'abc-1', started_at = '2027-01-15T08:00:01.500Z'")
    connection.close()
    assert read(db, path) == Outcome(flows=1, known=1)
    assert len(rows(db)) == 1


def test_a_reading_that_was_cut_short_is_completed(tmp_path: Path, db: Path) -> None:
    path = saved(tmp_path / "flows", call())
    read(db, path)
    whole = rows(db)
    connection = connect(db)
    connection.execute_sql("UPDATE usage SET status = 'error', end_reason = 'proxy_died', input_tokens = NULL")
    connection.close()
    read(db, path)
    assert [row | {"instance": ""} for row in rows(db)] == [row | {"instance": ""} for row in whole]


@pytest.mark.parametrize(
    ("message", "status", "reason"),
    [
        ("Client disconnected.", "aborted", "client_disconnected"),
        ("stream reset by client (CANCEL)", "aborted", "client_disconnected"),
        ("Connection killed.", "aborted", "killed"),
        ("server closed connection", "error", "upstream_disconnected"),
    ],
)
def test_an_aborted_flow_says_who_it_was(tmp_path: Path, db: Path, message: str, status: str, reason: str) -> None:
    assert read(db, saved(tmp_path / "flows", broken_off(message))).rows == 1
    (row,) = rows(db)
    assert (row["status"], row["end_reason"], row["usage_quality"], row["input_tokens"]) == (
        status,
        reason,
        "missing",
        None,
    )


def test_an_answer_whose_body_was_not_kept_is_left_out_and_counted(tmp_path: Path, db: Path) -> None:
    assert read(db, saved(tmp_path / "flows", call(body=None))) == Outcome(flows=1, without_body=1)
    assert rows(db) == []


def test_a_flow_that_was_saved_open_ends(tmp_path: Path, db: Path) -> None:
    one = call()
    one.response = None
    assert read(db, saved(tmp_path / "flows", one)).rows == 1
    (row,) = rows(db)
    assert row["status"] == "error"


def har(path: Path, *flows: flow.Flow) -> Path:
    path.write_text(json.dumps(SaveHar().make_har(flows)))
    return path


def test_a_har_file_is_read_once_too(tmp_path: Path, db: Path) -> None:
    path = har(tmp_path / "x.har", call(), call(1.8e9 + 1))
    assert read(db, path).rows == 2
    first = rows(db)
    assert [(row["input_tokens"], row["started_at"], row["client_address"]) for row in first] == [
        (11, "2027-01-15T08:00:00.000Z", None),
        (11, "2027-01-15T08:00:01.000Z", None),
    ]
    assert read(db, path, har(tmp_path / "again.har", call())).rows == 0
    assert rows(db) == first


def test_a_har_file_has_no_bodies_of_aborted_streams_and_errors_twice(tmp_path: Path, db: Path) -> None:
    failed = broken_off("server closed connection")
    failed.response = None
    outcome = read(db, har(tmp_path / "x.har", failed, failed, broken_off("Client disconnected.")))
    assert (outcome.rows, outcome.without_body) == (1, 1)
    (row,) = rows(db)
    assert (row["status"], row["end_reason"], row["error_message"]) == (
        "error",
        "upstream_disconnected",
        "server closed connection",
    )


def test_a_browsers_text_is_utf_8(tmp_path: Path) -> None:
    exported = SaveHar().make_har([call()])
    exported["log"]["entries"][0]["response"]["content"]["text"] = STREAM.decode()
    path = tmp_path / "browser.har"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(exported).encode())
    (one,) = flows_in(path, lambda _bytes: None)
    assert isinstance(one, http.HTTPFlow)
    assert one.response is not None
    assert one.response.raw_content == STREAM


@pytest.mark.parametrize("content", [b"junk", b"{}", b'{"log":{"entries":[{}]}}', b'{"log":', b"12:"])
def test_a_file_that_is_neither_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(Unreadable, match="neither a mitmproxy flow file nor a HAR file"):
        list(flows_in(path, lambda _bytes: None))


def test_what_stands_before_the_damage_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "flows", call(), call())
    path.write_bytes(path.read_bytes()[:-100])
    reading = iter(flows_in(path, lambda _bytes: None))
    assert isinstance(next(reading), http.HTTPFlow)
    with pytest.raises(Unreadable, match="damaged: 1 of its flows"):
        next(reading)


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    path = saved(tmp_path / "flows", *(call() for _ in range(20)))
    steps: list[int] = []
    list(flows_in(path, steps.append))
    assert sum(steps) == path.stat().st_size


def test_a_bad_option_leaves_nothing_open(tmp_path: Path, db: Path) -> None:
    with pytest.raises(OptionsError, match="usage_frame_limit"):
        read(db, saved(tmp_path / "flows", call()), specs=("usage_frame_limit=huge",))
    assert recording._current is None or str(recording.current().settings.db) == str(db)
    recording.close()


def test_more_flows_than_the_writer_keeps_in_memory(tmp_path: Path, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usagetap.mitm.reading.FLUSH_EVERY", 10)
    path = saved(tmp_path / "flows", *(call(1.8e9 + number) for number in range(100)))
    assert read(db, path).rows == 100
    assert len(rows(db, "status = 'ok'")) == 100
    assert list(tmp_path.glob("*.journal*")) == []
