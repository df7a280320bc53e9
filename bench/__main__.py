"""`make bench`: the quick benchmarks, one after the other. The long ones are modules of their own: see `bench/`."""

from __future__ import annotations

import subprocess
import sys

QUICK = ("tap", "throughput", "latency", "memory")


def main() -> None:
    """Run them in processes of their own, so that none warms another's caches."""
    for name in QUICK:
        print(f"\n== bench.{name}", flush=True)
        subprocess.run([sys.executable, "-m", f"bench.{name}"], check=True)


if __name__ == "__main__":
    main()
