"""Time `usagetap report` and its kin as a user does: a fresh process each, on a database of a million rows.

    python -m bench.reports [--db FILE] [--runs 5] [--cold]

Prints the best and the median of the runs, the least time of the processor, and the peak memory. Without `--db` the
database of `bench/million.py` is built first.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import million

ROOT = Path(__file__).resolve().parents[1]
#: what is run -> the seconds that were asked for (issue 5), if any
CASES: dict[str, float | None] = {
    "report monthly --by model": 1.5,
    "report daily --since 2025-12-25 --until 2025-12-31": 0.3,
    "report total": 1.0,
    "report daily": None,
    "report monthly --by tag,model": None,
    "waste --since 2025-12-01": None,
    "show last": None,
    "tail --no-follow": None,
}


def run(command: str, db: Path) -> tuple[float, float]:
    """Seconds that one command takes, by the clock and of the processor."""
    program = "from usagetap.cli import main\nmain()"
    environment = {**os.environ, "USAGETAP_DB": str(db), "PYTHONPATH": str(ROOT / "addon"), "COLUMNS": "120"}
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", program, *command.split()], check=True, env=environment, stdout=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, worked


def main() -> None:
    """Print a line for each command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cold", action="store_true", help="empty the operating system's caches first (as root)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="usagetap-") as folder:
        path = options.db or Path(folder) / "million.db"
        if options.db is None:
            million.build(path, 1_000_000)
            million.add_up(path)
        print(f"{'command':<52}{'best':>8}{'median':>8}{'CPU':>8}{'asked':>8}")
        for command, asked in CASES.items():
            times = []
            for _ in range(options.runs):
                if options.cold:
                    million.drop_caches()
                times.append(run(command, path))
            limit = f"{asked:.1f} s" if asked else ""
            seconds = [elapsed for elapsed, _ in times]
            shown = (min(seconds), statistics.median(seconds), min(worked for _, worked in times))
            print(f"{command:<52}{''.join(f'{each:>6.2f} s' for each in shown)}{limit:>8}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"largest of them: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
