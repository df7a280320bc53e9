from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import usagetap
from usagetap.report.progress import progress


class Terminal:
    encoding = "utf-8"

    def __init__(self):
        self.written = ""

    def write(self, text):
        self.written += text
        return len(text)

    def flush(self):
        pass

    def isatty(self):
        return True


def test_a_terminal_sees_a_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress("pricing", 10) as advance:
        advance(10)
    assert "pricing" in terminal.written


def test_nobody_else_sees_anything(monkeypatch, capsys):
    with progress("pricing", 10) as advance:
        advance(5)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("reprice", "--dry-run"), "pricing"),
        (("prune", "--older-than", "1d", "--yes"), "deleting"),
        (("export",), "exporting"),
        (("reconcile", "bill.csv"), "comparing"),
    ],
)
def test_long_commands_show_on_a_terminal_how_far_they_are(db, tmp_path, arguments, word):
    bill = "start_time_iso,num_model_requests,model,input_tokens\n2026-11-18T00:00:00+00:00,2,gpt-5-mini,20\n"
    (tmp_path / "bill.csv").write_text(bill)
    master, terminal = os.openpty()
    command = [sys.executable, "-m", "usagetap", *arguments, "--db", str(db)]
    environment = {**os.environ, "PYTHONPATH": str(Path(usagetap.__file__).parents[1]), "TERM": "xterm"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=terminal, timeout=60, check=False
    )
    os.close(terminal)
    shown = b""
    with suppress(OSError):  # Linux: nothing more to read
        while more := os.read(master, 65536):
            shown += more
    os.close(master)
    assert done.returncode == 0, shown
    assert word.encode() in shown
    assert word.encode() not in done.stdout
