"""The README's tables, printed from the code by cog: options, columns, ends, dialects, commands.

`make docs` checks that the README has them as they are now; `make readme` writes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from usagetap.cli import SUBCOMMANDS
from usagetap.dialects import DIALECTS, UNKNOWN
from usagetap.mitm.dashboard import Dashboard
from usagetap.mitm.options import OPTIONS, Option
from usagetap.model import STATUS_OF_END
from usagetap.store.schema import UsageRow
from usagetap.turns import _PROTOCOLS

ENDS = {
    "complete": "the payload's own last word was seen, even if the client hung up right after it",
    "client_disconnected": "the client hung up; what had accumulated is kept",
    "killed": "killed by hand in mitmproxy",
    "upstream_disconnected": "ended before its last word, however politely",
    "upstream_error": "an error frame inside a 200 stream",
    "http_error": "status 400 and up",
    "connect_failed": "the upstream could not be reached",
    "idle_timeout": "no frame for `usage_idle_timeout` (or no byte for mitmproxy's own `tcp_timeout`)",
    "no_usage": "ended well, but the usage that was asked for never came: missing, not zero",
    "proxy_stopped": "the proxy was told to stop",
    "proxy_died": "left open by a process that is dead, found by a later start",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table."""
    print("|", " | ".join(head), "|")
    print("|" + "---|" * len(head))
    for row in rows:
        print("|", " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row), "|")


def options() -> None:
    """Every option with its default: the tap's, and what the other addon objects declare for themselves."""
    declared = list(OPTIONS)
    Dashboard().load(_Loader(declared))
    table(
        ("option", "default", "meaning"),
        ((f"`{o.name}`", f"`{_default(o.default)}`" if _default(o.default) else "", o.help) for o in declared),
    )


class _Loader:
    """Stands in for mitmproxy's, to hear what is declared."""

    def __init__(self, declared: list[Option]) -> None:
        self._declared = declared

    def add_option(self, name: str, typespec: type, default: Any, help: str) -> None:
        """Note one option."""
        self._declared.append(Option(name, typespec, default, help))


def estimates() -> None:
    """How close the estimates come, as `python -m bench.estimates CORPUS --table` wrote it."""
    print((Path(__file__).parent.parent / "docs" / "estimates.md").read_text().rstrip())


def columns() -> None:
    """Every column of table `usage`."""
    fields = UsageRow._meta.sorted_fields
    table(("column", "meaning"), ((f"`{field.column_name}`", field.help_text or "") for field in fields))


def ends() -> None:
    """Every `end_reason` with its `status`."""
    assert set(ENDS) == set(STATUS_OF_END)
    table(("status", "end_reason", "when"), ((f"`{STATUS_OF_END[r]}`", f"`{r}`", text) for r, text in ENDS.items()))


def dialects() -> None:
    """Every dialect with the first sentence of its class."""
    seen = [(dialect.name, type(dialect).__doc__ or "") for dialect in (*DIALECTS, UNKNOWN)]
    seen += [(turns.dialect.name, turns.__doc__ or "") for _, turns in _PROTOCOLS]
    rows: dict[str, list[str]] = {}
    for name, doc in seen:
        rows.setdefault(name, []).append(re.sub(r"\s+", " ", doc.split("\n\n")[0]).strip())
    table(("dialect", "spoken at"), ((f"`{name}`", " ".join(dict.fromkeys(docs))) for name, docs in rows.items()))


def commands() -> None:
    """Every subcommand with its summary."""
    table(("command", "what it does"), ((f"`usagetap {name}`", entry.summary) for name, entry in SUBCOMMANDS.items()))


def _default(value: object) -> str:
    if value is True or value is False:
        return str(value).lower()
    return "" if value in ("", []) else str(value)
