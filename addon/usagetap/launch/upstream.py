"""`usagetap upstream`: the bundled fake provider on a port, for trying things out without a key."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import click

REFUSALS = click.Choice(["openai", "azure", "azure_old", "mistral", "databricks"])


@click.command("upstream")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("-p", "--port", type=click.IntRange(0, 65535), default=9000, show_default=True, help="0: any free port.")
@click.option("--tls", is_flag=True, help="HTTPS, with a certificate of its own making.")
@click.option("--http2/--no-http2", default=True, show_default=True, help="Offer HTTP/2 (with --tls).")
@click.option("--delay", type=click.FloatRange(min=0), default=0.0, help="Seconds before each chunk.")
@click.option("--die-after", type=click.IntRange(min=0), metavar="N", help="Break off after N chunks.")
@click.option("--refuse-stream-options", type=REFUSALS, help="Refuse stream_options in this provider's words.")
@click.option("--encoding", metavar="CODING", help="gzip, deflate, br or zstd, or several joined by +.")
@click.option("--behaviour", metavar="WORDS", default="", help="Anything else, as in: chunks=50;tools=1;no_done")
@click.option("--replay", multiple=True, type=click.Path(exists=True, path_type=Path), help="Answer as recorded.")
def upstream(host: str, port: int, **conduct: Any) -> None:
    """Serve a fake model provider: OpenAI-compatible streams and others, made up or replayed.

    A request can change the answer by the header `x-upstream` or behind an @ in the model's name:

    \b
    curl http://127.0.0.1:9000/v1/chat/completions -H 'x-upstream: chunks=3' \\
         -d '{"model": "gpt-4o", "stream": true, "messages": []}'
    """
    from usagetap.upstream.server import serve

    try:
        serve(host, port, started=lambda it: click.echo(f"fake upstream: {it.url}", err=True), **conduct)
    except KeyboardInterrupt:
        return
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise click.ClickException(f"port {port} is taken by another program: choose one with --port") from error
        raise click.ClickException(str(error)) from error
    except ValueError as error:
        raise click.ClickException(str(error)) from error
