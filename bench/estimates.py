"""How close the offline estimates come to the providers' own counts, on a corpus of recorded exchanges.

    PYTHONPATH=addon python -m bench.estimates ../shared/corpus/http.jsonl.gz            the figures
    PYTHONPATH=addon python -m bench.estimates ../shared/corpus/http.jsonl.gz --table    the table of the README
    PYTHONPATH=addon python -m bench.estimates ../shared/corpus/http.jsonl.gz --fit      what the constants come from

The exchanges are split by their ids: constants are what one half says (`--fit` shows it), figures are of the other.
Streams are measured whole, and cut at five random frames each. What a cut stream had cost, the provider never says; it
can be known where

- each frame is one token of the model's own vocabulary (OpenAI's usual way) and there is one text or one call: then
  what is left of the final count when the frames are taken off it was written before them, and the count at a cut is
  that and the frames so far (of several texts or calls nobody tells which marks belong to which);
- the provider sends a running count with each frame (Gemini, NIM, …).

Elsewhere there is no truth for a cut stream, and the table says so. Hidden reasoning passes nobody's eyes: the
provider's `reasoning_tokens` are taken off its count. What hosted tools did inside a response is in no frame either:
such responses are left out and counted.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from statistics import median
from typing import Any, NamedTuple

from usagetap.estimate import Estimator, strands
from usagetap.estimate.vocabulary import family_of, tokenizer

DIALECTS = {
    "openai.chat": "openai_chat",
    "openai.completions": "openai_completions",
    "openai.responses": "openai_responses",
    "anthropic.messages": "anthropic",
    "gemini.streamGenerateContent": "gemini",
}
APIS = {"anthropic.messages": "messages", "gemini.streamGenerateContent": "gemini", "openai.responses": "responses"}
TWICE = ("gpt-4o", "gpt-5", "gpt-5.x", "o-series", "claude")
CUTS = 5
#: output items of the Responses API whose tokens pass by, or are in `reasoning_tokens`
OPEN = {"message", "reasoning", "function_call", "custom_tool_call", "mcp_approval_request", "local_shell_call"}


class Pair(NamedTuple):
    """What the provider counted and what we did."""

    told: float
    counted: int


class Stream(NamedTuple):
    """One recorded stream of one family, with what its provider counted of what is to be seen."""

    id: str
    family: str
    model: str
    dialect: str
    request: Any
    payloads: list[Any]
    told: int


def exchanges(path: str) -> Iterator[dict[str, Any]]:
    """Every exchange of the corpus that carries usage and was not made by hand."""
    with gzip.open(path) as lines:
        for line in lines:
            exchange = json.loads(line)
            expect = exchange["expect"]
            if expect and expect["has_usage"] and exchange["api"] in DIALECTS and exchange["fidelity"] != "fixture":
                yield exchange


def in_half(exchange_id: str, half: int) -> bool:
    """Whether an exchange belongs to the half that constants are read off (0) or the one that is measured (1)."""
    return int(exchange_id, 16) % 2 == half


def payloads(body: str) -> Iterator[Any]:
    """The JSON payloads of an SSE body."""
    for line in body.splitlines():
        if line.startswith("data:"):
            try:
                yield json.loads(line[5:])
            except ValueError:
                continue


def named(exchange: dict[str, Any]) -> str:
    """What a family is called here: with its API where it has two that count differently, and OpenAI's models apart
    where others serve them (OpenRouter and Azure count one mark more, Vercel what the Responses API counts).
    """
    family = family_of(exchange["expect"]["model"])
    name = f"{family.name}, {APIS.get(exchange['api'], 'chat')}" if family.name in TWICE else family.name
    return f"{name}, by others" if family.exact and exchange["provider"] != "openai" else name


def stream_of(exchange: dict[str, Any]) -> Stream | str | None:
    """An exchange as a stream to measure; why not, where it is one that cannot be; `None` where it is none."""
    expect = exchange["expect"]
    if not exchange["stream"] or not expect["output_tokens"]:
        return None
    name = named(exchange)
    found = list(payloads(exchange.get("body") or ""))
    items = {item.get("type") for each in found if isinstance(each, dict) for item in _output(each)}
    if items - OPEN or "program" in items:
        return name
    dialect = DIALECTS[exchange["api"]]
    seen = {strand[0] for each in found for strand, _ in strands(dialect, each)}
    thoughts = 0 if seen & {"thinking", "reasoning"} else expect["reasoning_tokens"] or 0
    told = expect["output_tokens"] - thoughts
    if not seen or told <= 0:
        return None
    return Stream(exchange["id"], name, expect["model"], dialect, exchange["request"], found, told)


def _output(payload: dict[str, Any]) -> Iterable[dict[str, Any]]:
    response = payload.get("response")
    output = response.get("output") if isinstance(response, dict) else None
    return [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []


def whole(estimator: Estimator, stream: Stream) -> Pair:
    """A stream that ended."""
    return Pair(stream.told, _tally(estimator, stream, len(stream.payloads)))


def cuts(estimator: Estimator, stream: Stream) -> tuple[str, list[Pair]]:
    """A stream cut at random frames, and what truth it is held against."""
    running = _running(stream)
    truth = running or _frames(stream)
    if not truth:
        return "", []
    places = [place for place in truth if place < max(truth)] or list(truth)
    chosen = random.Random(stream.id).sample(places, min(CUTS, len(places)))
    pairs = [Pair(truth[place], _tally(estimator, stream, place + 1)) for place in chosen]
    return "running count" if running else "a frame a token", pairs


def _tally(estimator: Estimator, stream: Stream, stop: int) -> int:
    tally = estimator.tally(stream.model, stream.dialect, stream.request)
    if tally is None:
        raise SystemExit("bpe-openai is not installed: pip install 'usagetap[estimate]'")
    for payload in stream.payloads[:stop]:
        tally.observe(payload)
    return tally.total


def _running(stream: Stream) -> dict[int, int]:
    """The provider's own count at each frame that adds text, where it sends one with them."""
    found, counts = {}, set()
    for place, payload in enumerate(stream.payloads):
        usage = (payload.get("usageMetadata") or payload.get("usage")) if isinstance(payload, dict) else None
        count = usage.get("candidatesTokenCount", usage.get("completion_tokens")) if isinstance(usage, dict) else None
        if count and any(text for _, text in strands(stream.dialect, payload)):
            found[place] = count
            counts.add(count)
    return found if len(counts) > 1 else {}


