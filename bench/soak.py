"""`make soak`: thousands of mixed flows with random faults through one real mitmdump, every byte and every row counted.

    python -m bench.soak [--flows 20000] [--seed N] [--at-once 16] [--seconds 3000]

Each flow is planned before it is sent (`soak_flows.py`), so what must come of it is known without asking the addon:
what the client received is held against what the upstream sent, what the upstream received against what the client
sent, and the row against the plan. For a minute another process holds the database's lock (`--lock`). All on loopback.
`--only 17,99` repeats single flows of a seed.
"""

from __future__ import annotations

import argparse
import json
import re
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.client import Client, Http1, Http2, Received
from tests.golden.cases import CAPTURES
from tests.proxy import ROOT, USAGE, Mitmdump, errors_in, running_mitmdump
from websockets.sync.client import connect

from bench.soak_flows import Flow, Planner
from usagetap.upstream.exchange import Exchange
from usagetap.upstream.server import Upstream, running_upstream

NAMES = ROOT / "tests" / "mitm" / "scripts" / "names.py"
_USAGE_FRAME = re.compile(rb'data: \{[^\n]*"choices":\[\],"usage":\{[^\n]*\}\r?\n\r?\n')
GROWTH = 1.0
"""KiB of memory a flow: more is no longer flat."""
PATIENCE = 20.0
"""Seconds until a client gives up: nothing here should take one."""


@contextmanager
def locked(db: Path, seconds: float) -> Iterator[None]:
    """Another process's lock on the whole database, from soon on and for so long, beside what is done meanwhile."""

    def hold() -> None:
        time.sleep(seconds / 4)
        with closing(sqlite3.connect(db, isolation_level=None, timeout=30)) as other:
            other.execute("BEGIN EXCLUSIVE")
            time.sleep(seconds)
            other.execute("ROLLBACK")

    holder = threading.Thread(target=hold)
    if seconds:
        holder.start()
    yield
    if seconds:
        holder.join()


