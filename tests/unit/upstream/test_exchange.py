from __future__ import annotations

import gzip
import hashlib

import pytest

from usagetap.upstream.behaviour import Behaviour
from usagetap.upstream.exchange import KEEP, Exchange, json_answer


def test_path_query_and_headers():
    exchange = Exchange("GET", "/v1/models/g%40x%3D1?alt=sse&alt=json", [("X-A", "1"), ("x-a", "2")])
    assert (exchange.path, exchange.query) == ("/v1/models/g@x=1", {"alt": "json"})
    assert (exchange.header("x-a"), exchange.header("x-b")) == ("1, 2", None)


def test_json_whatever_the_coding():
    assert Exchange("POST", "/", [("content-encoding", "gzip")], gzip.compress(b'{"a":1}')).json == {"a": 1}


@pytest.mark.parametrize(("coding", "body"), [("gzip", b"no"), ("br", b"no"), ("rot13", b"{}"), ("identity", b"\xff")])
def test_what_is_no_json_says_so(coding, body):
    with pytest.raises(ValueError, match="request body is not JSON"):
        _ = Exchange("POST", "/", [("content-encoding", coding)], body).json


def test_what_was_sent_is_kept_up_to_a_bound_and_counted_beyond():
    exchange = Exchange("GET", "/", [])
    pieces = [b"a" * (KEEP - 1), b"bc", b"d"]
    for piece in pieces:
        exchange.note(piece)
    assert exchange.sent == b"".join(pieces)[:KEEP]
    assert exchange.sent_length == KEEP + 2
    assert exchange.sent_digest == hashlib.sha256(b"".join(pieces)).hexdigest()


def test_the_first_outcome_stays():
    exchange = Exchange("GET", "/", [])
    assert not exchange.done.is_set()
    exchange.end("cut")
    exchange.end("complete")
    assert (exchange.outcome, exchange.done.is_set()) == ("cut", True)


def test_json_answer():
    answer = json_answer({"a": "ü"}, Behaviour(), 404)
    assert (answer.status, list(answer.body), answer.streamed) == (404, ['{"a":"ü"}'.encode()], False)
