"""The corpus of recorded exchanges, in the folder that `USAGETAP_CORPUS` names, and its oracle's words as ours."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

FOLDER = os.environ.get("USAGETAP_CORPUS", "")
needs_corpus = pytest.mark.skipif(not FOLDER, reason="USAGETAP_CORPUS does not name the folder of recorded exchanges")


def path(name: str = "http.jsonl.gz") -> Path:
    """One file of it."""
    return Path(FOLDER, name)


@cache
def exchanges() -> tuple[dict[str, Any], ...]:
    """Every recorded HTTP exchange."""
    return tuple(_lines(path()))


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(file, "rb") as lines:
        for line in lines:
            yield json.loads(line)


def url(exchange: dict[str, Any]) -> str:
    """Its URL over plain HTTP, without what the recorders blanked out (`<AWS_REGION>`)."""
    return re.sub(r"[<>\s]", "", exchange["url"]).replace("https://", "http://", 1)


def request_body(exchange: dict[str, Any]) -> bytes:
    """A body like the one that was sent. (The recording keeps it parsed, and long strings cut.)"""
    asked = exchange["request"]
    return b"" if asked is None else json.dumps(asked, ensure_ascii=False).encode()


#: the row's column against the oracle's field
COLUMNS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "total_tokens": "total_tokens",
    "cache_read_input_tokens": "cached_input_tokens",
    "cache_write_input_tokens": "cache_write_tokens",
    "reasoning_output_tokens": "reasoning_tokens",
    "response_model": "model",
    "response_id": "response_id",
    "finish_reasons": "finish_reason",
}


def differences(row: dict[str, Any], exchange: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Where a row and the oracle disagree: column -> (ours, the oracle's)."""
    found = {}
    for column, field in COLUMNS.items():
        ours, oracle = row[column], exchange["expect"][field]
        if column == "finish_reasons":
            words = [word for word in json.loads(ours or "[]") if word is not None]
            ours = words[0] if words else None
            if oracle in words:
                continue
        if ours != oracle:
            found[column] = (ours, oracle)
    return found
