"""Kill real proxies with `kill -9` at random moments under load, and count what is left: `make crash`, or

    python -m bench.crash [--kills 200] [--seed N] [--grace 0.1] [--lanes 2] [--writer]

Each life is a mitmdump with the addon in front of an upstream of our own and under several clients at once: streams,
whole answers, streams that never end, clients that leave. Upstream and clients note when each request arrived and each
end was seen; a request's row was put before, an end's too. The proxy is killed at a random moment (one life in ten
while it is starting; one in four with another process holding the database's lock, so that journals are in play; one in
four beside a second proxy on the same file, which lives on), and the next one starts on what it left. Then the notes
are held against the rows: what was older than `--grace` seconds at the kill is there, what was left open is
`proxy_died`, nothing is there twice, a living sibling's rows are untouched, the database is sound. A new database every
so often, so that its making is cut short too. `--writer` kills a process that has a `Writer` alone (`crash_writer.py`).

A tenth of a second is meant on a machine with a core to spare: where a dozen others want it, the proxy's threads wait
longer than that for their turns (the summary names the load).
"""

from __future__ import annotations

import argparse
import os
import random
import re
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.feed import Feed, chunked, running_feed
from tests.proxy import Mitmdump, rows

from bench import crash_writer

CLIENTS = 5
"""Clients of each proxy, one call after the other."""
LIVES_PER_DATABASE = 25
FRAME = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n'
USAGE = '"usage":{"prompt_tokens":9,"completion_tokens":FRAMES}'
END = 'data: {"id":"c","model":"m","choices":[],' + USAGE + "}\n\ndata: [DONE]\n\n"
MESSAGE = '{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"word"}}'
WHOLE = '{"id":"c","object":"chat.completion","model":"m","choices":[' + MESSAGE + "]," + USAGE + "}"
JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@dataclass(slots=True)
class Call:
    """One request: what is to become of it, and when (monotonic seconds) each side saw that."""

    tag: str
    frames: int
    pause: float
    whole: bool = False
    leaves: bool = False
    asked: float | None = None
    """Its request arrived upstream."""
    last: float | None = None
    """The upstream is about to send the last of it."""
    left: float | None = None
    """The client is about to leave."""
    ended: float | None = None
    """The client has seen the end, or the upstream that the client left."""

    @property
    def request(self) -> bytes:
        body = b'{"model":"m","stream":%b,"user":"%b","messages":[]}' % (
            b"false" if self.whole else b"true",
            self.tag.encode(),
        )
        return (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"x-usage-tag: %b\r\ncontent-length: %d\r\n\r\n%b" % (self.tag.encode(), len(body), body)
        )

    @property
    def reason(self) -> str:
        """How its row must have ended, once `ended` is old enough."""
        return "client_disconnected" if self.left else "complete"


class Calls(dict[str, Call]):
    """Every call by its tag; the upstream's side of it."""

    def answer(self, body: bytes) -> Iterable[bytes]:
        """For `running_feed`: what the call named in the request is to get."""
        found = re.search(rb'"user": ?"([^"]+)"', body)
        assert found
        call = self[found[1].decode()]
        call.asked = time.monotonic()
        return chunked(_pieces(call), JSON_HEAD) if call.whole else chunked(_pieces(call))


def _pieces(call: Call) -> Iterator[bytes]:
    try:
        for _ in range(0 if call.whole else call.frames):
            yield FRAME
            time.sleep(call.pause)
        call.last = time.monotonic()
        yield (WHOLE if call.whole else END).replace("FRAMES", str(call.frames)).encode()
    finally:
        if call.left and call.last is None:
            call.ended = time.monotonic()


