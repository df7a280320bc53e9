"""CPU of a real proxy per frame and per request: with the addon, against a script that only streams, in one run.

    python -m bench.throughput [--rounds 9]

Rounds alternate, so that whatever else the machine does meets all proxies. The ratio is the median of the rounds' own
ratios; beside it, in brackets, what the middle half of them said. mitmweb has somebody who listens, as a browser does.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.proxied import ADDON, REQUEST, Proxy, Upstream, drain, mitmdump, mitmweb, request
from bench.tap import CHAT

FRAME = CHAT.format(n=7, more=',"usage":null').encode()
STREAM_ONLY = str(Path(__file__).with_name("stream_only.py"))
STRIPPING = ("--set", "usage_strip_frame=injected")


@dataclass(frozen=True)
class Case:
    """What passes in one round."""

    name: str
    upstream: Upstream
    requests: int
    per_frame: bool = True
    asked: bytes = REQUEST

    def cost(self, proxy: Proxy) -> float:
        """Microseconds of the proxy's CPU, per frame or per request."""
        before = proxy.cpu
        for _ in range(self.requests):
            drain(proxy.port, self.asked)
        passed = self.requests * (self.upstream.frames if self.per_frame else 1)
        return (proxy.cpu - before) / passed * 1e6


def cases(pause: float) -> dict[Callable[..., AbstractContextManager[Proxy]], list[Case]]:
    """The cases of each tool; `pause` is between the chunks of the slow stream."""
    thousand, paced = Upstream(FRAME, 1_000), Upstream(FRAME, 500, pause=pause)
    return {
        mitmdump: [
            Case("1,000 frames, one a chunk", thousand, 12),
            Case("2,160 frames, 54 a chunk (16 KiB)", Upstream(FRAME, 54 * 40, join=54), 12),
            Case("a request of 1 KB, 8 frames", Upstream(FRAME, 8), 150, per_frame=False),
            Case("a request of 200 KB, 8 frames", Upstream(FRAME, 8), 50, per_frame=False, asked=request(175)),
        ],
        mitmweb: [
            Case("mitmweb: 1,000 frames, one a chunk", thousand, 12),
            Case(f"mitmweb: 500 frames, {pause * 1000:.0f} ms apart", paced, 2),
        ],
    }


def ratio(costs: list[float], bare: list[float]) -> str:
    """The median of the rounds' ratios, and their quartiles."""
    low, middle, high = statistics.quantiles([cost / other for cost, other in zip(costs, bare, strict=True)], n=4)
    return f"{middle:5.2f} ({low:.2f}-{high:.2f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    print(f"{'CPU of mitmdump':36} {'stream only':>12} {'addon':>12} {'ratio':>20} {'stripping: ratio':>20}")
    for tool, some in cases(0.005).items():
        for case in some:
            with ExitStack() as stack:
                proxies = [
                    stack.enter_context(tool(case.upstream.url, "-s", script, *extra))
                    for script, *extra in ((STREAM_ONLY,), (ADDON,), (ADDON, *STRIPPING))
                ]
                costs = [[case.cost(proxy) for proxy in proxies] for _ in range(rounds + 1)][1:]  # the first warms up
            bare, addon, stripping = (list(each) for each in zip(*costs, strict=True))
            ratios = f"{ratio(addon, bare):>20} {ratio(stripping, bare):>20}"
            print(
                f"{case.name:36} {statistics.median(bare):9.1f} µs {statistics.median(addon):9.1f} µs"
                f" {ratios}  {'a frame' if case.per_frame else 'a request'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
