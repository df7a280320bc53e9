from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from usagetap.mitm.resolve import Resolver, take
from usagetap.model import Record, Usage
from usagetap.store.database import connect
from usagetap.store.migrations import migrate
from usagetap.store.queries import by_flow
from usagetap.store.resolved import write_resolved
from usagetap.store.rows import to_row
from usagetap.store.upsert import write

KEY = "sk-or-v1-0123456789abcdef"
# https://openrouter.ai/docs/api/api-reference/generations/get-generation, the fields that matter here
GENERATION = {
    "id": "gen-1",
    "total_cost": 0.00015,
    "cancelled": True,
    "is_byok": False,
    "upstream_inference_cost": None,
    "tokens_prompt": 9,
    "tokens_completion": 21,
    "native_tokens_prompt": 10,
    "native_tokens_completion": 25,
    "native_tokens_reasoning": 5,
    "native_tokens_cached": 3,
}


class Fake(ThreadingHTTPServer):
    """Answers each request with the next of `answers`, the last one for ever."""

    daemon_threads = True

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self.answers = list(answers)
        self.asked: Queue[tuple[str, str | None]] = Queue()
        super().__init__(("127.0.0.1", 0), Answering)


class Answering(BaseHTTPRequestHandler):
    server: Fake

    def do_GET(self) -> None:
        answers = self.server.answers
        status, body = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())
        self.server.asked.put((self.path, self.headers["authorization"]))

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def serve() -> Iterator[Any]:
    running: list[Fake] = []

    def start(*answers: tuple[int, Any]) -> Fake:
        fake = Fake(*answers)
        threading.Thread(target=fake.serve_forever, args=(0.01,), daemon=True).start()
        running.append(fake)
        return fake

    yield start
    for fake in running:
        fake.shutdown()
        fake.server_close()


def aborted(**values: Any) -> Record:
    return Record(
        **{
            "uid": "a-1",
            "flow_id": "flow",
            "instance": "a",
            "started_at": 1.8e9,
            "status": "aborted",
            "end_reason": "client_disconnected",
            "response_id": "gen-1",
            "provider": "openrouter",
            "path": "/api/v1/chat/completions",
            "usage_quality": "estimated",
            "estimated_output_tokens": 20,
        }
        | values
    )


class Asking:
    """A resolver with short delays, and what comes of it."""

    def __init__(self, fake: Fake) -> None:
        self.fake = fake
        self.done: Queue[Record] = Queue()
        self.said: Queue[str] = Queue()
        self.resolver = Resolver(self.done.put, lambda _level, text: self.said.put(text), delays=(0.0, 0.001, 0.001))

    def ask(self, record: Record) -> bool:
        return self.resolver.resolve(record, KEY, "127.0.0.1", self.fake.server_port, "http")


def test_a_generation_that_is_not_there_yet_is_asked_for_again(serve: Any) -> None:
    asking = Asking(serve((404, {"error": {}}), (500, {}), (200, {"data": GENERATION})))
    assert asking.ask(aborted())
    record = asking.done.get(timeout=10)
    assert (record.cost, record.currency, record.cost_source) == (Decimal("0.00015"), "USD", "resolved")
    asked = [asking.fake.asked.get(timeout=10) for _ in range(3)]
    assert asked == [("/api/v1/generation?id=gen-1", f"Bearer {KEY}")] * 3


@pytest.mark.parametrize(("status", "tries"), [(401, 1), (403, 1), (404, 3), (503, 3), (302, 3)])
def test_a_refusal_or_no_answer_leaves_the_row_as_it_was(serve: Any, status: int, tries: int) -> None:
    asking = Asking(serve((status, {"error": {"message": KEY}})))
    assert asking.ask(aborted())
    said = asking.said.get(timeout=10)
    assert KEY not in said
    assert asking.fake.asked.qsize() == tries
    assert asking.done.empty()


def test_an_answer_without_a_cost_is_no_answer(serve: Any) -> None:
    asking = Asking(serve((200, {"data": GENERATION | {"total_cost": None}})))
    assert asking.ask(aborted())
    assert "left as it was" in asking.said.get(timeout=10)


