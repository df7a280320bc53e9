"""CPU of a further frame in a long stream: what a proxy takes for 3,000 frames beyond what it takes for 1,000.

    python -m bench.frames [--starts 8] [--rounds 3] [--paced] [--tool mitmweb]

What a request costs, however long its answer, is not in it: `bench.throughput` has that. Everything but the proxy
stands still meanwhile: the answer waits in its socket, the client sleeps until all of it is there, and there is a pause
after each request, so that its row is written by then. Rounds alternate between the proxies, and each is started many
times, for how its memory happens to lie makes some percent. mitmweb has somebody who listens, as a browser does.

The addon is compared with a script that lets the same answers stream. Of mitmproxy without any script there are two:
with `stream_large_bodies=1`, which streams as well, and as it is, which withholds the whole answer until it has ended
and sends it in one piece.

With `--paced` a frame comes every two milliseconds, as a model sends them, to all proxies at the same time: the proxy
sleeps between two of them, and is woken for each. The script runs twice, to show what the machine's noise is.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from bench.proxied import ADDON, Proxy, Upstream, drain, free_port, mitmdump, mitmweb
from bench.throughput import FRAME, STREAM_ONLY

SHORT, LONG = 1_000, 3_000
REPEATS = 4
PAUSE = 0.05
"""Seconds after a request: more than its row takes."""
PROXIES = {
    "a script that only streams": ("-s", STREAM_ONLY),
    "the addon": ("-s", ADDON),
    "the addon, usage_keep_body=0": ("-s", ADDON, "--set", "usage_keep_body=0"),
    "no script, stream_large_bodies=1": ("--set", "stream_large_bodies=1"),
    "no script: the answer is withheld": (),
}


def cost(proxy: Proxy, port: int, frames: int) -> float:
    """Microseconds of the proxy's CPU for an answer of so many frames."""
    before = proxy.cpu
    for _ in range(REPEATS):
        drain(port, asleep=frames * len(FRAME))
        time.sleep(PAUSE)
    return (proxy.cpu - before) / REPEATS * 1e6


def slopes(tool: str, rounds: int) -> list[float]:
    """Microseconds a further frame takes in each of the proxies, started anew."""
    start = {"mitmdump": mitmdump, "mitmweb": mitmweb}[tool]
    short, long = Upstream(FRAME, SHORT), Upstream(FRAME, LONG)
    found: list[list[float]] = []
    with ExitStack() as stack:
        proxies = []
        for arguments in PROXIES.values():
            port = free_port()
            mode = ("--mode", f"reverse:{long.url}@{port}")
            proxies.append((stack.enter_context(start(short.url, *mode, *arguments)), port))
        for _ in range(rounds + 1):
            few = [cost(proxy, proxy.port, SHORT) for proxy, _ in proxies]
            many = [cost(proxy, port, LONG) for proxy, port in proxies]
            found.append([(one - other) / (LONG - SHORT) for one, other in zip(many, few, strict=True)])
    return [statistics.median(each) for each in zip(*found[1:], strict=True)]  # the first round warms up


PACE = 0.002
FEW, MANY = 100, 1_500
PACED = {
    "a script that only streams": ("-s", STREAM_ONLY),
    "the addon": ("-s", ADDON),
    "the script once more": ("-s", STREAM_ONLY),
}


def paced_costs(proxies: Iterable[Proxy], times: int) -> list[float]:
    """Microseconds of each proxy's CPU for an answer, all of them at work at the same time."""
    proxies = list(proxies)
    before = [proxy.cpu for proxy in proxies]
    with ThreadPoolExecutor(len(proxies)) as clients:
        for each in [clients.submit(drain, proxy.port) for _ in range(times) for proxy in proxies]:
            each.result()
    time.sleep(PAUSE)
    return [(proxy.cpu - cpu) / times * 1e6 for proxy, cpu in zip(proxies, before, strict=True)]


def paced_slopes(tool: str, rounds: int) -> list[float]:
    """Microseconds a further frame takes in each of the proxies where frames come one by one, started anew."""
    start = {"mitmdump": mitmdump, "mitmweb": mitmweb}[tool]
    found: list[list[float]] = []
    with ExitStack() as stack:
        short, long = (
            [stack.enter_context(start(Upstream(FRAME, frames, pause=PACE).url, *each)) for each in PACED.values()]
            for frames in (FEW, MANY)
        )
        for _ in range(rounds + 1):
            few, many = paced_costs(short, 5), paced_costs(long, 1)
            found.append([(one - other) / (MANY - FEW) for one, other in zip(many, few, strict=True)])
    return [statistics.median(each) for each in zip(*found[1:], strict=True)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--paced", action="store_true")
    parser.add_argument("--tool", choices=("mitmweb", "mitmdump"), action="append")
    asked = parser.parse_args()
    measure, names = (paced_slopes, PACED) if asked.paced else (slopes, PROXIES)
    for tool in asked.tool or ("mitmweb", "mitmdump"):
        found = [measure(tool, asked.rounds) for _ in range(asked.starts)]
        print(f"{tool + ', a further frame':36} {'CPU':>9} {'ratio':>7}   of each start")
        for index, name in enumerate(names):
            ratios = [of_start[index] / of_start[0] for of_start in found]
            middle = statistics.median(of_start[index] for of_start in found)
            each = " ".join(f"{one:.3f}" for one in sorted(ratios))
            print(f"{name:36} {middle:6.2f} µs {statistics.median(ratios):7.3f}   {each}", flush=True)


if __name__ == "__main__":
    main()
