from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import flowfilter, http
from mitmproxy.addons.view import View
from mitmproxy.test import taddons, tflow
from mitmproxy.utils.emoji import emoji

from usagetap.headline import headline
from usagetap.mitm import comments, exchange, recording, told
from usagetap.mitm.comments import Comments, marker_of, write
from usagetap.mitm.exchange import Exchange
from usagetap.mitm.tap import Tap
from usagetap.model import STATUS_OF_END, Record, Request, Usage


def record(end_reason: str = "complete", **fields: Any) -> Record:
    made = Record(uid="u", flow_id="f", started_at=0.0, status=STATUS_OF_END[end_reason], end_reason=end_reason)
    made.usage, made.usage_quality, made.request_model = Usage(input_tokens=1234, output_tokens=56), "exact", "m"
    made.cost, made.currency = Decimal("0.0012"), "USD"
    for name, value in fields.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def context(tmp_path: Path) -> Any:
    with taddons.context(Tap()) as context:
        context.configure(context.master.addons.get("tap"), usage_db=str(tmp_path / "usage.db"))
        yield context
    for _, left in exchange.in_flight():
        left.ended = True  # else another test's recording might end it, if it is not collected by then
    recording.close()


@pytest.mark.parametrize(
    ("ended", "marker"),
    [
        (record(), ""),
        (record("client_disconnected"), ":stop_sign:"),
        (record("killed"), ":stop_sign:"),
        (record("upstream_disconnected"), ":red_circle:"),
        (record("http_error", usage_quality="missing"), ":red_circle:"),
        (record("no_usage", usage_quality="missing"), ":grey_question:"),
        (record(usage_quality="missing"), ":grey_question:"),
        (record(usage_quality="estimated"), ""),
    ],
)
def test_markers_are_signs_that_mitmproxy_knows(ended: Record, marker: str) -> None:
    assert marker_of(ended) == marker
    assert not marker or marker in emoji


def test_ours_is_replaced_and_a_person_s_stays(context: Any) -> None:
    flow = tflow.tflow()
    assert write(flow, "1→2", ":stop_sign:")
    assert write(flow, "3→4", "")
    assert (flow.comment, flow.marked) == ("3→4", "")
    flow.comment, flow.marked = "look at this", ":heart:"
    assert not write(flow, "5→6", ":red_circle:")
    assert (flow.comment, flow.marked) == ("look at this", ":heart:")


def test_an_emptied_comment_is_free_again(context: Any) -> None:
    flow = tflow.tflow()
    write(flow, "1→2", "")
    flow.comment = ""
    write(flow, "3→4", "")
    assert flow.comment == "3→4"


def test_a_comment_that_came_from_a_file_is_ours_only_if_we_wrote_it(context: Any) -> None:
    ours, theirs = tflow.tflow(), tflow.tflow()
    ours.comment, ours.metadata[told.KEY] = "1→2", {"headline": "1→2"}
    theirs.comment = "1→2"
    assert write(ours, "3→4", "")
    assert not write(theirs, "3→4", "")


def test_what_has_ended_is_on_the_flow(context: Any) -> None:
    flow, ended = tflow.tflow(), record("client_disconnected")
    ended.flow_id = flow.id
    known(flow)
    addon = Comments()
    addon.request(flow)
    addon._final(ended)
    assert flow.comment == headline(ended) == "1,234→56 · $0.0012 · m · aborted: client_disconnected"
    assert flow.marked == ":stop_sign:"
    assert flow.metadata[told.KEY]["usage"] == {"input_tokens": 1234, "output_tokens": 56}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # mitmproxy calls pyparsing by its old names
@pytest.mark.parametrize(
    ("expression", "left", "finished"),
    [
        ("~comment aborted", True, False),
        ("~comment '^1,234→56'", True, True),
        ("~marked", True, False),
        ("~marker :stop_sign:", True, False),
        ("~meta client_disconnected", True, False),
        ("~meta \"'status': 'ok'\"", False, True),
        ("~comment gpt-4", False, False),
    ],
)
def test_flows_are_found_by_comment_marker_and_metadata(
    context: Any, expression: str, left: bool, finished: bool
) -> None:
    addon, found = Comments(), []
    for end_reason in ("client_disconnected", "complete"):
        flow = tflow.tflow()
        known(flow)
        addon.request(flow)
        addon._final(record(end_reason, flow_id=flow.id))
        found.append(bool(flowfilter.match(expression, flow)))
    assert found == [left, finished]


def test_the_turns_of_a_websocket_add_up(context: Any) -> None:
    flow, addon = tflow.twebsocketflow(), Comments()
    addon.websocket_start(flow)
    for turn in (1, 2):
        addon._final(record(flow_id=flow.id, turn=turn))
    assert flow.comment == "2,468→112 · $0.0024 · m · 2 turns"
    assert flow.metadata[told.KEY]["usage"]["input_tokens"] == 2468


def known(flow: http.HTTPFlow, **fields: Any) -> Exchange:
    request = Request("POST", "h", 443, "/v1/chat/completions", body={"model": "m"})
    made = Exchange(record(), request, _dialect(request), 0.0, **fields)
    exchange.begin(flow, made)
    return made


def _dialect(request: Request) -> Any:
    from usagetap.dialects import detect

    return detect(request)


def test_a_stream_that_runs_shows_what_is_known(context: Any) -> None:
    from usagetap.reader import Reader

    flow = tflow.tflow()
    mine = known(flow)
    mine.reader = Reader(mine.dialect, content_type="text/event-stream", stream=True)
    mine.reader.feed(b'data: {"id":"x","model":"m-2025","choices":[{"delta":{"content":"a"}}]}\n\n' * 3)
    context.master.view = View()
    updates: list[http.HTTPFlow] = []
    context.master.view.add([flow])

    def update(flow: http.HTTPFlow) -> None:  # mitmproxy's signals hold on to nobody: a lambda would be gone
        updates.append(flow)

    context.master.view.sig_view_update.connect(update)
    context.master.addons.add(context.master.view)
    loop = asyncio.new_event_loop()
    addon = Comments()
    addon._loop = loop
    addon.look()
    assert flow.comment == "?→? · m-2025 · 3 frames"
    assert updates == [flow]
    addon.look()
    assert updates == [flow]  # nothing new, nothing sent
    for frames, shown in ((8, 3), (1, 12), (35, 12), (1, 48)):  # and little new, nothing either
        mine.reader.feed(b'data: {"id":"x","choices":[{"delta":{"content":"a"}}]}\n\n' * frames)
        addon.look()
        assert flow.comment == f"?→? · m-2025 · {shown} frames"
    assert updates == [flow] * 3
    addon.done()
    loop.close()


def test_the_column_is_added_where_nobody_chose(context: Any) -> None:
    from collections.abc import Sequence

    context.options.add_option("web_columns", Sequence[str], ["path", "method", "status"], "")
    comments.show_column()
    assert context.options.web_columns == ["path", "comment", "method", "status"]
    context.options.update(web_columns=["path"])
    comments.show_column()
    assert context.options.web_columns == ["path"]


def test_a_record_that_ends_after_the_loop_is_nobody_s(context: Any) -> None:
    addon = Comments()
    addon.ended(record())
    addon._loop = asyncio.new_event_loop()
    addon._loop.close()
    addon.ended(record())
