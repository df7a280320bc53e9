"""CPU of a real mitmdump per frame and per request: with the addon, against a script that only streams, in one run.

    python -m bench.throughput [--rounds 5]

Rounds alternate, so that whatever else the machine does meets all of them; ratios are of medians.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench.proxied import ADDON, Proxy, Upstream, drain, mitmdump
from bench.tap import CHAT

FRAME = CHAT.format(n=7, more=',"usage":null').encode()
STREAM_ONLY = str(Path(__file__).with_name("stream_only.py"))

CASES: tuple[tuple[str, Upstream, int], ...] = (
    ("1,000 frames, one a chunk", Upstream(FRAME, 1_000), 12),
    ("2,160 frames, 54 a chunk (16 KiB)", Upstream(FRAME, 54 * 40, join=54), 12),
    ("8 frames a request", Upstream(FRAME, 8), 300),
)


def cost(proxy: Proxy, work: Callable[[], object]) -> float:
    """CPU seconds of the proxy for `work`."""
    before = proxy.cpu
    work()
    return proxy.cpu - before


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print(f"{'CPU of mitmdump':34} {'stream only':>12} {'addon':>10} {'stripping':>10} {'ratio':>7} {'ratio':>7}")
    for name, upstream, requests in CASES:
        with ExitStack() as stack:
            proxies = [
                stack.enter_context(mitmdump(upstream.url, "-s", script, *extra))
                for script, *extra in (
                    (STREAM_ONLY,),
                    (ADDON,),
                    (ADDON, "--set", "usage_strip_frame=injected"),
                )
            ]
            costs: list[list[float]] = [[] for _ in proxies]
            for round_number in range(rounds + 1):
                for proxy, spent in zip(proxies, costs, strict=True):
                    used = cost(proxy, lambda p=proxy, n=requests: [drain(p.port) for _ in range(n)])
                    if round_number:  # the first warms up
                        spent.append(used)
        bare, addon, stripping = (statistics.median(spent) for spent in costs)
        per = upstream.frames * requests if upstream.frames > 100 else requests
        unit = "per frame" if upstream.frames > 100 else "per request"
        print(
            f"{name:34} {bare / per * 1e6:9.1f} µs {addon / per * 1e6:7.1f} µs {stripping / per * 1e6:7.1f} µs"
            f" {addon / bare:7.2f} {stripping / bare:7.2f}  {unit}"
        )


if __name__ == "__main__":
    main()
