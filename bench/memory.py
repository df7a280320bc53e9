"""Memory of a real mitmdump with the addon while one stream of 200 MB passes: flat, or not.

python -m bench.memory [--megabytes 200]
"""

from __future__ import annotations

import argparse
import threading

from bench.proxied import ADDON, Upstream, drain, mitmdump
from bench.throughput import FRAME


def main() -> None:
    """Print the resident memory before, during and after."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200)
    size = parser.parse_args().megabytes * 1_000_000
    upstream = Upstream(FRAME, size // len(FRAME), join=54)
    with mitmdump(upstream.url, "-s", ADDON) as proxy:
        print(f"after the start: {proxy.memory / 1e6:.1f} MB")
        drain(proxy.port)  # loads what is loaded once: the price table, the tokenizer's vocabulary
        print(f"after a first such stream: {proxy.memory / 1e6:.1f} MB")
        seen: list[int] = []
        passed: list[int] = []
        client = threading.Thread(target=lambda: passed.append(drain(proxy.port)))
        client.start()
        while client.is_alive():
            seen.append(proxy.memory)
            client.join(0.05)
        quarter = max(len(seen) // 4, 1)
        print(f"a second stream of {passed[0] / 1e6:.0f} MB, {len(seen)} samples:")
        for name, part in (("first quarter", seen[:quarter]), ("last quarter", seen[-quarter:])):
            print(f"  {name}: {sum(part) / len(part) / 1e6:.1f} MB")
        print(f"  highest: {max(seen) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
