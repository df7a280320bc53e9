"""What mitmproxy will take for an option: its command line, else its config.yaml.

We start mitmproxy and must know a few things before it does: where the database will be, which hosts are the user's.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

#: mitmproxy's own flags for options that we look at
FLAGS = {
    "--listen-host": "listen_host",
    "--listen-port": "listen_port",
    "-p": "listen_port",
    "--mode": "mode",
    "-m": "mode",
    "--flow-detail": "flow_detail",
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


def check_options(arguments: Sequence[str]) -> None:
    """Raise `click.UsageError` for a bad value of an addon's option, `click.ClickException` for a bad price file.

    mitmproxy itself would end with a traceback at a bad value, and not say a word about a name that nobody knows.
    """
    given = [(name, value) for name, value in settings_in(arguments) if name.startswith("usage_")]
    configured = {name: value for name, value in read_config(arguments).items() if name.startswith("usage_")}
    if not given and not configured:
        return
    from mitmproxy.exceptions import OptionsError
    from mitmproxy.options import Options

    from usagetap.mitm.dashboard import Dashboard
    from usagetap.mitm.options import declare, read
    from usagetap.pricing import PriceFileError, read_prices

    options: Any = Options()
    declare(options.add_option)
    Dashboard().load(options)
    known = [name for name in options.keys() if name.startswith("usage_")]  # noqa: SIM118 - it is no mapping
    for name in (*configured, *(name for name, _ in given)):
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(known)}"
            raise click.UsageError(f"there is no option {name}; {hint}")
    try:
        options.update(**configured)
        options.set(*(f"{name}={value}" for name, value in given if value))
        if prices := read(options).prices:
            read_prices(Path(prices).expanduser())
    except OptionsError as error:
        raise click.UsageError(str(error)) from error
    except PriceFileError as error:
        raise click.ClickException(str(error)) from error
    except TypeError:
        return  # a number where config.yaml should have a text: mitmproxy says so in a line


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
