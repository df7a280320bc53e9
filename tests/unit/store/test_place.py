from __future__ import annotations

from pathlib import Path

import pytest

from usagetap.store.place import Place, is_postgres, place_of, sqlite_path


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/x/u.db", "/x/u.db"),
        ("u.db", str(Path.cwd() / "u.db")),
        ("~/u.db", str(Path.home() / "u.db")),
        ("sqlite:////x/u.db", "/x/u.db"),
        ("sqlite:///u%20v.db", str(Path.cwd() / "u v.db")),
    ],
)
def test_a_path_or_an_url_names_a_file(url: str, path: str) -> None:
    assert str(sqlite_path(url)) == path
    assert not is_postgres(url)


def test_an_url_without_a_file_says_how_to_write_one() -> None:
    with pytest.raises(ValueError, match=r"sqlite:////absolute\.db"):
        sqlite_path("sqlite:u.db")


def test_an_url_of_another_database_is_no_path() -> None:
    with pytest.raises(ValueError, match=r"^mysql:// is no database that is known here"):
        sqlite_path("mysql://me:secret@db/x")


def test_files_of_other_databases_and_other_kinds_are_not_ours(tmp_path: Path) -> None:
    place = Place(tmp_path, "usage.db")
    theirs = Place(tmp_path, "usage.db2")
    mine = [place.journal("a1"), tmp_path / "usage.db.journal-a1.000001.jsonl"]
    for path in (*mine, theirs.journal("a1"), tmp_path / "usage.db.journal-a1.jsonl.damaged", place.lock("b2")):
        path.touch()
    assert list(place.journals()) == [("a1", path) for path in sorted(mine)]
    assert list(place.locks()) == [("b2", place.lock("b2"))]


def test_a_password_is_in_no_file_name() -> None:
    first, second = (place_of(f"postgresql://me:{word}@h:1/db", Path("/x")) for word in ("one", "two"))
    assert first == second
    assert "one" not in first.stem