class Life:
    """One proxy under load, from its start to its death."""

    def __init__(self, folder: Path, db: Path, feed: Feed, calls: Calls, choose: random.Random) -> None:
        self.name = folder.name
        self.calls = calls
        self.mine: list[Call] = []
        self.killed: float | None = None
        self._choose = random.Random(choose.random())
        self._lock = threading.Lock()
        self.proxy = Mitmdump(folder, f"reverse:{feed.url}", usage_db=db)
        self._clients = [threading.Thread(target=self._client, daemon=True) for _ in range(CLIENTS)]

    def load(self) -> None:
        """Wait until it listens, and let the clients begin."""
        self.proxy.wait_until_listening()
        for client in self._clients:
            client.start()

    def kill(self) -> None:
        """`kill -9`; every client has noticed when this returns."""
        self.killed = time.monotonic()
        self.proxy.close()
        for client in self._clients:
            if client.ident:
                client.join()

    def _plan(self) -> Call:
        with self._lock:
            chance = self._choose.random
            call = Call(f"{self.name}-{len(self.mine)}", int(1 + chance() * 20), chance() * 0.008)
            match self._choose.choices(("well", "whole", "leaves", "endless"), (6, 3, 2, 1))[0]:
                case "whole":
                    call.whole = True
                case "leaves":
                    call.leaves, call.frames, call.pause = True, 500, 0.01
                case "endless":
                    call.frames, call.pause = 500, 0.05
            self.mine.append(call)
            self.calls[call.tag] = call
            return call

    def _client(self) -> None:
        while self.killed is None:
            with suppress(OSError):
                _ask(self.proxy.port, self._plan())


def _ask(port: int, call: Call) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
        line.sendall(call.request)
        received = b""
        while piece := line.recv(1 << 16):
            received += piece
            if received.endswith(b"0\r\n\r\n"):
                call.ended = time.monotonic()
                return
            if call.leaves and received.count(b"\n\n") > 3:
                call.left = time.monotonic()
                return


@dataclass
class Count:
    """What was found, in all lanes."""

    grace: float
    problems: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    due: int = 0
    """Requests and ends that were older than the grace."""
    died: int = 0
    journaled: int = 0
    oldest: float = 0.0
    """Seconds of age of the oldest request or end that a kill has cost."""

    def life(self, life: Life, found: dict[str, dict[str, Any]]) -> None:
        """Hold a dead life's notes against its rows."""
        assert life.killed is not None
        for call in life.mine:
            row = found.get(call.tag)
            self._age("request lost", call, life.killed, call.asked, there=row is not None)
            if row is None:
                continue
            self.died += row["end_reason"] == "proxy_died"
            self._age(f"{call.reason} lost", call, life.killed, call.ended, there=row["end_reason"] == call.reason)
            if call.last is None and call.left is None and row["end_reason"] != "proxy_died":
                self.problems[f"still going, but {row['end_reason']}"] += 1
            if row["end_reason"] == "complete" and row["output_tokens"] != call.frames:
                self.problems["counted wrong"] += 1

    def _age(self, what: str, call: Call, killed: float, at: float | None, *, there: bool) -> None:
        if at is None or at > killed:
            return
        self.due += killed - at > self.grace
        if not there:
            self.oldest = max(self.oldest, killed - at)
            if killed - at > self.grace:
                self.problems[what] += 1
                print(f"{what}, {(killed - at) * 1000:.0f} ms old: {call}", flush=True)


