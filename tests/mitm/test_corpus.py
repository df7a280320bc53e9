"""Every recorded exchange through a real mitmdump, cut at random places, compressed at random: bytes and rows.

Then the same flows, saved and read again with `mitmdump -nr`, must give the same rows.
"""

from __future__ import annotations

import hashlib
import http.client
import random
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests import corpus, oracle
from tests.proxy import REDIRECT, USAGE, Mitmdump, errors_in, rows, running_mitmdump

from usagetap.dialects import detect
from usagetap.model import Request
from usagetap.upstream.server import running_upstream

pytestmark = [corpus.needs_corpus, pytest.mark.corpus, pytest.mark.timeout(600)]

WORKERS = 6


@dataclass
class Replay:
    """What came of sending everything once."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    by_flow: dict[str, str] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    log: str = ""
    flows: Path = Path()


def dialect_of(exchange: dict[str, Any]) -> str | None:
    """The dialect that the registry gives to the request."""
    parts = urlsplit(corpus.url(exchange))
    body = exchange["request"]
    request = Request(exchange["method"], (parts.hostname or "").lower(), 80, parts.path, body=body)
    found = detect(request)
    return found.name if found else None


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    folder = tmp_path_factory.mktemp("corpus")
    done = Replay(flows=folder / "flows")
    with (
        running_upstream(replay=[corpus.path()]) as upstream,
        running_mitmdump(
            folder,
            "regular",
            scripts=[USAGE, REDIRECT],
            environment={"REDIRECT_TO": f"127.0.0.1:{upstream.port}"},
            arguments=["-w", str(done.flows)],
            store_streamed_bodies="true",
            usage_estimate="false",
        ) as proxy,
    ):
        received = _send_all(proxy)
        sent = {exchange.header("x-capture"): exchange.sent_digest for exchange in upstream.requests}
        done.changed = [name for name, digest in received.items() if digest != sent[name]]
        assert proxy.stop() == 0
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in proxy.rows():
            found[row["tag"]].append(row)
        done.rows = {name: ours[0] for name, ours in found.items()}
        done.doubled = [name for name, ours in found.items() if len(ours) > 1]
        done.by_flow = {row["flow_id"]: name for name, row in done.rows.items()}
        done.log = proxy.log
    return done


def _send_all(proxy: Mitmdump) -> dict[str, str]:
    """Send every exchange; the digest of what came back by its id."""

    def send(exchange: dict[str, Any]) -> tuple[str, str]:
        choose = random.Random(exchange["id"])
        coding = choose.choice(("", "", "", ";encoding=gzip", ";encoding=br", ";encoding=zstd", ";encoding=deflate"))
        # one connection each: mitmproxy opens five per client and address, and never reuses one that was redirected
        line = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)
        line.request(
            exchange["method"],
            corpus.url(exchange),
            corpus.request_body(exchange),
            {
                "content-type": "application/json",
                "x-capture": exchange["id"],
                "x-usage-tag": exchange["id"],
                "x-upstream": f"slice=-1;seed={choose.randrange(1 << 30)}{coding};stubborn",
            },
        )
        answer = line.getresponse()
        assert answer.status == exchange["status"]
        try:
            return exchange["id"], hashlib.sha256(answer.read()).hexdigest()
        finally:
            line.close()

    with ThreadPoolExecutor(WORKERS) as pool:
        return dict(pool.map(send, corpus.exchanges()))


def test_the_client_gets_every_byte(replay: Replay) -> None:
    assert replay.changed == []


def test_one_row_per_matched_request(replay: Replay) -> None:
    expected = {exchange["id"] for exchange in corpus.exchanges() if dialect_of(exchange)}
    assert replay.doubled == []
    assert set(replay.rows) ^ expected == set()


def test_nothing_went_wrong_inside(replay: Replay) -> None:
    assert errors_in(replay.log) == []


def test_the_rows_say_what_the_oracle_expects(replay: Replay, pytestconfig: pytest.Config) -> None:
    unexplained: list[tuple[Any, ...]] = []
    explained: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    differing: Counter[str] = Counter()
    for exchange in corpus.exchanges():
        row = replay.rows.get(exchange["id"])
        if row is None:
            continue
        asked[exchange["api"]] += 1
        found = corpus.differences(row, exchange)
        differing[exchange["api"]] += bool(found)
        for column, (ours, theirs) in found.items():
            name = oracle.why(exchange, corpus.COLUMNS[column])
            if name is None:
                unexplained.append((exchange["id"], exchange["api"], exchange["provider"], column, ours, theirs))
            else:
                explained[name] += 1
    terminal = pytestconfig.get_terminal_writer()
    terminal.line("\nAgainst the corpus's oracle:")
    terminal.line("\n")
    for api in sorted(asked):
        terminal.line(
            f"{api:32}{asked[api]:6} exchanges, {100 * differing[api] / asked[api]:6.2f} % differ from the oracle"
        )
    for name in oracle.DISAGREEMENTS:
        terminal.line(f"{explained[name]:6} values: {name}")
    assert unexplained == []
    assert set(oracle.DISAGREEMENTS) == set(explained), "a disagreement that is none any more"


def test_the_ends_are_right(replay: Replay) -> None:
    wrong = []
    for exchange in corpus.exchanges():
        row, told = replay.rows.get(exchange["id"]), exchange["expect"]
        if row is None:
            continue
        if exchange["status"] >= 400:
            allowed = {"http_error"}
        elif told["error"]:
            allowed = {"upstream_error"}
        elif exchange["id"] in oracle.BROKEN_OFF:
            allowed = {"upstream_disconnected"}
        elif told["has_usage"] or not row["injected"]:
            allowed = {"complete"}
        else:
            # recorded without our asking: where the provider did not volunteer usage, it must be missed
            allowed = {"no_usage"}
        if row["end_reason"] not in allowed:
            wrong.append((exchange["id"], exchange["api"], exchange["provider"], row["end_reason"], allowed))
    assert wrong == []


#: what a flow must say again when it is read from a file
SAME = (*corpus.COLUMNS, "status", "end_reason", "usage_quality", "http_status", "dialect", "provider", "transport")


def test_saved_flows_give_the_same_rows(replay: Replay, tmp_path: Path) -> None:
    proxy = Mitmdump(tmp_path, arguments=["-nr", str(replay.flows)], usage_estimate="false")
    assert proxy.wait(300) == 0, proxy.log[-2000:]
    again = rows(tmp_path / "usage.db")
    different = []
    for row in again:
        before = replay.rows[replay.by_flow[row["flow_id"]]]
        changed = {name: (before[name], row[name]) for name in SAME if before[name] != row[name]}
        if changed:
            different.append((before["tag"], before["dialect"], changed))
    assert len(again) == len(replay.rows)
    assert different == []
    assert errors_in(proxy.log) == []
