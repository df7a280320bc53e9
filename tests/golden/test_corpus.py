"""Recorded answers read by our core and by the corpus's oracle, however they are cut.

Each body is read whole, event by event, and cut at random; small ones byte by byte. Where we and the oracle disagree,
it is by a rule of `tests/oracle.py`.
"""

from __future__ import annotations

import itertools
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from tests import corpus, oracle

from usagetap.dialects import detect
from usagetap.dialects.base import Dialect
from usagetap.reader import Reader

pytestmark = [corpus.needs_corpus, pytest.mark.timeout(300)]

NO_ANSWER = {"openai.responses.input_tokens", "anthropic.count_tokens", "gemini.countTokens", "other"}
"""A count of what was not sent; files, models, moderations: nothing that tokens are billed for."""
BYTE_BY_BYTE = 1500


def read(exchange: oracle.Exchange, dialect: Dialect, pieces: Iterable[bytes]) -> Reader:
    """Through a reader's tap, which must return every piece as it came."""
    reader = Reader(
        dialect,
        content_type=exchange["content_type"] or "",
        http_status=exchange["status"],
        headers=exchange["usage_headers"],
        stream=dialect.streams(oracle.request_of(exchange)),
    )

    def fail(error: Exception) -> None:
        raise error

    tap = reader.tap(fail)
    for piece in pieces:
        assert tap(piece) is piece
    reader.finish(complete=True)
    return reader


def cuts(body: bytes) -> Iterator[list[bytes]]:
    yield [body]
    yield re.findall(rb".+?(?:\r?\n\r?\n|\Z)", body, re.DOTALL)
    draw = random.Random(len(body))
    edges = [0]
    while edges[-1] < len(body):
        edges.append(edges[-1] + draw.choice((1, 2, 5, 50, 300, 1400, 9000)))
    yield [body[start:end] for start, end in itertools.pairwise(edges)]
    if len(body) <= BYTE_BY_BYTE:
        yield [body[at : at + 1] for at in range(len(body))]


def answered() -> Iterator[tuple[oracle.Exchange, Dialect]]:
    for exchange in corpus.exchanges():
        dialect = detect(oracle.request_of(exchange))
        if dialect is not None:
            yield exchange, dialect


def test_every_answer_is_recognised_and_nothing_else_is() -> None:
    answers = {exchange["id"] for exchange, _ in answered()}
    wrong = [each["id"] for each in corpus.exchanges() if (each["id"] in answers) == (each["api"] in NO_ANSWER)]
    assert wrong == []


def test_we_read_what_the_oracle_reads_however_it_is_cut() -> None:
    wrong: dict[tuple[str, str], Any] = {}
    cut_matters: list[str] = []
    unfinished: list[str] = []
    met: dict[str, int] = defaultdict(int)
    for exchange, dialect in answered():
        readers = [read(exchange, dialect, pieces) for pieces in cuts(oracle.body_of(exchange))]
        seen = readers[0].seen
        if any((each.seen, each.frames) != (seen, readers[0].frames) for each in readers):
            cut_matters.append(exchange["id"])
        for field, pair in oracle.differences(seen, exchange).items():
            name = oracle.why(exchange, field)
            if name is None:
                wrong[exchange["id"], field] = pair
            else:
                met[name] += 1
        over = seen.terminal or seen.finished or seen.background or readers[0].opaque
        if exchange["status"] == 200 and not over:
            unfinished.append(exchange["id"])
    assert wrong == {}
    assert cut_matters == []
    assert set(unfinished) == oracle.BROKEN_OFF
    assert met.keys() == oracle.DISAGREEMENTS.keys(), "a rule that nothing needs any more"
