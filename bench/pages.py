"""Time the dashboard's pages on a database of a million rows, of the year that ends now.

    python -m bench.pages [--rows 1000000] [--db FILE] [--keep] [--cold] [--unsummed] [--zone Europe/Berlin]

A proxy sums what is over while it runs; so the database is summed first, but with --unsummed. Each page is asked of a
fresh process: how long the first answer takes (it may come without its slowest sums), how long until every sum is in
it, what that took of the processor (on a busy machine that is the figure to look at), and how long the whole page takes
from then on.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from zoneinfo import ZoneInfo

from bench import million
from usagetap.store.queries import open_reader
from usagetap.web.board import Board
from usagetap.web.site import Site

QUERIES = (
    "",
    "range=today",
    "range=30d",
    "range=30d&by=tag",
    "range=30d&by=provider",
    "range=30d&by=client",
    "range=90d",
    "range=1y",
    "range=all",
    "range=1y&by=tag",
    "range=30d&model=model-7-2025-01-01&status=aborted",
    "range=7d&tag=project-1",
    "range=30d&tag=project-1",
)


async def one(path: Path, query: str, zone: str) -> None:
    """Time one page in this process."""
    site = Site(Board(lambda: open_reader(path), ZoneInfo(zone)))
    started, worked = time.perf_counter(), time.process_time()
    answer = await site.answer("", query)
    first = time.perf_counter() - started
    while b" data-busy " in answer.body:
        await asyncio.sleep(0.01)
        answer = await site.answer("", query)
    whole, worked = time.perf_counter() - started, time.process_time() - worked
    started = time.perf_counter()
    await site.answer("", query)
    again = time.perf_counter() - started
    size = len(answer.body) / 1024
    times = " ".join(f"{seconds * 1000:6.0f} ms" for seconds in (first, whole, worked, again))
    print(f"/usage?{query:52} {times} {size:6.0f} KiB")
    site.close()


def main() -> None:
    """Build the database unless there is one, and time every page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--db", type=Path)
    parser.add_argument("--keep", action="store_true", help="do not remove the database")
    parser.add_argument("--cold", action="store_true", help="empty the operating system's caches first (as root)")
    parser.add_argument("--unsummed", action="store_true", help="as a file is that no proxy has summed yet")
    parser.add_argument("--zone", default="UTC")
    parser.add_argument("--query", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.query is not None:
        asyncio.run(one(options.db, options.query, options.zone))
        return
    path = options.db or Path(tempfile.mkdtemp(prefix="usagetap-")) / "million.db"
    if not path.exists():
        million.START = time.time() - million.YEAR
        million.build(path, options.rows)
        if not options.unsummed:
            million.add_up(path)
    print(f"{'page':59} {'first':>9} {'whole':>9} {'CPU':>9} {'again':>9} {'size':>10}")
    for query in QUERIES:
        if options.cold:
            million.drop_caches()
        this = [sys.executable, "-m", "bench.pages", "--db", path, "--zone", options.zone, "--query", query]
        subprocess.run(this, check=True)
    if not options.keep and options.db is None:
        for beside in path.parent.glob(f"{path.name}*"):
            beside.unlink()


if __name__ == "__main__":
    main()
