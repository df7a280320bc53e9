from __future__ import annotations

import stat
import threading
from pathlib import Path

from usagetap.store.secret import fingerprint, load_secret


def test_it_is_made_once_and_for_the_owner_only(tmp_path: Path) -> None:
    secret = load_secret(tmp_path / "new")
    assert load_secret(tmp_path / "new") == secret
    assert len(secret) == 32
    (file,) = (tmp_path / "new").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_all_who_start_at_once_get_the_same(tmp_path: Path) -> None:
    found: list[bytes] = []
    barrier = threading.Barrier(8)

    def load() -> None:
        barrier.wait(10)
        found.append(load_secret(tmp_path))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_torn_file_is_replaced(tmp_path: Path) -> None:
    load_secret(tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"short")
    assert load_secret(tmp_path) == load_secret(tmp_path) != b"short"


def test_a_fingerprint_depends_on_content_and_secret_and_shows_neither() -> None:
    one, two = b"1" * 32, b"2" * 32
    assert fingerprint(one, b"sk-x") == fingerprint(one, b"sk-x")
    assert len({fingerprint(one, b"sk-x"), fingerprint(one, b"sk-y"), fingerprint(two, b"sk-x")}) == 3
    assert len(fingerprint(one, b"sk-x")) == 16
