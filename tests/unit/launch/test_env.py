import json
import os
import shutil
import subprocess

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from usagetap.launch.bundle import make_ca
from usagetap.launch.env import BUNDLE_NAME, env, guess_shell, line, lines

TEXT = st.text(alphabet=st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40)


@given(TEXT)
def test_sh_reads_back_what_was_exported(value):
    script = "\n".join(lines({"VALUE": value}, "sh")) + '\nprintf %s "$VALUE"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=True)
    assert done.stdout == value.encode()


def test_each_shell_has_its_syntax():
    assert line("A", "it's", "fish") == r"set -gx A 'it\'s'"
    assert line("A", "it's", "powershell") == "$env:A = 'it''s'"
    assert [line("A", None, shell) for shell in ("sh", "fish", "powershell")] == [
        "unset A",
        "set -e A",
        "Remove-Item Env:A -ErrorAction SilentlyContinue",
    ]


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish_reads_back_what_was_exported():
    value = "a 'quoted' \\ $HOME (path)"
    script = line("VALUE", value, "fish") + "\nprintf %s $VALUE"
    assert subprocess.run(["fish", "-c", script], capture_output=True, text=True, check=True).stdout == value


@pytest.mark.parametrize(
    ("shell", "syntax"),
    [("/bin/bash", "sh"), ("/usr/bin/fish", "fish"), ("/opt/pwsh", "powershell"), ("/bin/zsh", "sh")],
)
def test_the_users_shell_is_guessed(shell, syntax):
    assert guess_shell({"SHELL": shell}) == syntax


@pytest.fixture(scope="module")
def confdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("confdir")
    make_ca(folder)
    return folder


def test_what_is_exported_can_be_used(confdir):
    done = CliRunner().invoke(env, ["--confdir", str(confdir), "--port", "4711", "--shell", "sh"])
    assert done.exit_code == 0, done.output
    script = done.output + '\nprintf "%s\\n" "$HTTPS_PROXY" "$SSL_CERT_FILE"; test -s "$SSL_CERT_FILE"'
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["http://127.0.0.1:4711", str(confdir / BUNDLE_NAME)]


def test_unset_removes_every_variable_that_was_set(confdir):
    arguments = ["--confdir", str(confdir), "--json"]
    made = json.loads(CliRunner().invoke(env, arguments).output)
    removed = json.loads(CliRunner().invoke(env, [*arguments, "--unset"]).output)
    assert removed == dict.fromkeys(made)


def test_the_ca_is_made_on_first_use(tmp_path):
    folder = tmp_path / "new"
    assert CliRunner().invoke(env, ["--confdir", str(folder)]).exit_code == 0
    assert (folder / "mitmproxy-ca-cert.pem").is_file()
    assert os.stat(folder / BUNDLE_NAME).st_mode & 0o077 == 0
