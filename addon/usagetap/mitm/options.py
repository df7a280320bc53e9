"""The addon's options: one table, declared to mitmproxy, checked in `configure`, printed in the README.

mitmproxy enforces neither choices nor ranges, and starts silently with `--set usage_limit=abc`: all checks are here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from mitmproxy import exceptions
from mitmproxy.options import Options

from usagetap.store.place import is_postgres, sqlite_path, without_password


class Option(NamedTuple):
    """One option: its mitmproxy type, default and meaning."""

    name: str
    type: Any
    default: Any
    help: str


OPTIONS: tuple[Option, ...] = (
    Option(
        "usage_db",
        str,
        "",
        "SQLite path or database URL; empty: `$USAGETAP_DB`, else `usage.db` in mitmproxy's confdir.",
    ),
    Option(
        "usage_include",
        str,
        "force",
        "`force`: `stream_options.include_usage` becomes true whatever the client sent. `merge`: only added where the "
        "client said nothing. `off`: requests are never touched.",
    ),
    Option(
        "usage_strip_frame",
        str,
        "never",
        "The final usage frame on its way to the client: `never` withheld, `injected`: withheld if the client had not "
        "asked for it, `always`.",
    ),
    Option(
        "usage_hosts",
        Sequence[str],
        [],
        "More hosts (glob, `host[:port][/path-prefix]`) to treat as OpenAI-compatible; `!host` excludes.",
    ),
    Option("usage_no_inject", Sequence[str], [], "Hosts (glob) that never get `stream_options`."),
    Option("usage_continuous", Sequence[str], [], "Hosts (glob) that get `continuous_usage_stats` too (vLLM, SGLang)."),
    Option("usage_idle_timeout", str, "0", "Seconds without a frame after which a stream is cut; 0: never."),
    Option("usage_estimate", bool, True, "Count offline what the provider never counted (extra `estimate`)."),
    Option("usage_prices", str, "", "YAML file with your own prices, over the bundled ones."),
    Option("usage_model_prefix", Sequence[str], [], "Prefixes (`openai/`) to strip from the model name in requests."),
    Option("usage_tag_header", str, "x-usage-tag", "Request header that is stored as `tag` and removed."),
    Option("usage_resolve", bool, False, "After an abort, ask OpenRouter for its cost, with the client's own key."),
    Option(
        "usage_keep_body",
        str,
        "auto",
        "Bytes of a streamed body kept for the UI; `auto`: 1m under mitmweb and the console, else 0.",
    ),
    Option("usage_retention", str, "0", "Days after which rows are deleted; 0: never."),
    Option("usage_frame_limit", str, "16m", "Largest frame that is parsed; a larger one passes unread, flagged."),
)

CHOICES = {"usage_include": ("force", "merge", "off"), "usage_strip_frame": ("never", "injected", "always")}
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class HostPattern(NamedTuple):
    """One entry of a host list."""

    host: str
    port: int | None
    path: str
    excludes: bool

    def covers(self, host: str, port: int, path: str) -> bool:
        """Whether a request to this place is meant."""
        return fnmatchcase(host.lower(), self.host) and self.port in (None, port) and path.startswith(self.path)


@dataclass(frozen=True, slots=True)
class Hosts:
    """A list of host patterns; an exclusion wins over everything."""

    patterns: tuple[HostPattern, ...] = ()

    def covers(self, host: str, port: int, path: str) -> bool:
        """Whether an entry includes this place and none excludes it."""
        hits = [pattern for pattern in self.patterns if pattern.covers(host, port, path)]
        return bool(hits) and not any(pattern.excludes for pattern in hits)

    def excludes(self, host: str, port: int, path: str) -> bool:
        """Whether an entry with `!` names this place."""
        return any(pattern.excludes and pattern.covers(host, port, path) for pattern in self.patterns)


@dataclass(frozen=True, slots=True)
class Settings:
    """The options, checked and in the shapes that the hooks use."""

    db: str
    include: str
    strip_frame: str
    hosts: Hosts
    no_inject: Hosts
    continuous: Hosts
    idle_timeout: float
    estimate: bool
    prices: str
    model_prefix: tuple[str, ...]
    tag_header: str
    resolve: bool
    keep_body: int | None
    """`None`: auto."""
    retention: float
    frame_limit: int
    changed: tuple[str, ...] = ()
    """Every other option that differs from its default, as `name value`."""

    def __str__(self) -> str:
        """The settings in force, for the log: what matters most, and every other that is not as it comes."""
        main = (f"database {without_password(self.db)}", f"include {self.include}", f"strip {self.strip_frame}")
        return ", ".join((*main, *self.changed))


def declare(add_option: Callable[..., None]) -> None:
    """Declare every option (`loader.add_option`)."""
    for option in OPTIONS:
        add_option(option.name, option.type, option.default, option.help)


def read(options: Options) -> Settings:
    """The settings, checked. Raises `OptionsError` with one sentence that says what is allowed."""
    for name, allowed in CHOICES.items():
        value = getattr(options, name)
        if value not in allowed:
            raise exceptions.OptionsError(f"{name} is {value!r}, but must be one of: {', '.join(allowed)}")
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", options.usage_tag_header):
        raise exceptions.OptionsError(f"usage_tag_header is {options.usage_tag_header!r}, which is no header name")
    if options.usage_prices and not Path(options.usage_prices).expanduser().is_file():
        raise exceptions.OptionsError(f"usage_prices names {options.usage_prices!r}, but there is no such file")
    return Settings(
        db=_database(options),
        include=options.usage_include,
        strip_frame=options.usage_strip_frame,
        hosts=_hosts("usage_hosts", options),
        no_inject=_hosts("usage_no_inject", options),
        continuous=_hosts("usage_continuous", options),
        idle_timeout=_number("usage_idle_timeout", options),
        estimate=options.usage_estimate,
        prices=options.usage_prices,
        model_prefix=tuple(_words(options.usage_model_prefix)),
        tag_header=options.usage_tag_header.lower(),
        resolve=options.usage_resolve,
        keep_body=None if options.usage_keep_body == "auto" else _size("usage_keep_body", options),
        retention=_number("usage_retention", options),
        frame_limit=_size("usage_frame_limit", options, least=1024),
        changed=tuple(_changed(options)),
    )


def _changed(options: Options) -> Iterator[str]:
    for option in OPTIONS:
        value = getattr(options, option.name)
        if option.name not in ("usage_db", *CHOICES) and value != option.default:
            shown = " ".join(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
            yield f"{option.name.removeprefix('usage_')} {str(shown).lower() if shown in (True, False) else shown}"


def _database(options: Options) -> str:
    named = database_of(options)
    if is_postgres(named):
        return named
    if "://" in named and not named.startswith("sqlite:"):
        scheme = named.partition("://")[0]
        raise exceptions.OptionsError(f"usage_db begins {scheme}://, but must be a path, sqlite:///… or postgresql://…")
    try:
        sqlite_path(named)
    except ValueError as error:
        raise exceptions.OptionsError(f"usage_db: {error}") from error
    return named


def database_of(options: Options) -> str:
    """The path or URL of the database."""
    named: str = options.usage_db or os.environ.get("USAGETAP_DB", "")
    return named or str(Path(options.confdir).expanduser() / "usage.db")


def _words(values: Sequence[str]) -> list[str]:
    """A list option as words: `--set` once per entry, or several in one with commas or blanks."""
    return [word for value in values for word in re.split(r"[\s,]+", value) if word]


def _hosts(name: str, options: Options) -> Hosts:
    return Hosts(tuple(_pattern(name, word) for word in _words(getattr(options, name))))


def _pattern(name: str, word: str) -> HostPattern:
    found = re.fullmatch(r"(!?)(\[[0-9a-fA-F:.*]+\]|[^/:\s!]+)(?::(\d{1,5}))?(/\S*)?", word)
    if found is None or "://" in word:
        raise exceptions.OptionsError(f"{name} has the entry {word!r}: write host, host:port or host:port/path (globs)")
    host = found[2].strip("[]").lower()
    return HostPattern(host, int(found[3]) if found[3] else None, found[4] or "", bool(found[1]))


def _number(name: str, options: Options) -> float:
    value = getattr(options, name)
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e9:
        raise exceptions.OptionsError(f"{name} is {value!r}, but must be a number from 0 up (0: never)")
    return number


def _size(name: str, options: Options, least: int = 0) -> int:
    value = getattr(options, name)
    found = re.fullmatch(r"(\d{1,12})([kmg]?)b?", value.strip().lower())
    size = int(found[1]) * _UNITS[found[2]] if found else -1
    if size < least or size > 1 << 30:
        raise exceptions.OptionsError(f"{name} is {value!r}, but must be a size from {least} to 1g, such as 64k or 16m")
    return size
