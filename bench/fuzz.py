"""Random and half-random bytes against the bare core: `make fuzz`, or

    python -m bench.fuzz [--cases 1000000] [--seed N] [--seconds S] [--atheris]

Bare: the reader without its tap's catch-all, the decoders, the framings, the edit of a request, the stripper, the
dialects and the turns of a socket. Each case is a recorded body, torn, repeated, spliced with another one or with the
words of the wire, in random pieces; or, with `--atheris`, what libFuzzer makes of them as it follows the branches that
they reach. Nothing may raise but what is documented, and what passes must pass. Prints the cases, the exceptions (must
be 0) and, per part, the slowest case by nanoseconds of CPU per byte (of a thousand more than there are), the better of
two runs; exit code 1 if there was an exception.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "addon"), str(ROOT)]

import orjson  # noqa: E402
from tests.golden.cases import cases  # noqa: E402

from usagetap.dialects import DIALECTS, UNKNOWN  # noqa: E402
from usagetap.encoding import DecodeError, Decoder, encode  # noqa: E402
from usagetap.eventstream import EventStream  # noqa: E402
from usagetap.framing import Document, JsonArray, Ndjson, Sse  # noqa: E402
from usagetap.model import Observation, Request  # noqa: E402
from usagetap.reader import Reader  # noqa: E402
from usagetap.rewrite import Stripper, Untouchable, include_usage, strip_model_prefix  # noqa: E402
from usagetap.turns import turns_for  # noqa: E402

CASES = cases()
BODIES = [case.body for case in CASES]
MESSAGES = [message for case in CASES if case.websocket for message in case.messages()]
REQUESTS = [orjson.dumps(case.request.body) for case in CASES if case.request.body is not None]
CODINGS = ("gzip", "deflate", "br", "zstd")
KINDS = (
    "",
    "application/json",
    "text/event-stream",
    "application/x-ndjson",
    "application/vnd.amazon.eventstream",
    "text/plain",
)
SOCKETS = ("/v1/responses", "/v1/realtime", "/ws/x.BidiGenerateContent")
EVERY = (*DIALECTS, UNKNOWN)
WORDS = (
    *(
        b"\r",
        b"\n",
        b"\r\n",
        b"\n\n",
        b"data: ",
        b"event: ping\n",
        b": hi",
        b"[DONE]",
        b"\xef\xbb\xbf",
        b'"',
        b"\\",
        b"\0",
    ),
    *(
        b'"usage":{',
        b'"error":{',
        b'"choices":[',
        b'"finish_reason":"stop"',
        b'"type":"message_stop"',
        b'"id":7',
        b"NaN",
    ),
    *(b'"stream_options":{"include_usage":', b'"model":"openai/', b"1e999", b"[[[[[", b"{", b"}", b"]", b"null", b"-1"),
)

type Part = Callable[[bytes, random.Random], object]


def pieces(body: bytes, rnd: random.Random) -> list[bytes]:
    """`body` in random pieces: whole, in a few, or in many small ones."""
    step = rnd.choice((len(body) or 1, 1 + len(body) // 3, 60, 7, 1))
    if step < 8:
        body = body[:3_000]
    found, at = [], 0
    while at < len(body):
        until = at + (step if rnd.random() < 0.7 else rnd.randint(1, step))
        found.append(body[at:until])
        at = until
    return found


def read(body: bytes, rnd: random.Random) -> None:
    """A reader; what its tap must raise, it raises here."""

    def failed(error: Exception) -> None:
        raise error

    coding = rnd.choice((None, None, None, *CODINGS))
    if coding and rnd.random() < 0.8:
        body = encode(body, coding)
    reader = Reader(
        rnd.choice(EVERY),
        content_type=rnd.choice(KINDS),
        content_encoding=coding,
        http_status=rnd.choice((200, 200, 429)),
        stream=rnd.random() < 0.7,
        frame_limit=rnd.choice((1 << 24, 1 << 24, 300)),
        watch=rnd.choice((None, len)),  # type: ignore[arg-type]
    )
    feed = rnd.choice((reader.feed, reader.tap(failed)))
    chunks = pieces(body, rnd)
    for chunk in chunks:
        feed(chunk)
    for _ in range(2):
        reader.finish(complete=rnd.random() < 0.5)
    assert reader.chunks == len(chunks), "a chunk was not counted"
    assert reader.body_bytes == sum(map(len, chunks)), "a byte was not counted"


def frames(body: bytes, rnd: random.Random) -> None:
    """Every framing: what one gives in pieces, another gives at once."""
    kind, limit = rnd.choice((Sse, Ndjson, JsonArray, Document, EventStream)), rnd.choice((1 << 24, 300))
    chunks = pieces(body, rnd)
    cut, whole = kind(limit), kind(limit)
    found = [*(frame for chunk in chunks for frame in cut.feed(chunk)), *cut.finish()]
    assert found == [*whole.feed(b"".join(chunks)), *whole.finish()], f"{kind.__name__}: other frames at another split"
    for frame in found:
        cut.payload(frame)


def decode(body: bytes, rnd: random.Random) -> None:
    """Every stack of codings: plain again, or `DecodeError`."""
    names = [rnd.choice(CODINGS) for _ in range(rnd.randint(0, 3))]
    torn = rnd.random() < 0.5
    encoded = body if torn else encode(body, ", ".join(names))
    decoder = Decoder(names)
    plain = b""
    with contextlib.suppress(DecodeError) if torn else contextlib.nullcontext():
        plain = b"".join(piece for at in range(0, len(encoded), 501) for piece in decoder.feed(encoded[at : at + 501]))
    assert torn or plain == body, f"{names}: not what was encoded"


def observe(body: bytes, rnd: random.Random) -> None:
    """Every dialect, on any JSON."""
    dialect, seen = rnd.choice(EVERY), Observation()
    for line in body.splitlines()[:50]:
        dialect.weigh(line)
        with contextlib.suppress(orjson.JSONDecodeError):
            dialect.observe(seen, orjson.loads(line.removeprefix(b"data:")))


def strip(body: bytes, rnd: random.Random) -> None:
    """The stripper: the same at every split, and all of it where nothing is stripped."""
    chunks = pieces(body, rnd)
    body = b"".join(chunks)
    cut, whole = Stripper(), Stripper()
    passed = b"".join([*map(cut.feed, chunks), cut.release()])
    assert len(body) > 60_000 or passed == whole.feed(body) + whole.release(), "another split passes other bytes"
    assert cut.stripped or passed == body, "a byte was withheld"


def edit(body: bytes, rnd: random.Random) -> None:
    """The edit of a request: valid JSON stays it, and says the same but for the field."""
    body = tear(rnd.choice(REQUESTS), rnd) if rnd.random() < 0.8 else body
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return
    if not isinstance(told, dict):
        return
    with contextlib.suppress(Untouchable):
        edited = orjson.loads(include_usage(body, override=True, continuous=rnd.random() < 0.2))
        assert edited.pop("stream_options")["include_usage"] is True, "usage was not asked for"
        told.pop("stream_options", None)
        assert edited == told, "something else was changed"
    with contextlib.suppress(Untouchable):
        orjson.loads(strip_model_prefix(body, ["openai/", "a"]))


def socket(body: bytes, rnd: random.Random) -> None:
    """The turns of a socket."""
    turns = turns_for(Request("GET", "localhost", 443, rnd.choice(SOCKETS)), frame_limit=rnd.choice((1 << 24, 200)))
    assert turns is not None
    for _ in range(rnd.randint(1, 12)):
        sent, message = rnd.choice(MESSAGES)
        message = tear(message, rnd) if rnd.random() < 0.5 else rnd.choice((message, body[:2000]))
        (turns.sent if sent else turns.received)(message)
    turns.finish()
    assert turns.open == () == tuple(turns.finish()), "a turn stayed open"


PARTS: dict[str, Part] = {part.__name__: part for part in (read, frames, decode, observe, strip, edit, socket)}


def tear(body: bytes, rnd: random.Random) -> bytes:
    """`body` with a few things done to it."""
    torn = bytearray(body)
    for _ in range(rnd.choice((0, 1, 1, 2, 4))):
        at = rnd.randint(0, len(torn))
        match rnd.randrange(7):
            case 0:
                torn[at:at] = rnd.choice(WORDS)
            case 1:
                del torn[at : at + rnd.choice((1, 2, 20, 500))]
            case 2:
                torn[at:at] = torn[at : at + 300] * rnd.choice((1, 2, 10))
            case 3:
                torn[at : at + 1] = rnd.randbytes(rnd.choice((1, 1, 4)))
            case 4:
                other = rnd.choice(BODIES)
                begin = rnd.randint(0, len(other))
                torn[at:at] = other[begin : begin + 400]
            case 5:
                del torn[at:]
            case _:
                torn = torn.replace(b"\n", rnd.choice((b"\r\n", b"\r", b"\n\n")))
    return bytes(torn[:20_000])


class Tally:
    """What happened."""

    def __init__(self) -> None:
        self.cases: Counter[str] = Counter()
        self.exceptions: list[str] = []
        self.slowest: dict[str, tuple[float, int]] = {}

    def run(self, name: str, body: bytes, seed: int) -> None:
        """One case of part `name`; one slower than all before it is run again, as others use the machine too."""
        self.cases[name] += 1
        slowest, _ = self.slowest.get(name, (0.0, 0))
        taken = self._time(name, body, seed)
        if taken > slowest and (taken := min(taken, self._time(name, body, seed))) > slowest:
            self.slowest[name] = taken, len(body)

    def _time(self, name: str, body: bytes, seed: int) -> float:
        began = time.thread_time_ns()
        try:
            PARTS[name](body, random.Random(seed))
        except Exception:  # noqa: BLE001 - what this program is for
            self.exceptions.append(f"{name}, seed {seed}: {body[:300]!r}\n{traceback.format_exc(limit=-4)}")
        return (time.thread_time_ns() - began) / (len(body) + 1000)

    def tell(self) -> int:
        """Print it; the exit code."""
        for told in self.exceptions[:5]:
            print(told, file=sys.stderr)
        print(f"cases       {sum(self.cases.values()):>12,}")
        print(f"exceptions  {len(self.exceptions):>12,}")
        for name, (taken, size) in sorted(self.slowest.items()):
            print(f"{name:<10}  {self.cases[name]:>12,} cases, the slowest {taken:9,.0f} ns a byte, of {size:,} bytes")
        return 1 if self.exceptions else 0


def hammer(tally: Tally, count: int, seed: int, seconds: float) -> None:
    """`count` cases, or as many as `seconds` allow; `seed` gives the same ones again."""
    rnd = random.Random(seed)
    names, until = list(PARTS), time.monotonic() + seconds
    for number in range(count):
        body = tear(rnd.choice(BODIES), rnd) if rnd.random() < 0.95 else rnd.randbytes(rnd.choice((3, 60, 2_000)))
        tally.run(names[number % len(names)], body, rnd.getrandbits(32))
        if number % 1000 == 0 and time.monotonic() > until:
            return


def follow(tally: Tally, count: int, seed: int) -> None:
    """`count` cases made by libFuzzer, which follows the branches of the core. It ends the program."""
    try:
        import atheris
    except ImportError as error:
        raise SystemExit(
            f"--atheris needs the package atheris ({error}): `.venv/bin/python -m pip install --group fuzz`."
            " It has wheels for Linux; without it, `make fuzz` does the same number of cases, unguided."
        ) from error

    names = list(PARTS)

    def one(given: bytes) -> None:
        if given:
            tally.run(names[given[0] % len(names)], given[1:], given[0])
        if sum(tally.cases.values()) >= count:
            code = tally.tell()
            sys.stdout.flush()
            os._exit(code)  # libFuzzer takes an orderly exit for a crash

    atheris.instrument_all()
    corpus = ROOT / "out" / "fuzz"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, body in enumerate(BODIES):
        (corpus / f"capture-{number}").write_bytes(bytes([number % len(names)]) + body[:4_000])
    atheris.Setup(
        [sys.argv[0], f"-seed={seed}", "-max_len=8000", "-verbosity=0", f"-artifact_prefix={corpus}/", str(corpus)], one
    )
    atheris.Fuzz()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=None, help="of a run that is to be had again")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many, whatever was done")
    parser.add_argument("--atheris", action="store_true", help="coverage-guided (dependency group `fuzz`)")
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 31) if asked.seed is None else asked.seed
    print(f"seed        {seed:>12}")
    tally = Tally()
    if asked.atheris:
        follow(tally, asked.cases, seed)
    else:
        hammer(tally, asked.cases, seed, asked.seconds)
    return tally.tell()


if __name__ == "__main__":
    sys.exit(main())
