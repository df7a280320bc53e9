from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from usagetap.web.command import web


def test_no_database_is_a_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(web, ["--db", str(tmp_path / "none.db")])
    assert result.exit_code == 1
    assert "run the proxy first" in result.output


def test_an_unknown_time_zone_is_a_sentence(database: Path) -> None:
    result = CliRunner().invoke(web, ["--db", str(database), "--timezone", "Mars/Olympus"])
    assert result.exit_code == 2
    assert "no time zone 'Mars/Olympus'" in result.output


def test_a_port_that_is_taken_is_a_sentence(database: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(web, ["--db", str(database), "--port", str(port)])
    assert result.exit_code == 1
    assert f"port {port} cannot be used" in result.output
