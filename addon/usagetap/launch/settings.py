"""What mitmproxy will take for an option: its command line, else its config.yaml.

We start mitmproxy and must know a few things before it does: where the database will be, which hosts are the user's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

#: mitmproxy's own flags for options that we look at
FLAGS = {
    "--listen-host": "listen_host",
    "--listen-port": "listen_port",
    "-p": "listen_port",
    "--mode": "mode",
    "-m": "mode",
}


def settings_in(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every option that a mitmproxy command line sets, as (name, value), in order: `--set` and `FLAGS`."""
    rest = iter(arguments)
    for argument in rest:
        flag, equals, value = argument.partition("=")
        if flag == "--set":
            name, _, value = (value if equals else next(rest, "")).partition("=")
            yield name, value
        elif flag in FLAGS:
            yield FLAGS[flag], value if equals else next(rest, "")


def setting(name: str, arguments: Sequence[str]) -> str | None:
    """The last value that the arguments, or else mitmproxy's config.yaml, give to an option; `None` for neither."""
    given = [value for key, value in settings_in(arguments) if key == name]
    if given:
        return given[-1]
    configured = read_config(arguments).get(name)
    if isinstance(configured, list):
        return ",".join(map(str, configured))
    return None if configured is None else str(configured)


def confdir_of(arguments: Sequence[str]) -> Path:
    """mitmproxy's own folder: its CA, its config.yaml and, unless told otherwise, our database."""
    given = [value for key, value in settings_in(arguments) if key == "confdir"]
    return Path(given[-1] if given else "~/.mitmproxy").expanduser()


def read_config(arguments: Sequence[str]) -> dict[str, Any]:
    """mitmproxy's config.yaml as a mapping; empty where there is none (mitmproxy itself reports a bad one)."""
    confdir = confdir_of(arguments)
    for name in ("config.yaml", "config.yml"):
        if (confdir / name).is_file():
            from ruamel.yaml import YAML
            from ruamel.yaml.error import YAMLError

            try:
                content = YAML(typ="safe", pure=True).load(confdir / name)
            except (YAMLError, OSError):
                return {}
            return content if isinstance(content, dict) else {}
    return {}


def database(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """The path or URL of the database that the addon will use."""
    named = setting("usage_db", arguments) or environment.get("USAGETAP_DB")
    return named or str(confdir_of(arguments) / "usage.db")
