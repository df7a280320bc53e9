"""What the tap costs on an ordinary delta frame, against `orjson.loads` of the same frames in the same run.

    python -m bench.tap [--rounds 7]

Frames are written here as the providers send them; with USAGETAP_CORPUS set, real recorded streams follow. `tap` is the
whole of `reader.tap(chunk)`; `no-op` is a callable that only returns its chunk, which mitmproxy would have to call too.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import orjson

from usagetap.dialects import detect
from usagetap.dialects.base import Dialect, Weight
from usagetap.model import Request
from usagetap.reader import Reader

FRAMES = 2000
_MEMBER = re.compile(rb'"(?:[^"\\]|\\.)*"(\s*:)?|-?\d[\d.eE+-]*')
CHUNK = 16384

CHAT = (
    'data: {{"id":"chatcmpl-BxYz0123456789abcdefghijkl","object":"chat.completion.chunk","created":1761000000,'
    '"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_560af6e559",'
    '"choices":[{{"index":0,"delta":{{"content":" word{n}"}},"logprobs":null,"finish_reason":null}}]{more}}}\n\n'
)
ANTHROPIC = (
    'event: content_block_delta\ndata: {{"type":"content_block_delta","index":0,'
    '"delta":{{"type":"text_delta","text":" a few words {n}"}}{more}}}\n\n'
)
RESPONSES = (
    'event: response.output_text.delta\ndata: {{"type":"response.output_text.delta","sequence_number":{n},'
    '"item_id":"msg_68a0123456789abcdef0123456789abcdef","output_index":0,"content_index":0,"delta":" word{n}",'
    '"logprobs":[]{more}}}\n\n'
)
GEMINI = (
    'data: {{"candidates": [{{"content": {{"parts": [{{"text": " a dozen words of which some are longer {n}"}}],'
    '"role": "model"}},"index": 0}}],"usageMetadata": {{"promptTokenCount": 8,"candidatesTokenCount": {n},'
    '"totalTokenCount": 2{n},"promptTokensDetails": [{{"modality": "TEXT","tokenCount": 8}}]}},'
    '"modelVersion": "gemini-2.5-flash","responseId": "aBcDeFgHiJkLmNoPqRsTuVw"}}{more}\r\n\r\n'
)
BUILT_IN: tuple[tuple[str, str, str, str], ...] = (
    ("openai_chat, no usage", "/v1/chat/completions", CHAT, ""),
    ('openai_chat, "usage":null', "/v1/chat/completions", CHAT, ',"usage":null'),
    ('openai_chat, "usage" :  null', "/v1/chat/completions", CHAT, ', "usage" :  null'),
    ("openai_chat, obfuscation", "/v1/chat/completions", CHAT, ',"usage":null,"obfuscation":"x{n}"'),
    ("anthropic", "/v1/messages", ANTHROPIC, "     "),
    ("openai_responses", "/v1/responses", RESPONSES, ',"obfuscation":"x{n}"'),
    ("gemini, usage on each frame", "/v1beta/models/m:streamGenerateContent", GEMINI, ""),
)


def nanoseconds(work: Callable[[], object], rounds: int) -> float:
    """The median time of `work`, per frame."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        work()
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / FRAMES


def measure(name: str, dialect: Dialect, first: Sequence[bytes], frames: Sequence[bytes], rounds: int) -> None:
    """Print one line of the table."""
    texts = [found[1] for frame in frames if (found := re.search(rb"data: ?(.*?)\r?\n", frame))]
    joined = b"".join(frames)
    chunks = [joined[start : start + CHUNK] for start in range(0, len(joined), CHUNK)]

    def tapped(pieces: Sequence[bytes]) -> Callable[[], None]:
        reader = Reader(dialect, content_type="text/event-stream", stream=True)
        tap = reader.tap(_raise)
        for frame in (*first, *frames[:20]):
            tap(frame)

        def work() -> None:
            for piece in pieces:
                tap(piece)
            reader.peek()  # nothing may be left for later

        return work

    def run(pieces: Sequence[bytes], call: Callable[[bytes], object]) -> None:
        for piece in pieces:
            call(piece)

    parse = nanoseconds(lambda: run(texts, orjson.loads), rounds)
    nothing = nanoseconds(lambda: run(frames, lambda chunk: chunk), rounds)
    single = nanoseconds(tapped(frames), rounds)
    joint = nanoseconds(tapped(chunks), rounds)
    print(
        f"{name:34} {len(joined) // len(frames):6} {parse:8.0f} {nothing:7.0f} {single:7.0f} {single / parse:6.2f}"
        f" {max(single - nothing, 0) / parse:6.2f} {joint:9.0f} {joint / parse:6.2f}"
    )


def _raise(error: Exception) -> None:
    raise error


def built_in(rounds: int) -> None:
    """Frames as documented by the providers."""
    for name, path, pattern, more in BUILT_IN:
        key = "input" if "responses" in path else "contents" if "Generate" in path else "messages"
        dialect = detect(Request("POST", "api.example.com", 443, path, body={"model": "m", "stream": True, key: []}))
        assert dialect is not None
        frames = [pattern.format(n=n, more=more.format(n=n)).encode() for n in range(FRAMES)]
        measure(name, dialect, (), frames, rounds)


def recorded(corpus: Path, rounds: int) -> None:
    """The longest recorded stream of each provider and API: its most common kind of delta frame."""
    longest: dict[tuple[str, str], dict[str, object]] = {}
    for line in gzip.decompress((corpus / "http.jsonl.gz").read_bytes()).splitlines():
        record = json.loads(line)
        if record["stream"] and record["fidelity"] == "wire" and record["expect"]["frame_kind"] == "sse":
            key = record["api"], record["provider"]
            if key not in longest or len(str(record["body"])) > len(str(longest[key]["body"])):
                longest[key] = record
    for (api, provider), record in sorted(longest.items()):
        url = urlsplit(str(record["url"]))
        query = dict(parse_qsl(url.query))
        request = Request("POST", url.hostname or "", 443, url.path, query, {}, record["request"])
        dialect = detect(request)
        if dialect is None:
            continue
        frames = re.findall(rb".+?(?:\r?\n){2}", str(record["body"]).encode(), re.DOTALL)
        deltas = [each for each in frames if b"data:" in each and dialect.weigh(each) is not Weight.PARSE]
        kinds = Counter(map(_kind, deltas)).most_common(1)
        ordinary = [each for each in deltas if _kind(each) == kinds[0][0] and re.search(rb"data: ?\{.*\}\s*$", each)]
        if len(ordinary) >= 15:
            many = (ordinary * (FRAMES // len(ordinary) + 1))[:FRAMES]
            measure(f"{api}, {provider}", dialect, frames[:3], many, rounds)


def _kind(frame: bytes) -> bytes:
    """`frame` without what its texts and numbers say."""
    return _MEMBER.sub(lambda found: found[0] if found[1] or found[0] == b'""' else b"x", frame)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    print("nanoseconds per frame; ratios to orjson.loads of the same frames (asked: at most 0.35)")
    print(f"{'':34} {'bytes':>6} {'orjson':>8} {'no-op':>7} {'tap':>7} {'ratio':>6} {'net':>6} {'16 KiB':>9} ratio")
    built_in(rounds)
    if corpus := os.environ.get("USAGETAP_CORPUS"):
        print("recorded streams, their own delta frames over and over:")
        recorded(Path(corpus), rounds)


if __name__ == "__main__":
    main()