@pytest.mark.parametrize(
    "values",
    [
        {"provider": "openai"},
        {"response_id": None},
        {"end_reason": "complete", "status": "ok"},
        {"end_reason": "http_error", "status": "error"},
        {"cost_source": "provider"},
        {"path": "/api/v1/models"},
    ],
)
def test_other_records_are_not_asked_for(serve: Any, values: dict[str, Any]) -> None:
    asking = Asking(serve((200, {"data": GENERATION})))
    assert not asking.ask(aborted(**values))
    assert not asking.resolver.resolve(aborted(), None, "127.0.0.1", 1, "http")


def test_no_proxy_of_the_environment_is_asked(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    asking = Asking(serve((200, {"data": GENERATION})))
    asking.ask(aborted())
    assert asking.done.get(timeout=10).cost_source == "resolved"


def test_a_server_that_we_cannot_trust_never_sees_the_key(caplog: pytest.LogCaptureFixture, serve: Any) -> None:
    from usagetap.upstream.server import running_upstream

    with caplog.at_level(logging.DEBUG), running_upstream(tls=True) as untrusted:
        asking = Asking(serve((200, {})))
        asking.resolver.resolve(aborted(), KEY, "127.0.0.1", untrusted.port, "https")
        asking.said.get(timeout=20)
        assert not untrusted.requests
    assert KEY not in caplog.text


def test_stopping_forgets_what_waits(serve: Any) -> None:
    fake = serve((200, {"data": GENERATION}))
    done: Queue[Record] = Queue()
    resolver = Resolver(done.put, delays=(3600.0,))
    assert resolver.resolve(aborted(), KEY, "127.0.0.1", fake.server_port, "http")
    resolver.stop()
    assert KEY not in repr(vars(resolver))
    assert not resolver.resolve(aborted(), KEY, "127.0.0.1", fake.server_port, "http")


def test_native_counts_fill_a_record_that_has_none() -> None:
    record = aborted()
    assert take(record, {"data": GENERATION})
    assert record.usage == Usage(
        input_tokens=10, output_tokens=25, cache_read_input_tokens=3, reasoning_output_tokens=5
    )
    assert record.usage_quality == "exact"


def test_counts_that_the_stream_told_stay() -> None:
    record = aborted(usage=Usage(input_tokens=7), usage_raw={"prompt_tokens": 7}, usage_quality="partial")
    assert take(record, {"data": GENERATION})
    assert (record.usage, record.usage_quality) == (Usage(input_tokens=7), "partial")


def test_with_the_users_own_provider_key_both_bills_count() -> None:
    record = aborted()
    take(record, {"data": GENERATION | {"is_byok": True, "upstream_inference_cost": 0.002}})
    assert record.cost == Decimal("0.00215")
    assert not take(aborted(), {"data": GENERATION | {"is_byok": True}})


@pytest.mark.parametrize(
    "answer", [None, [], {}, {"data": []}, {"data": {"total_cost": "x"}}, {"data": {"id": "gen-2"}}]
)
def test_any_answer_can_be_taken(answer: Any) -> None:
    record = aborted()
    assert not take(record, answer)
    assert record == aborted()


def test_the_row_gets_the_cost_and_the_estimate_goes_to_the_history(tmp_path: Path) -> None:
    db = connect(tmp_path / "usage.db")
    migrate(db)
    write(db, [to_row(aborted(cost=Decimal("0.5"), currency="USD", cost_source="estimated"))])
    record = aborted()
    take(record, {"data": GENERATION})
    for _ in range(2):
        write_resolved(db, record)
    (row,) = by_flow(db, "flow")
    assert (row["cost"], row["cost_source"], row["status"]) == ("0.00015", "resolved", "aborted")
    assert (row["input_tokens"], row["output_tokens"], row["estimated_output_tokens"]) == (10, 25, 20)
    assert db.execute_sql("SELECT cost, cost_source FROM price_history").fetchall() == [("0.5", "estimated")]
    db.close()


def test_what_the_provider_said_itself_stands(tmp_path: Path) -> None:
    db = connect(tmp_path / "usage.db")
    migrate(db)
    told = aborted(cost=Decimal(1), cost_source="provider", usage=Usage(output_tokens=1), usage_raw={})
    write(db, [to_row(told)])
    record = aborted()
    take(record, {"data": GENERATION})
    write_resolved(db, record)
    (row,) = by_flow(db, "flow")
    assert (row["cost"], row["cost_source"], row["input_tokens"], row["output_tokens"]) == ("1", "provider", None, 1)
    db.close()
