"""One fake upstream of each kind for all tests here, and what a test needs to find its own row."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.proxy import Mitmdump, running_mitmdump

from usagetap.upstream.server import Upstream, running_upstream


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    with running_upstream() as running:
        yield running


@pytest.fixture(scope="session")
def h2_upstream() -> Iterator[Upstream]:
    with running_upstream(tls=True) as running:
        yield running


@pytest.fixture(scope="session")
def h1_tls_upstream() -> Iterator[Upstream]:
    with running_upstream(tls=True, http2=False) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mitmdump]:
    """The addon with its defaults, in front of the plain upstream."""
    with running_mitmdump(tmp_path_factory.mktemp("proxy"), f"reverse:{upstream.url}") as running:
        yield running


_numbers = itertools.count(1)


@pytest.fixture
def tag(request: pytest.FixtureRequest) -> str:
    """A tag that no other call has: it finds the row of this test's call."""
    return f"{request.node.name[:80]}-{next(_numbers)}"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Mitmdump]]:
    """Start a proxy of this test's own; every one is stopped at the end."""
    started: list[Mitmdump] = []

    def go(*modes: str, **options: object) -> Mitmdump:
        proxy = Mitmdump(tmp_path / f"proxy{len(started)}", *modes, **options)  # type: ignore[arg-type]
        started.append(proxy)
        return proxy.wait_until_listening()

    yield go
    for proxy in started:
        proxy.close()
