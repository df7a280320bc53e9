from __future__ import annotations

from datetime import UTC

import pytest

from usagetap.web.zone import machine_zone


@pytest.mark.parametrize(("name", "zone"), [("Europe/Berlin", "Europe/Berlin"), (":Asia/Tokyo", "Asia/Tokyo")])
def test_the_environment_names_it(monkeypatch: pytest.MonkeyPatch, name: str, zone: str) -> None:
    monkeypatch.setenv("TZ", name)
    assert str(machine_zone()) == zone


def test_what_cannot_be_known_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Nowhere/At_All")
    assert machine_zone() is UTC
