"""What the SDK tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.e2e.sdk import House, house
from tests.proxy import errors_in


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The fake upstreams and three proxies before them; no proxy may have stumbled over anything."""
    with house(tmp_path_factory.mktemp("sdk")) as built:
        yield built
        for proxy in built.proxies.values():
            assert errors_in(proxy.log) == []
