"""A plain mitmproxy with an option that is no good ends, and says so in one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.proxy import USAGE, errors_in


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("usage_include=yes", "usage_include is 'yes', but must be one of: force, merge, off"),
        ("usage_db=mysql://db/x", "usage_db begins mysql://, but must be a path, sqlite:///… or postgresql://…"),
        ("usage_prices={folder}/prices.yaml", "prices.yaml:1: entry 1: unknown key `lke`; did you mean `like`?"),
    ],
)
def test_a_bad_option_ends_mitmdump_with_one_sentence(tmp_path: Path, setting: str, said: str) -> None:
    (tmp_path / "prices.yaml").write_text("- lke: openai\n")
    mitmdump = [sys.executable, "-c", "from mitmproxy.tools.main import mitmdump; mitmdump()"]
    options = ["-s", str(USAGE), "--set", f"confdir={tmp_path}", "--set", setting.format(folder=tmp_path), "-n"]
    done = subprocess.run([*mitmdump, *options], capture_output=True, text=True, timeout=60, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 1, output
    assert output.count(said) == 1, output
    assert errors_in(output) == []
