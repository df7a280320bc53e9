from __future__ import annotations

import sys

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
