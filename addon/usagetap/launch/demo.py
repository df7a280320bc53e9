"""`usagetap demo`: the fake upstream, a proxy, a client, and the rows. Needs no key and no network."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import click

from usagetap.launch.exec import run_through_proxy
from usagetap.launch.proxy import ProxyFailed

#: what the fake provider's models would cost at the real one
PRICES = """
prices:
  - provider: "127.0.0.1*"
    like: openai
"""


@click.command("demo")
@click.option("--db", type=click.Path(path_type=Path), help="Keep the rows in this database [a temporary one].")
@click.pass_context
def demo(ctx: click.Context, db: Path | None) -> None:
    """Four calls through a real proxy: one finished, one left by the client, one with tools, one that fails.

    The provider is the bundled fake upstream; the prices are real.
    """
    from usagetap.upstream.server import running_upstream

    with tempfile.TemporaryDirectory(prefix="usagetap-demo-") as folder, running_upstream() as upstream:
        client = [sys.executable, "-m", "usagetap.launch.demo_client", f"{upstream.url}/v1"]
        # the package may be only cloned, not installed; a proxy of the user's is not asked for 127.0.0.1
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            os.environ.pop(name, None)
        prices = Path(folder) / "prices.yaml"
        prices.write_text(PRICES)
        rows = str(db or Path(folder) / "usage.db")
        try:
            code = run_through_proxy(
                client, quiet=False, db=rows, confdir=Path(folder), settings=[f"usage_prices={prices}"]
            )
        except ProxyFailed as error:
            raise click.ClickException(str(error)) from error
    ctx.exit(code)