class Log(list[Exchange]):
    """An upstream's log that finds the exchanges of a flow (header `x-call`) and keeps no other."""

    def __init__(self) -> None:
        self._by_call: dict[str, list[Exchange]] = {}
        self._arrived = threading.Condition()

    def append(self, exchange: Exchange) -> None:
        with self._arrived:
            self._by_call.setdefault(exchange.header("x-call") or "", []).append(exchange)
            self._arrived.notify_all()

    def wait_for(self, call: str) -> None:
        """Until a request of that flow has arrived."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: call in self._by_call, PATIENCE):
                raise TimeoutError("the request never arrived")

    def take(self, call: str) -> list[Exchange]:
        """Its exchanges, forgotten with that, once each of them has ended."""
        found = self._by_call.pop(call, [])
        for exchange in found:
            if not exchange.done.wait(PATIENCE):
                raise TimeoutError("the upstream is still answering")
        return found


class Soak:
    """One run. `problems` has a line for whatever is not as it has to be."""

    def __init__(
        self, proxy: Mitmdump, plain: Upstream, tls: Upstream, h1_tls: Upstream, *, bare: bool, strips: bool
    ) -> None:
        self.log = Log()
        self.bare, self.strips = bare, strips
        self.plain = plain
        for upstream in (plain, tls, h1_tls):
            upstream.requests = self.log
        self.lines: dict[str, tuple[type[Client], bool, int]] = {
            "h1": (Http1, False, proxy.ports[0]),
            "h1 tls": (Http1, True, proxy.ports[1]),
            "h2": (Http2, True, proxy.ports[1]),
            "h2 to h1": (Http2, True, proxy.ports[2]),
            "by name": (Http1, False, proxy.ports[3]),
        }
        self.problems: list[str] = []
        self.sent: dict[str, Flow] = {}
        self.ended: Counter[str] = Counter()

    def run(self, flow: Flow) -> None:
        """Make the flow and check its bytes; whatever raises is a problem."""
        try:
            self.sent[flow.tag] = flow
            if self.bare:
                flow.rows, flow.injected, flow.second_try = min(flow.rows, 1), False, False
            if flow.kind == "socket":
                self._socket(flow)
            else:
                self._request(flow)
        except Exception as error:  # noqa: BLE001 - one flow's failure must not end the run
            self.problem(flow, f"{type(error).__name__}: {error}")

    def problem(self, flow: Flow, what: str) -> None:
        self.problems.append(f"{flow.told}: {what}")

    def _headers(self, flow: Flow) -> dict[str, str]:
        return {"x-usage-tag": flow.tag, "x-call": flow.tag, "x-upstream": ";".join(flow.words)} | flow.headers

    def _request(self, flow: Flow) -> None:
        kind, tls, port = self.lines[flow.line]
        with kind(port, tls=tls, timeout=PATIENCE) as client:
            client.post(flow.body, flow.path.format(port=self.plain.port), self._headers(flow))
            if flow.leaves_at == 0:
                self.log.wait_for(flow.tag)
            else:
                client.read(lambda received: _leaves(flow, received))
            received = client.received
            if flow.leaves and received.ending is None:
                client.leave(flow.leaves_how)
                if flow.leaves_how != "rst":
                    client.read() if flow.leaves_how == "half" else None
        exchanges = self.log.take(flow.tag)
        self.ended[received.ending or "left"] += 1
        self._compare(flow, received, exchanges)

    def _compare(self, flow: Flow, received: Received, exchanges: list[Exchange]) -> None:
        if self.strips and flow.line == "by name":  # which of the captures were asked for usage is not in the plan
            return
        if len(exchanges) != 1 + flow.second_try and "framing=close" not in flow.words:
            self.problem(flow, f"{len(exchanges)} requests arrived")
        for number, exchange in enumerate(exchanges):
            self._compare_request(flow, exchange, injected=flow.injected or (flow.second_try and number == 0))
        answer = exchanges[-1]
        sent = self._due(flow, answer)
        if received.ending == "complete" and answer.outcome == "complete":
            if received.body != sent:
                self.problem(flow, f"{len(received.body)} bytes received, {len(sent)} others sent")
        elif received.status not in (None, 502) and not sent.startswith(received.body):
            self.problem(flow, f"received what was not sent ({len(received.body)} bytes, {received.ending})")
        if not flow.leaves and answer.outcome == "complete" and received.ending != "complete":
            self.problem(flow, f"the client's answer ended by {received.ending}, the upstream's was complete")

    def _due(self, flow: Flow, answer: Exchange) -> bytes:
        """What of the bytes that upstream sent is the client's. (An answer compressed against our wish stays whole.)"""
        sent = bytes(answer.sent)
        if sha256(sent).hexdigest() != answer.sent_digest:
            raise ValueError("the upstream sent more than it keeps")
        withheld = self.strips and flow.injected and "stubborn" not in flow.words
        return _USAGE_FRAME.sub(b"", sent) if withheld else sent

    def _compare_request(self, flow: Flow, exchange: Exchange, *, injected: bool) -> None:
        if not injected and flow.line != "by name":
            if exchange.body != flow.body:
                self.problem(flow, f"sent {flow.body!r}, arrived {exchange.body!r}")
        elif _without_options(exchange.body) != _without_options(flow.body):
            self.problem(flow, f"sent {flow.body!r}, arrived {exchange.body!r}")
        elif injected and json.loads(exchange.body)["stream_options"] != {"include_usage": True}:
            self.problem(flow, f"usage is not asked for: {exchange.body!r}")

    def _socket(self, flow: Flow) -> None:
        url = f"ws://127.0.0.1:{self.lines['h1'][2]}{flow.path}"
        received: list[str | bytes] = []
        with connect(
            url, additional_headers=self._headers(flow), proxy=None, open_timeout=PATIENCE, ping_interval=None
        ) as line:
            for _ in range(flow.rows):
                line.send('{"type":"response.create","model":"gpt-4o-mini","input":"?"}')
                while b'"type": "response.completed"' not in (message := line.recv(PATIENCE, decode=False)):
                    received.append(message)
                received.append(message)
        (exchange,) = self.log.take(flow.tag)
        self.ended["complete"] += 1
        if b"".join(received) != bytes(exchange.sent):  # type: ignore[arg-type]
            self.problem(flow, "the messages are not those that were sent")

    # -- the rows

    def check_rows(self, rows: list[dict[str, Any]]) -> None:
        """Each flow has the rows that it must have, and each says what it must say."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            found.setdefault(row["tag"], []).append(row)
        for tag in found.keys() - self.sent.keys():
            self.problems.append(f"{len(found[tag])} rows with the tag {tag}, which no flow had")
        for tag, flow in self.sent.items():
            ours = found.get(tag, [])
            if len(ours) != flow.rows:
                self.problem(flow, f"{len(ours)} rows instead of {flow.rows}")
            for row in ours:
                self._check_row(flow, row)

    def _check_row(self, flow: Flow, row: dict[str, Any]) -> None:
        if row["end_reason"] not in flow.ends:
            self.problem(flow, f"ended {row['status']}/{row['end_reason']} ({row['error_message']})")
            return
        counts = row["input_tokens"], row["output_tokens"]
        if row["end_reason"] == "complete" and flow.tokens is not None and counts != flow.tokens:
            self.problem(flow, f"counted {counts} instead of {flow.tokens}")
        if flow.line != "by name" and (row["injected"], row["retried"]) != (flow.injected, flow.second_try):
            self.problem(flow, f"injected {row['injected']}, retried {row['retried']}")


def _leaves(flow: Flow, received: Received) -> bool:
    if flow.leaves_at is not None:
        return len(received.body) >= flow.leaves_at
    return bool(flow.leaves_after) and flow.leaves_after in received.body


def _without_options(raw: bytes) -> Any:
    told = json.loads(raw)
    if isinstance(told, dict):
        told.pop("stream_options", None)
    return told


def soak(soak: Soak, proxy: Mitmdump, numbers: list[int], planner: Planner, at_once: int, seconds: float) -> list[int]:
    """Make the flows, `at_once` side by side; the proxy's memory after each tenth, in bytes."""
    memory: list[int] = []
    started = time.monotonic()

    def one(number: int) -> None:
        if time.monotonic() < started + seconds:
            soak.run(planner.flow(number))

    with ThreadPoolExecutor(at_once) as threads:
        for tenth in range(10):
            part = numbers[len(numbers) * tenth // 10 : len(numbers) * (tenth + 1) // 10]
            list(threads.map(one, part))
            memory.append(proxy.rss)
            print(
                f"{len(soak.sent):7} flows, {time.monotonic() - started:6.0f} s, {proxy.rss / 2**20:6.1f} MiB,"
                f" {proxy.cpu:6.1f} s of CPU, {len(soak.problems)} problems",
                flush=True,
            )
    return memory


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3000, help="start no more flows after so many")
    parser.add_argument(
        "--bare", action="store_true", help="without the addon, for its memory: bytes are compared alone"
    )
    parser.add_argument("--lock", type=float, default=60, help="seconds that another process holds the database's lock")
    parser.add_argument("--strip", action="store_true", help="with usage_strip_frame=injected")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="an option of mitmproxy")
    parser.add_argument("--only", type=lambda text: [int(part) for part in text.split(",")], help="numbers of flows")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="usagetap-soak-")))
        plain = stack.enter_context(running_upstream(replay=[CAPTURES]))
        tls, h1_tls = (stack.enter_context(running_upstream(tls=True, http2=http2)) for http2 in (True, False))
        modes = [f"reverse:{upstream.url}" for upstream in (plain, tls, h1_tls)]
        # lazy: an eager proxy offers its client only what the upstream speaks, so HTTP/2 never met HTTP/1.1
        told: dict[str, Any] = {"scripts": [USAGE, NAMES], "connection_strategy": "lazy"}
        if options.bare:
            told |= {"scripts": [NAMES], "stream_large_bodies": "1"}
        if options.strip:
            told["usage_strip_frame"] = "injected"
        told |= dict(pair.split("=", 1) for pair in options.set)
        proxy = stack.enter_context(running_mitmdump(folder, *modes, "regular", **told))
        run = Soak(proxy, plain, tls, h1_tls, bare=options.bare, strips=options.strip)
        numbers = options.only or list(range(options.flows))
        with locked(proxy.db, 0 if options.only or options.bare else options.lock):
            memory = soak(run, proxy, numbers, Planner(options.seed), options.at_once, options.seconds)
        if (code := proxy.stop()) != 0:
            run.problems.append(f"mitmdump ended with {code}")
        rows = proxy.rows()
        if not options.bare:
            run.check_rows(rows)
            run.problems += [f"{left.name} was not taken in" for left in proxy.db.parent.glob("*.journal-*")]
        wrong = errors_in(proxy.log)
        print(*(line for line in proxy.lines if "is written again" in line), sep="\n")
    return report(run, rows, wrong, memory)


