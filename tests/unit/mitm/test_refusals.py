"""Who refuses our field: by place and scope, for a time."""

from __future__ import annotations

import time

import pytest

from usagetap.mitm.refusals import EXPIRES, LIMIT, Refusals, place, scope
from usagetap.model import Request


def request(host: str = "h", port: int = 443, path: str = "/v1/chat/completions", **query: str) -> Request:
    return Request("POST", host, port, path, query={name.replace("_", "-"): value for name, value in query.items()})


def test_a_refusal_is_remembered_for_its_place_alone() -> None:
    refusals = Refusals()
    host, what, expires = refusals.add(request("a"))
    assert (host, what) == ("a:443", "")
    assert expires == pytest.approx(time.time() + EXPIRES, abs=60)
    assert refusals.has(request("a", path="/other/chat/completions"))
    assert not refusals.has(request("b"))
    assert not refusals.has(request("a", 8443)), "two local servers are two hosts"


def test_azure_refuses_by_api_version() -> None:
    refusals = Refusals()
    refusals.add(request("a", api_version="2024-06-01"))
    assert refusals.has(request("a", api_version="2024-06-01"))
    assert not refusals.has(request("a", api_version="2025-01-01"))
    assert not refusals.has(request("a"))


def test_databricks_refuses_by_model() -> None:
    served = request(path="/serving-endpoints/claude/invocations")
    assert (place(served), scope(served)) == ("h:443", "claude")


def test_a_refusal_expires() -> None:
    now = time.time()
    refusals = Refusals([("a:443", "", now - 1), ("b:443", "", now + 60), ("c:443", "", None)])
    assert [refusals.has(request(host)) for host in "abc"] == [False, True, True]


def test_what_the_database_says_replaces_what_was_known() -> None:
    refusals = Refusals([("a:443", "", None)])
    refusals.replace([("b:443", "", None)])
    assert [refusals.has(request(host)) for host in "ab"] == [False, True]


def test_strangers_do_not_fill_our_memory() -> None:
    """Of more than we remember, the oldest is forgotten; a host that refuses again is the latest again."""
    refusals = Refusals((f"{number}", "", None) for number in range(LIMIT + 1))
    assert not refusals.has(request(str(LIMIT), 0)), "the table says the latest first"
    refusals = Refusals()
    for number in range(LIMIT):
        refusals.add(request(f"h{number}"))
    refusals.add(request("h0"))
    refusals.add(request("one-more"))
    assert [refusals.has(request(host)) for host in ("h0", "h1", "h2", "one-more")] == [True, False, True, True]