def _frames(stream: Stream) -> dict[int, int]:
    """Tokens so far at each frame that adds text, where each of them is one token of the same text or call."""
    family = family_of(stream.model)
    if not family.exact:
        return {}
    count = tokenizer(family.encoding).count
    sizes, starts = {}, set()
    for place, payload in enumerate(stream.payloads):
        parts = list(strands(stream.dialect, payload))
        starts |= {strand for strand, _ in parts if strand[:2] != ("tool", "arguments")}
        if any(strand[0] in ("text", "refusal") and count(text) > 1 for strand, text in parts):
            return {}
        if parts:
            sizes[place] = sum(count(text) for _, text in parts)
    if len(starts) > 1:
        return {}
    ended = any(isinstance(each, dict) and each.get("type") == "response.completed" for each in stream.payloads)
    before = stream.told - sum(sizes.values()) - ended
    found = {}
    for place, size in sizes.items():
        before += size
        found[place] = before
    return {place: so_far for place, so_far in found.items() if so_far > 0}


class Line(NamedTuple):
    """How the pairs of one family lie."""

    pairs: int
    near: float
    wide: float
    middle: float
    total: float

    @classmethod
    def of(cls, pairs: list[Pair]) -> Line:
        """The shares within 3 % and 10 %, the median error and the error of the sum."""
        errors = [pair.counted / pair.told - 1 for pair in pairs]
        return cls(
            len(pairs),
            sum(abs(error) <= 0.03 for error in errors) / len(errors),
            sum(abs(error) <= 0.1 for error in errors) / len(errors),
            median(errors),
            sum(pair.counted for pair in pairs) / sum(pair.told for pair in pairs) - 1,
        )


class Measured(NamedTuple):
    """Everything measured on one half."""

    whole: dict[str, list[Pair]]
    cut: dict[str, list[Pair]]
    truths: dict[str, Counter[str]]
    input: dict[str, list[Pair]]
    left_out: Counter[str]