def report(run: Soak, rows: list[dict[str, Any]], wrong: list[str], memory: list[int]) -> int:
    """Print what was found; the exit code."""
    print("kinds: ", dict(Counter(flow.kind.split(" ")[0] for flow in run.sent.values()).most_common()))
    print("ends:  ", dict(Counter(str(row["end_reason"]) for row in rows).most_common()))
    print("clients:", dict(run.ended.most_common()))
    for line in [*run.problems[:40], *wrong[:40]]:
        print("  !", line)
    due = sum(flow.rows for flow in run.sent.values())
    found = f"{len(run.problems)} problems, {len(wrong)} failures in the log"
    print(f"{len(run.sent)} flows, {len(rows)} rows of {due}, {found}")
    if len(memory) > 1:
        growth = (memory[-1] - memory[0]) / 1024 / (len(run.sent) * (len(memory) - 1) / len(memory))
        warm, last = (size / 2**20 for size in (memory[0], memory[-1]))
        print(f"memory: {warm:.1f} MiB after a tenth, {last:.1f} MiB at the end, {growth:.2f} KiB a flow")
        if growth > GROWTH and len(run.sent) >= 10_000:  # fewer flows still fill mitmproxy's own caches
            print(f"  ! more than {GROWTH} KiB a flow")
            return 1
    return 1 if run.problems or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
