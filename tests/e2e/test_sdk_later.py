"""What the SDKs learned later: answers as objects, responses in the background, resumed streams, compacted messages.

One call may be several requests here, and one usage told several times.
"""

from __future__ import annotations

from typing import Any

import pydantic
import pytest
from tests.e2e.sdk import H1, H2, REVERSE, House, Way, headers_for
from tests.e2e.test_sdk import client

WAYS = pytest.mark.parametrize("way", [H1, H2, REVERSE], ids=lambda way: way.name)
ASKED: dict[str, Any] = {"model": "gpt-5-mini", "input": "?"}
SAID: Any = [{"role": "user", "content": "?"}]


class Well(pydantic.BaseModel):
    name: str


@WAYS
def test_an_answer_as_an_object_has_its_row(home: House, way: Way) -> None:
    seen, headers = headers_for("")
    with client("openai", home, way, "tap") as one:
        answer = one.responses.parse(
            **ASKED, text_format=Well, extra_headers=headers | {"x-capture": "openai_responses/structured"}
        )
    assert answer.output_parsed == Well(name="Mimir")
    row = home.proxies["tap"].row(seen.tag)
    told = (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.output_tokens_details.reasoning_tokens)
    assert (row["input_tokens"], row["output_tokens"], row["reasoning_output_tokens"]) == told == (61, 83, 64)


@WAYS
def test_a_stream_of_an_object_has_its_row(home: House, way: Way) -> None:
    seen, headers = headers_for("reasoning=2;chunks=6")
    with (
        client("openai", home, way, "tap") as one,
        one.responses.stream(**ASKED, extra_headers=headers) as stream,
    ):
        usage = stream.get_final_response().usage
    row = home.proxies["tap"].row(seen.tag)
    assert (row["input_tokens"], row["output_tokens"]) == (usage.input_tokens, usage.output_tokens)
    assert row["reasoning_output_tokens"] == usage.output_tokens_details.reasoning_tokens == 2


@WAYS
def test_a_response_in_the_background_counts_once_however_often_it_is_asked_for(home: House, way: Way) -> None:
    seen, headers = headers_for("chunks=5")
    with client("openai", home, way, "tap") as one:
        queued = one.responses.create(**ASKED, background=True, extra_headers=headers)
        (begun,) = home.proxies["tap"].ended(1, "tag = ?", seen.tag)
        done = [one.responses.retrieve(queued.id, extra_headers=headers) for _ in range(2)]
        resumed = list(one.responses.retrieve(queued.id, stream=True, starting_after=3, extra_headers=headers))
    assert (queued.status, queued.usage, done[0].status) == ("queued", None, "completed")
    assert resumed[0].sequence_number == 4
    assert resumed[-1].response.usage == done[0].usage == done[1].usage
    first, counted, *again = home.proxies["tap"].ended(4, "tag = ?", seen.tag)
    assert (begun["status"], begun["usage_quality"], first["duplicate_of"]) == ("ok", None, None)
    assert [row["response_id"] for row in (first, counted, *again)] == [queued.id] * 4
    assert (counted["duplicate_of"], counted["usage_quality"]) == (None, "exact")
    assert [row["duplicate_of"] for row in again] == [counted["id"]] * 2
    told = (done[0].usage.input_tokens, done[0].usage.output_tokens)
    assert [(row["input_tokens"], row["output_tokens"]) for row in (counted, *again)] == [told] * 3
    assert [row["stream"] for row in (counted, *again)] == [0, 0, 1]


@WAYS
def test_a_stream_that_broke_off_and_was_resumed_counts_once(home: House, way: Way) -> None:
    seen, headers = headers_for("chunks=8")
    with client("openai", home, way, "tap") as one:
        stream = one.responses.create(**ASKED, stream=True, background=True, extra_headers=headers)
        opening = next(iter(stream))
        stream.close()
        if way is H2:
            one.close()
    home.proxies["tap"].ended(1, "tag = ?", seen.tag)
    with client("openai", home, way, "tap") as one:
        after = opening.sequence_number
        name = opening.response.id
        rest = list(one.responses.retrieve(name, stream=True, starting_after=after, extra_headers=headers))
    assert rest[0].sequence_number == after + 1
    *_, row = home.proxies["tap"].ended(2, "tag = ?", seen.tag)
    usage = rest[-1].response.usage
    assert (row["response_id"], row["status"], row["usage_quality"]) == (name, "ok", "exact")
    assert (row["input_tokens"], row["output_tokens"]) == (usage.input_tokens, usage.output_tokens)


@WAYS
@pytest.mark.parametrize("helper", [False, True], ids=["create", "stream"])
def test_a_message_that_was_compacted_keeps_its_iterations(home: House, way: Way, helper: bool) -> None:
    seen, headers = headers_for("")
    asked: dict[str, Any] = {"model": "claude-fake-1", "messages": SAID, "max_tokens": 99}
    asked |= {"betas": ["compact-2026-01-12"], "extra_headers": headers | {"x-capture": "anthropic/iterations"}}
    with client("anthropic", home, way, "tap") as one:
        if helper:
            with one.beta.messages.stream(**asked) as stream:
                usage = stream.get_final_message().usage
        else:
            usage = list(one.beta.messages.create(**asked, stream=True))[-2].usage
    assert [each.type for each in usage.iterations] == ["compaction", "message", "advisor_message"]
    row = home.proxies["tap"].row(seen.tag)
    assert (row["input_tokens"], row["output_tokens"]) == (usage.input_tokens, usage.output_tokens) == (310, 31)
    assert row["usage_raw"].count('"type":') == len(usage.iterations)
    if way.reverse:  # nobody knows whose prices 127.0.0.1 has
        assert row["cost"] is None
    else:
        top_alone = (310 * 3 + 31 * 15) / 1e6
        assert float(row["cost"]) > top_alone + (900 * 5 + 200 * 25) / 1e6  # the advisor's model has a price of its own