def measure(path: str, half: int) -> Measured:
    """Measure one half of the corpus."""
    estimator = Estimator()
    found = Measured(defaultdict(list), defaultdict(list), defaultdict(Counter), defaultdict(list), Counter())
    for exchange in exchanges(path):
        if not in_half(exchange["id"], half):
            continue
        expect = exchange["expect"]
        stream = stream_of(exchange)
        if isinstance(stream, str):
            found.left_out[stream] += 1
        elif stream is not None:
            found.whole[stream.family].append(whole(estimator, stream))
            truth, pairs = cuts(estimator, stream)
            found.cut[stream.family] += pairs
            found.truths[stream.family].update([truth] if pairs else [])
        if expect["input_tokens"] and not exchange["request_truncated"]:
            guess = estimator.count_request(expect["model"], exchange["request"])
            if guess:
                found.input[named(exchange)].append(Pair(expect["input_tokens"], guess))
    return found


def show(title: str, pairs: dict[str, list[Pair]]) -> None:
    """One line a family."""
    print(f"\n{title}\n{'family':<24}{'n':>6}{'in 3 %':>9}{'in 10 %':>9}{'median':>9}{'sum off':>9}")
    for name, found in sorted(pairs.items(), key=lambda item: -len(item[1])):
        if found:
            line = Line.of(found)
            print(f"{name:<24}{line.pairs:>6}{line.near:>9.0%}{line.wide:>9.0%}{line.middle:>+9.1%}{line.total:>+9.1%}")


def table(measured: Measured) -> Iterator[str]:
    """The same for the README, as Markdown: the families with five streams and more."""
    yield "| family, API | whole | in 3 % | in 10 % | cuts | in 3 % | in 10 % | truth of a cut | requests | in 3 % |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for name, pairs in sorted(measured.whole.items(), key=lambda item: -len(item[1])):
        if len(pairs) < 5:
            continue
        ended = Line.of(pairs)
        row = [name, str(ended.pairs), f"{ended.near:.0%}", f"{ended.wide:.0%}", "", "", "", "nobody tells"]
        if measured.cut[name]:
            cut = Line.of(measured.cut[name])
            row[4:] = [str(cut.pairs), f"{cut.near:.0%}", f"{cut.wide:.0%}", measured.truths[name].most_common(1)[0][0]]
        asked = Line.of(measured.input[name]) if measured.input[name] else None
        row += [str(asked.pairs), f"{asked.near:.0%}"] if asked else ["", ""]
        yield f"| {' | '.join(row)} |"


def fit(path: str) -> None:
    """What OpenAI's counts hold beyond the tokens of the text, by kind of answer, on the half that is not measured."""
    marks: dict[tuple[str, ...], Counter[int]] = defaultdict(Counter)
    for exchange in exchanges(path):
        stream = stream_of(exchange) if in_half(exchange["id"], 0) else None
        if not isinstance(stream, Stream) or not family_of(stream.model).exact:
            continue
        texts: dict[Any, str] = defaultdict(str)
        for payload in stream.payloads:
            for strand, text in strands(stream.dialect, payload):
                texts[strand] += text
        count = tokenizer(family_of(stream.model).encoding).count
        request = stream.request if isinstance(stream.request, dict) else {}
        calls = sum(strand[:2] == ("tool", "name") for strand in texts)
        items = {item.get("type") for each in stream.payloads if isinstance(each, dict) for item in _output(each)}
        kind: tuple[str, ...] = (
            stream.family,
            f"{calls} calls" if calls else "refusal" if any(strand[0] == "refusal" for strand in texts) else "text",
            "tools" if request.get("tools") else "",
            "schema" if "json_schema" in json.dumps(request.get("response_format") or request.get("text")) else "",
            "thought" if "reasoning" in items else "",
        )
        marks[kind][stream.told - sum(map(count, texts.values()))] += 1
    for kind, found in sorted(marks.items()):
        print(f"{' '.join(filter(None, kind)):<40}", ", ".join(f"{left:+} ({n}×)" for left, n in found.most_common(5)))


def main() -> None:
    """Print the figures, the table or what the constants come from."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", help="http.jsonl.gz")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--fit", action="store_true")
    asked = parser.parse_args()
    if asked.fit:
        fit(asked.corpus)
        return
    measured = measure(asked.corpus, 1)
    if asked.table:
        print("\n".join(table(measured)))
        return
    show("Output of whole streams, against the provider's count without hidden reasoning", measured.whole)
    show(f"Output of streams cut at {CUTS} random frames each", measured.cut)
    show("Input, counted from the request", measured.input)
    print("\nLeft out for hosted tools:", ", ".join(f"{name} {n}" for name, n in measured.left_out.most_common()))


if __name__ == "__main__":
    main()
