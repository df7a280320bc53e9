"""A database of a few rows, and a site over it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from usagetap.model import STATUS_OF_END, Record, Usage
from usagetap.store.database import connect
from usagetap.store.migrations import migrate
from usagetap.store.queries import open_reader
from usagetap.store.rows import to_row
from usagetap.store.upsert import write
from usagetap.web.board import Board
from usagetap.web.site import Answer, Site

ZONE = ZoneInfo("Europe/Berlin")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """An empty one."""
    path = tmp_path / "usage.db"
    db = connect(path)
    migrate(db)
    db.close()
    return path


@pytest.fixture
def put(database: Path) -> Callable[..., None]:
    """Write a response; what it is about is given by field."""
    count = 0

    def put(end_reason: str = "complete", *, ago: float = 60, **fields: Any) -> None:
        nonlocal count
        count += 1
        record = Record(uid=f"u{count}", flow_id=f"flow-{count}", started_at=time.time() - ago, instance="i")
        record.status, record.end_reason = STATUS_OF_END[end_reason], end_reason
        record.usage, record.usage_quality = Usage(input_tokens=1234, output_tokens=56), "exact"
        record.request_model, record.cost, record.currency = "gpt-5-mini", Decimal("0.0012"), "USD"
        record.time_to_first_chunk, record.duration, record.stream = 0.32, 1.5, True
        for name, value in fields.items():
            setattr(record, name, value)
        db = connect(database)
        write(db, [to_row(record)])
        db.close()

    return put


@pytest.fixture
def site(database: Path) -> Iterator[Site]:
    with site_over(database) as site:
        yield site


@contextmanager
def site_over(database: Path) -> Iterator[Site]:
    """A site that is closed at the end, its database too."""
    site = Site(Board(lambda: open_reader(database), ZONE))
    yield site
    site.close()
    site._worker.shutdown(wait=True)


def get(site: Site, path: str = "", query: str = "", etag: str | None = None) -> Answer:
    """An answer, however long it takes."""

    async def wait() -> Answer:
        while b" data-busy " in (answer := await site.answer(path, query, etag)).body:
            await asyncio.sleep(0.01)
        return answer

    return asyncio.run(wait())
