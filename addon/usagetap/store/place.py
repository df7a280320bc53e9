"""Where a database is, and where the files that belong to it lie: lock files, journals, the fingerprint secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from urllib.parse import unquote, urlsplit

_POSTGRES = ("postgresql:", "postgres:", "postgresql+psycopg:")
_INSTANCE = r"[A-Za-z0-9_]+"


def is_postgres(url: str) -> bool:
    """Whether `url` names a PostgreSQL database; everything else is a SQLite path or `sqlite:///` URL."""
    return url.startswith(_POSTGRES)


def sqlite_path(url: str) -> Path:
    """The file that a path or a `sqlite:///relative`, `sqlite:////absolute` URL names."""
    if url.startswith("sqlite:"):
        rest = url.removeprefix("sqlite:")
        if not rest.startswith("///") or len(rest) < 4:
            raise ValueError(f"{url!r} names no database file: write sqlite:///relative.db or sqlite:////absolute.db")
        url = unquote(rest[3:])
    elif scheme := re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", url):
        raise ValueError(f"{scheme[0]} is no database that is known here: write a path, sqlite:///… or postgresql://…")
    return Path(url).expanduser().absolute()


def without_password(url: str) -> str:
    """`url` as it may be shown: its password, also one in the query, is `***`; a path stays as it is."""
    return re.sub(r"([?&]password=)[^&]*", r"\1***", re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url))


@dataclass(frozen=True, slots=True)
class Place:
    """The folder and the common beginning of the names of the files that belong to one database."""

    folder: Path
    stem: str

    def lock(self, instance: str) -> Path:
        """The lock file that shows that `instance` is alive."""
        return self.folder / f"{self.stem}.lock-{instance}"

    def journal(self, instance: str) -> Path:
        """The journal that `instance` appends to while the database cannot be written."""
        return self.folder / f"{self.stem}.journal-{instance}.jsonl"

    def journals(self) -> Iterator[tuple[str, Path]]:
        """Every journal of any instance, sealed ones first, each with the id of its instance."""
        pattern = re.compile(re.escape(self.stem) + rf"\.journal-({_INSTANCE})(\.\d+)?\.jsonl")
        for path in sorted(self.folder.glob(f"{self.stem}.journal-*.jsonl")):
            if match := pattern.fullmatch(path.name):
                yield match[1], path

    def locks(self) -> Iterator[tuple[str, Path]]:
        """Every lock file, with the id of its instance."""
        for path in sorted(self.folder.glob(f"{self.stem}.lock-*")):
            if re.fullmatch(_INSTANCE, name := path.name.removeprefix(f"{self.stem}.lock-")):
                yield name, path


def place_of(url: str, folder: Path | None = None) -> Place:
    """Beside a SQLite file; for PostgreSQL in the user's state folder, under a name that gives no secret away."""
    if not is_postgres(url):
        path = sqlite_path(url)
        return Place(folder or path.parent, path.name)
    from platformdirs import user_state_path  # here: the addon with a SQLite file does without

    parts = urlsplit(url)
    where = f"{parts.hostname}:{parts.port}{parts.path}"
    return Place(folder or user_state_path("usagetap"), f"pg-{blake2b(where.encode(), digest_size=6).hexdigest()}")
