"""The options, checked: a clear sentence for each mistake."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from mitmproxy.exceptions import OptionsError
from mitmproxy.options import Options

from usagetap.mitm import options
from usagetap.mitm.options import OPTIONS, Settings


def read(**named: Any) -> Settings:
    known = Options()
    options.declare(known.add_option)
    known.update(**named)
    return options.read(known)


def test_defaults_are_the_contracts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("USAGETAP_DB", raising=False)
    settings = read()
    assert (settings.include, settings.strip_frame, settings.tag_header) == ("force", "never", "x-usage-tag")
    assert (settings.idle_timeout, settings.retention, settings.estimate, settings.resolve) == (0, 0, True, False)
    assert (settings.keep_body, settings.frame_limit) == (None, 16 << 20)
    assert settings.db.endswith("/.mitmproxy/usage.db")


def test_every_option_says_what_it_means() -> None:
    assert len({option.name for option in OPTIONS}) == len(OPTIONS)
    for option in OPTIONS:
        assert option.name.startswith("usage_")
        assert option.help.endswith(".")


def test_where_the_database_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("USAGETAP_DB", "/from/environment.db")
    assert read().db == "/from/environment.db"
    assert read(usage_db="/named.db").db == "/named.db"
    monkeypatch.delenv("USAGETAP_DB")
    assert read(confdir=str(tmp_path)).db == str(tmp_path / "usage.db")


def test_a_password_is_not_logged() -> None:
    assert "hunter2" not in str(read(usage_db="postgresql://me:hunter2@db.test/usage"))
    assert "db.test/usage" in str(read(usage_db="postgresql://me:hunter2@db.test/usage"))


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({"usage_include": "yes"}, "usage_include is 'yes', but must be one of: force, merge, off"),
        ({"usage_strip_frame": ""}, "usage_strip_frame is '', but must be one of: never, injected, always"),
        ({"usage_idle_timeout": "nan"}, "usage_idle_timeout is 'nan', but must be a number from 0 up"),
        ({"usage_idle_timeout": "-1"}, "usage_idle_timeout is '-1', but must be a number from 0 up"),
        ({"usage_retention": "1 week"}, "usage_retention is '1 week', but must be a number from 0 up"),
        ({"usage_frame_limit": "1"}, "usage_frame_limit is '1', but must be a size from 1024 to 1g"),
        ({"usage_frame_limit": "2g"}, "usage_frame_limit is '2g', but must be a size"),
        ({"usage_keep_body": "-1"}, "usage_keep_body is '-1', but must be a size"),
        ({"usage_tag_header": ""}, "usage_tag_header is '', which is no header name"),
        ({"usage_tag_header": "a: b"}, "usage_tag_header is 'a: b', which is no header name"),
        ({"usage_hosts": ["http://a"]}, "usage_hosts has the entry 'http://a'"),
        ({"usage_no_inject": ["a:b"]}, "usage_no_inject has the entry 'a:b'"),
        ({"usage_db": "mysql://me:secret@db/x"}, "usage_db begins mysql://, but must be a path, sqlite:///… or postg"),
        ({"usage_db": "sqlite:x.db"}, "usage_db: 'sqlite:x.db' names no database file"),
        ({"usage_prices": "/nowhere"}, "usage_prices names '/nowhere', but there is no such file"),
    ],
)
def test_mistakes(named: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionsError, match=re.escape(says)):
        read(**named)


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("64k", 65536), ("1M", 1 << 20), (" 16mb ", 16 << 20), ("1g", 1 << 30)]
)
def test_sizes(text: str, size: int) -> None:
    assert read(usage_keep_body=text).keep_body == size


@pytest.mark.parametrize(
    ("entry", "place", "covers"),
    [
        ("api.test", ("api.test", 443, "/v1"), True),
        ("API.test", ("api.TEST", 443, "/v1"), True),
        ("api.test", ("x.api.test", 443, "/v1"), False),
        ("*.test", ("api.test", 443, "/v1"), True),
        ("api.test:8000", ("api.test", 443, "/v1"), False),
        ("api.test:443", ("api.test", 443, "/v1"), True),
        ("api.test/v1/openai", ("api.test", 443, "/v1/openai/chat"), True),
        ("api.test/v2", ("api.test", 443, "/v1"), False),
        ("[::1]:8000", ("::1", 8000, "/"), True),
        ("other.test, api.test", ("api.test", 443, "/"), True),
    ],
)
def test_hosts(entry: str, place: tuple[str, int, str], covers: bool) -> None:
    assert read(usage_hosts=[entry]).hosts.covers(*place) is covers


def test_an_exclusion_wins() -> None:
    hosts = read(usage_hosts=["*.test", "!private.test"]).hosts
    assert hosts.covers("a.test", 443, "/")
    assert not hosts.covers("private.test", 443, "/")
    assert hosts.excludes("private.test", 443, "/")
    assert not hosts.excludes("a.test", 443, "/")
