"""How close the offline estimates come to the providers' own counts, on the corpus: a distribution per model family.

PYTHONPATH=addon python bench/estimates.py ../shared/corpus/http.jsonl.gz
"""

from __future__ import annotations

import gzip
import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterator
from statistics import median
from typing import Any

from usagetap.estimate import Estimator, strands
from usagetap.estimate.vocabulary import family_of

DIALECTS = {
    "openai.chat": "openai_chat",
    "openai.completions": "openai_completions",
    "openai.responses": "openai_responses",
    "anthropic.messages": "anthropic",
    "gemini.streamGenerateContent": "gemini",
}


def exchanges(path: str) -> Iterator[dict[str, Any]]:
    """Every exchange of the corpus that carries usage."""
    with gzip.open(path) as lines:
        for line in lines:
            exchange = json.loads(line)
            if exchange["expect"] and exchange["expect"]["has_usage"] and exchange["api"] in DIALECTS:
                yield exchange


def payloads(body: str) -> Iterator[Any]:
    """The JSON payloads of an SSE body."""
    for line in body.splitlines():
        if line.startswith("data:"):
            try:
                yield json.loads(line[5:])
            except ValueError:
                continue


def output(estimator: Estimator, exchange: dict[str, Any], rng: random.Random) -> tuple[int, bool]:
    """The tally of a whole stream, its texts cut at random once more, and whether its reasoning was to be seen."""
    thought = False
    dialect = DIALECTS[exchange["api"]]
    tally = estimator.tally(exchange["expect"]["model"], dialect, exchange["request"])
    if tally is None:
        raise SystemExit("bpe-openai is not installed: pip install 'usagetap[estimate]'")
    for payload in payloads(exchange.get("body") or ""):
        for strand, text in strands(dialect, payload):
            cut = rng.randint(0, len(text))
            tally.feed(text[:cut], strand)
            tally.feed(text[cut:], strand)
            thought |= strand[0] in ("thinking", "reasoning")
    return tally.total, thought


def show(title: str, pairs: dict[str, list[tuple[int, int]]]) -> None:
    """One line a family: how many, the error of the sum, and how the single ones lie."""
    print(
        f"\n{title}\n{'family':<24}{'n':>6}{'tokens':>10}{'sum off':>9}{'median':>9}"
        f"{'in 3 %':>8}{'or ±3':>8}{'in 10 %':>8}"
    )
    for family, found in sorted(pairs.items(), key=lambda item: -len(item[1])):
        told = sum(t for t, _ in found)
        off = sum(e for _, e in found) / told - 1
        errors = [e / t - 1 for t, e in found]
        within = sum(abs(error) <= 0.03 for error in errors) / len(found)
        near = sum(abs(e - t) <= max(3, 0.03 * t) for t, e in found) / len(found)
        wide = sum(abs(error) <= 0.1 for error in errors) / len(found)
        print(
            f"{family:<24}{len(found):>6}{told:>10,}{off:>+9.1%}{median(errors):>+9.1%}{within:>8.0%}{near:>8.0%}{wide:>8.0%}"
        )


def main(path: str) -> None:
    """Print the distributions."""
    estimator, rng = Estimator(), random.Random(7)
    outputs: dict[str, list[tuple[int, int]]] = defaultdict(list)
    inputs: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for exchange in exchanges(path):
        expect = exchange["expect"]
        name = f"{family_of(expect['model']).name}"
        if exchange["stream"] and expect["output_tokens"]:
            counted, thought = output(estimator, exchange, rng)
            told = expect["output_tokens"] - (0 if thought else expect["reasoning_tokens"] or 0)
            if counted and told > 0:
                outputs[f"{name} {exchange['api'].partition('.')[2]}"].append((told, counted))
        if expect["input_tokens"] and not exchange["request_truncated"]:
            guess = estimator.count_request(expect["model"], exchange["request"])
            if guess:
                inputs[name].append((expect["input_tokens"], guess))
    show("Output: tally of the visible stream against the provider's count (without hidden reasoning)", outputs)
    show("Input: counted from the request against the provider's count", inputs)


if __name__ == "__main__":
    main(sys.argv[1])
