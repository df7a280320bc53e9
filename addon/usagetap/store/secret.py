"""The secret behind every fingerprint: 32 random bytes in a file (0600) beside the database."""

from __future__ import annotations

import os
import secrets
from hashlib import blake2b
from pathlib import Path

_NAME = "usage.secret"
_SIZE = 32


def load_secret(folder: Path) -> bytes:
    """The secret in `folder`, made at the first call. Raises `OSError` where it can neither be read nor made.

    Two processes that start at once get the same one: it appears whole, under its name, or not at all.
    """
    path = folder / _NAME
    for _ in range(3):
        try:
            found = path.read_bytes()
        except FileNotFoundError:
            found = b""
        if len(found) == _SIZE:
            return found
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{_NAME}.{secrets.token_hex(8)}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(secrets.token_bytes(_SIZE))
            if found:
                os.replace(draft, path)  # one of the wrong length is no secret
            else:
                os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink(missing_ok=True)
    raise OSError(f"cannot make {path}: remove it and start again")


def fingerprint(secret: bytes, content: bytes) -> str:
    """A keyed hash, 16 hexadecimal characters: equal content shows; the content does not, not even by guessing."""
    return blake2b(content, key=secret, digest_size=8).hexdigest()
