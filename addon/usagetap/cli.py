"""The `usagetap` command: a table of subcommands, each imported only when it is called.

Start-up is most of what a person feels of a command line, so this module imports click and nothing else; a
subcommand's module is loaded when it is asked for by name. The one-line summaries stand in the table so that
`usagetap --help` loads none of them.
"""

from __future__ import annotations

import importlib
import sys
from typing import NamedTuple

import click

from usagetap import __version__


class Subcommand(NamedTuple):
    """Where a subcommand lives (`module:attribute`) and its line in `usagetap --help`."""

    target: str
    summary: str


SUBCOMMANDS: dict[str, Subcommand] = {
    "run": Subcommand("usagetap.launch.run:run", "Start mitmproxy with the addon."),
    "exec": Subcommand(
        "usagetap.launch.exec:exec_", "Run one command through a proxy of its own and show what it used."
    ),
    "env": Subcommand("usagetap.launch.env:env", "Print the shell exports that point programs at the proxy."),
    "trust": Subcommand("usagetap.launch.trust:trust", "Add mitmproxy's CA to the system's trust store, or remove it."),
    "doctor": Subcommand("usagetap.launch.doctor:doctor", "Check what a working set-up needs."),
    "demo": Subcommand("usagetap.launch.demo:demo", "See rows in a minute: no key, no network."),
    "report": Subcommand("usagetap.report.commands:report", "Totals by day, week, month, model, status, …"),
    "tail": Subcommand("usagetap.report.commands:tail", "Follow responses as they end."),
    "show": Subcommand("usagetap.report.commands:show", "Everything known about one flow."),
    "waste": Subcommand("usagetap.report.commands:waste", "What was paid for and not used."),
    "reconcile": Subcommand("usagetap.report.commands:reconcile", "Compare with a provider's own usage export."),
    "refusals": Subcommand("usagetap.report.commands:refusals", "Who refuses `stream_options`: list, clear."),
    "reprice": Subcommand("usagetap.report.commands:reprice", "Price rows again, with today's price table."),
    "prune": Subcommand("usagetap.report.commands:prune", "Delete old rows."),
    "export": Subcommand("usagetap.report.commands:export", "Write rows as CSV, JSON, NDJSON or Parquet."),
    "web": Subcommand("usagetap.web.command:web", "The dashboard, without mitmweb."),
    "upstream": Subcommand("usagetap.launch.upstream:upstream", "The bundled fake provider."),
    "replay": Subcommand("usagetap.mitm.offline:replay", "Read saved flows or HAR files into the table."),
    "scrub": Subcommand("usagetap.mitm.offline:scrub", "Copy a flow file without its credentials."),
}


class LazyGroup(click.Group):
    """A click group whose subcommands are imported on demand from `SUBCOMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name in the table, in the table's order."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the subcommand, or say in one sentence what is missing (exit code 1)."""
        entry = SUBCOMMANDS.get(cmd_name)
        return None if entry is None else load(cmd_name, entry)

    def invoke(self, ctx: click.Context) -> object:
        """Run the subcommand; Ctrl-C ends it without a word, with the shell's own exit code for it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(130)
        finally:
            sys.stdout.flush()  # here a pipe that nobody reads ends quietly; at Python's own exit it does not

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of subcommands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in SUBCOMMANDS.items()])


def load(name: str, entry: Subcommand) -> click.Command:
    """Import a subcommand; `click.ClickException` names the module or package that is not there."""
    module_name, _, attribute = entry.target.partition(":")
    try:
        command = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise click.ClickException(explain_missing(name, error)) from error
    except AttributeError as error:
        raise click.ClickException(f"`usagetap {name}` is not in this version ({entry.target} is missing).") from error
    if not isinstance(command, click.Command):
        raise click.ClickException(f"`usagetap {name}`: {entry.target} is not a command.")
    return command


def explain_missing(name: str, error: ModuleNotFoundError) -> str:
    """One sentence for an import that failed: our own module, or a package that the user can install."""
    missing = error.name or str(error)
    if missing.partition(".")[0] == "usagetap":
        return f"`usagetap {name}` is not in this version (module {missing} is missing)."
    package = missing.partition(".")[0]
    return f"`usagetap {name}` needs the Python package {package}: pip install {package}"


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="usagetap")
def main() -> None:
    """Token usage, cost and honest endings of every LLM call, read off the wire by a mitmproxy addon."""