class Lane:
    """One life after the other (now and then two) on one database."""

    def __init__(self, folder: Path, count: Count, choose: random.Random) -> None:
        self.db = folder / "usage.db"
        self.folder, self.count, self.choose = folder, count, choose
        self.kills = 0
        self.living: list[Life] = []
        self.dead: list[Life] = []

    def run(self, kills: int) -> None:
        """So many kills, then a last start that nothing happens to."""
        calls = Calls()
        numbers = iter(range(1_000_000))
        with running_feed(calls.answer) as feed:

            def start() -> Life:
                return Life(self.folder / f"life{next(numbers)}", self.db, feed, calls, self.choose)

            while self.kills < kills:
                life = start()
                self.living.append(life)
                if self.choose.random() < 0.1:
                    time.sleep(self.choose.random() * 1.5)
                    self._kill(life)
                    continue
                try:
                    life.load()
                except AssertionError:
                    if "address already in use" not in life.proxy.log:  # another took its port a moment ago
                        raise
                    self.living.remove(life)
                    life.kill()
                    continue
                self._check()
                if len(self.living) == 1 and self.choose.random() < 0.25:
                    continue  # the next one is a second one
                self._reap()
            for life in tuple(self.living):
                self._kill(life)
            last = start()
            last.proxy.wait_until_listening()
            self._check()
            if last.proxy.stop() != 0:
                self.count.problems["did not stop"] += 1

    def _reap(self) -> None:
        """Kill one that lives, at a random moment."""
        moment = 0.15 + self.choose.random() ** 2 * 1.5
        with _locked(self.db) if self.choose.random() < 0.25 else nullcontext():
            time.sleep(moment)
            self._kill(self.choose.choice(self.living))
            self.count.journaled += self._journals()

    def _kill(self, life: Life) -> None:
        life.kill()
        self.living.remove(life)
        self.dead.append(life)
        self.kills += 1
        self.count.kills += 1

    def _journals(self) -> bool:
        return any(self.folder.glob("*.journal-*.jsonl"))

    def _check(self) -> None:
        """After a start: what the dead have left."""
        deadline = time.monotonic() + 20
        dead = {call.tag for life in self.dead for call in life.mine}
        while self._journals() or any(row["tag"] in dead for row in rows(self.db, "status = 'open'")):
            time.sleep(0.05)  # the database has no event to wait for
            if time.monotonic() > deadline:
                self.count.problems["not cleaned up"] += 1
                break
        found = rows(self.db)
        with closing(sqlite3.connect(self.db, timeout=10)) as raw:
            if raw.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                self.count.problems["database damaged"] += 1
        by_tag = {row["tag"]: row for row in found}
        self.count.problems["rows twice"] += len(found) - len(by_tag)
        alive = {call.tag for life in self.living for call in life.mine}
        for tag in alive:
            if tag in by_tag and by_tag[tag]["end_reason"] == "proxy_died":
                self.count.problems["a sibling's row touched"] += 1
        for life in self.dead:
            self.count.life(life, by_tag)
        self.dead.clear()


@contextmanager
def _locked(db: Path) -> Iterator[None]:
    """Another process's lock."""
    with closing(sqlite3.connect(db, isolation_level=None, timeout=10)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.execute("ROLLBACK")


def _lane(number: int, kills: int, count: Count, seed: int) -> None:
    choose = random.Random(f"{seed}-{number}")
    try:
        for first in range(0, kills, LIVES_PER_DATABASE):
            with tempfile.TemporaryDirectory(prefix="usagetap-crash-", ignore_cleanup_errors=True) as folder:
                Lane(Path(folder), count, choose).run(min(LIVES_PER_DATABASE, kills - first))
            print(f"{count.kills} kills, {count.due} due, {dict(+count.problems) or 'all there'}", flush=True)
    except Exception as error:
        count.problems[f"lane {number} broke off: {error}"] += 1
        raise


def main() -> int:
    """The command."""
    if "--writer" in sys.argv:
        sys.argv.remove("--writer")
        return crash_writer.main()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--grace", type=float, default=0.1, help="seconds that a record may take to be safe")
    parser.add_argument("--lanes", type=int, default=2, help="databases at once")
    options = parser.parse_args()
    count, started = Count(options.grace), time.monotonic()
    share = -(-options.kills // options.lanes)
    lanes = [
        threading.Thread(target=_lane, args=(number, share, count, options.seed)) for number in range(options.lanes)
    ]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    wrong = +count.problems
    print(
        f"{count.kills} kills of mitmdump in {time.monotonic() - started:.0f} s (seed {options.seed}, load"
        f" {os.getloadavg()[2]:.1f}):"
        f" {count.due} requests and ends were due, {count.died} rows became proxy_died,"
        f" {count.journaled} kills left a journal; the oldest that was missing was {count.oldest * 1000:.0f} ms old;"
        f" {', '.join(f'{n} {what}' for what, n in wrong.items()) or 'none lost'}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
