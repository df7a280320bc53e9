"""What the soak sends, at random, and what must come of it: known from the plan alone, before anything is sent."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.golden.cases import Case, cases

CHUNKED_CUTS = ("fin", "rst", "bad_chunk")
STREAM_CUTS = ("stream", "cancel", "goaway", "fin", "rst")
CODINGS = ("gzip", "br", "zstd", "deflate", "deflate_raw", "gzip+br")
SAID = [{"role": "user", "content": "größer 🙂"}]


@dataclass(slots=True)
class Flow:
    """One request, how the upstream is to answer, when the client leaves, and what the row must say."""

    number: int
    line: str
    """Which way through the proxy: see `Soak.lines`."""
    path: str
    body: bytes
    kind: str = ""
    """For the summary."""
    words: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    leaves_at: int | None = None
    """Bytes of the body after which the client leaves; 0: as soon as the request has arrived."""
    leaves_after: bytes = b""
    """Bytes after which the client leaves."""
    leaves_how: str = "fin"
    rows: int = 1
    ends: frozenset[str] = frozenset({"complete"})
    tokens: tuple[int | None, int | None] | None = None
    """Input and output, of a response that is complete; `None`: not known here."""
    injected: bool = False
    second_try: bool = False

    @property
    def tag(self) -> str:
        return f"soak-{self.number}"

    @property
    def leaves(self) -> bool:
        return self.leaves_at is not None or bool(self.leaves_after)

    @property
    def told(self) -> str:
        """The plan in one line, for a report."""
        leaves = f", client leaves by {self.leaves_how}" if self.leaves else ""
        return f"{self.tag} {self.kind} over {self.line} [{';'.join(self.words)}]{leaves}, due {'|'.join(self.ends)}"


def body(**told: Any) -> bytes:
    return json.dumps(told, ensure_ascii=False).encode()


class Planner:
    """Makes flows, each by its number and the seed alone."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        posted = (case for case in cases() if case.meta.get("method", "POST") == "POST" and not case.websocket)
        self._captures = [case for case in posted if case.folder.parent.name != "unknown"]
        self._kinds: list[tuple[int, Callable[[Flow, random.Random], None]]] = [
            (30, _chat_stream),
            (8, _chat_whole),
            (6, _completion_stream),
            (12, _responses),
            (14, _messages),
            (10, _gemini),
            (3, _embeddings),
            (12, self._capture),
            (3, _socket),
            (2, _unmatched),
        ]

    def flow(self, number: int) -> Flow:
        """The flow of that number."""
        chance = random.Random(f"{self._seed}-{number}")
        line = chance.choice(("h1", "h1", "h1 tls", "h2", "h2", "h2 to h1"))
        flow = Flow(
            number, line, "", b"", leaves_how=chance.choice(("fin", "rst", "cancel" if line[1] == "2" else "half"))
        )
        weights, kinds = zip(*self._kinds, strict=True)
        chance.choices(kinds, weights)[0](flow, chance)
        return flow

    def _capture(self, flow: Flow, chance: random.Random) -> None:
        """A recorded answer of any dialect, under its own host name."""
        case = chance.choice(self._captures)
        url = urlsplit(case.meta["url"])
        flow.line, flow.kind = "by name", f"capture {case.name}"
        flow.path = f"http://{url.hostname}:{{port}}{url.path}" + (f"?{url.query}" if url.query else "")
        asked = case.folder / "request.json"
        flow.body = asked.read_bytes() if asked.exists() else b"{}"
        flow.headers["x-capture"] = case.name
        flow.words = [_slices(chance)] if chance.random() < 0.7 else []
        if "content-encoding" not in case.meta.get("headers", {}):
            flow.words += _coding(chance)
        flow.ends = _ends_of(case)
        flow.leaves_how = "fin"
        told = case.expected.get("usage", {})
        flow.tokens = told.get("input_tokens"), told.get("output_tokens")


def _ends_of(case: Case) -> frozenset[str]:
    told = case.expected
    if case.meta["status"] >= 400:
        return frozenset({"http_error"})
    if told.get("error_type"):
        return frozenset({"upstream_error"})
    if told.get("terminal"):
        return frozenset({"complete"}) if told.get("usage") else frozenset({"complete", "no_usage"})
    return frozenset({"complete", "no_usage", "upstream_disconnected"})  # the dialect decides; its own tests say how


# -- the kinds


def _chat_stream(flow: Flow, chance: random.Random) -> None:
    flow.kind, flow.path = "chat stream", "/v1/chat/completions"
    asks = chance.choice((None, None, None, True, False))
    options = {} if asks is None else {"stream_options": {"include_usage": asks}}
    flow.body = body(model="gpt-4o-mini", stream=True, messages=SAID, **options)
    flow.injected = asks is not True
    if chance.random() < 0.06:
        flow.words.append("no_usage")
        flow.ends = frozenset({"no_usage"})
        flow.words += _pace(chance)
    elif chance.random() < 0.06:
        flow.words += ["no_done", *_pace(chance), *_coding(chance)]
        _generated(flow, chance)
    elif chance.random() < 0.06:
        _refused(flow, chance, asks)
    elif chance.random() < 0.06:
        # the way of openai-python: nothing is read after [DONE], and the body's own end never comes
        _generated(flow, chance)
        flow.words += ["cut=silence", *_pace(chance)]
        flow.leaves_after = b"[DONE]"
    else:
        _stream(flow, chance)


def _refused(flow: Flow, chance: random.Random, asks: bool | None) -> None:
    flow.path += f"?api-version={flow.number}"  # each is a server of its own: refusals are remembered
    flow.words.append("refuse=" + chance.choice(("azure", "azure_old", "mistral", "databricks", "openai")))
    flow.injected, flow.second_try = False, asks is not True
    if asks is None:
        _generated(flow, chance)
        flow.tokens = None, None
    else:  # the client's own field is refused as well
        flow.ends = frozenset({"http_error"})


def _chat_whole(flow: Flow, chance: random.Random) -> None:
    flow.kind, flow.path = "chat whole", "/v1/chat/completions"
    flow.body = body(model="gpt-4o-mini", messages=SAID)
    _whole(flow, chance)


def _completion_stream(flow: Flow, chance: random.Random) -> None:
    flow.kind, flow.path, flow.injected = "completion stream", "/v1/completions", True
    flow.body = body(model="davinci", stream=True, prompt="?")
    _stream(flow, chance, speaks="chunks")


def _responses(flow: Flow, chance: random.Random) -> None:
    flow.path = "/v1/responses"
    if chance.random() < 0.3:
        flow.kind, flow.body = "responses whole", body(model="gpt-4o-mini", input="?")
        _whole(flow, chance)
    elif chance.random() < 0.1:
        flow.kind, flow.body = "responses stream", body(model="gpt-4o-mini", input="?", stream=True)
        flow.words += ["no_done", *_pace(chance)]
        flow.ends = frozenset({"upstream_disconnected"})
    else:
        flow.kind, flow.body = "responses stream", body(model="gpt-4o-mini", input="?", stream=True)
        _stream(flow, chance)


def _messages(flow: Flow, chance: random.Random) -> None:
    flow.path = "/v1/messages"
    asked = {"model": "claude-fake", "max_tokens": 9, "messages": SAID}
    if chance.random() < 0.3:
        flow.kind, flow.body = "messages whole", body(**asked)
        _whole(flow, chance)
    else:
        flow.kind, flow.body = "messages stream", body(**asked, stream=True)
        _stream(flow, chance)


def _gemini(flow: Flow, chance: random.Random) -> None:
    method, query = chance.choice(
        (("streamGenerateContent", "?alt=sse"), ("streamGenerateContent", ""), ("generateContent", ""))
    )
    flow.path = f"/v1beta/models/gemini-fake:{method}{query}"
    flow.body = body(contents=[{"parts": [{"text": "?"}]}])
    flow.kind = "gemini sse" if query else "gemini array" if method[0] == "s" else "gemini whole"
    (_whole if method[0] == "g" else _stream)(flow, chance)


def _embeddings(flow: Flow, chance: random.Random) -> None:
    flow.kind, flow.path, flow.body = "embeddings", "/v1/embeddings", body(model="embed-fake", input="?")
    flow.tokens = 11, None
    flow.words += _coding(chance)


def _socket(flow: Flow, chance: random.Random) -> None:
    flow.kind, flow.line, flow.path = "socket", "h1", "/v1/responses"
    flow.rows = chance.randint(1, 6)
    _generated(flow, chance)


def _unmatched(flow: Flow, chance: random.Random) -> None:
    flow.kind, flow.rows, flow.ends = "no model", 0, frozenset()
    flow.path = chance.choice(("/v1/messages/count_tokens", "/v1/files", "/chat", "/"))
    flow.body = chance.choice((b"", b"{", body(model="m", messages=SAID), b"\x00\xff" * 99))


# -- what happens to them


def _generated(flow: Flow, chance: random.Random, speaks: str = "all") -> None:
    """What the model says, and with that the counts that are due."""
    chunks = chance.randint(6, 30) if chance.random() < 0.95 else 400
    flow.words.append(f"chunks={chunks}")
    pieces = chunks
    if speaks == "all" and chance.random() < 0.3:
        tools, thoughts = chance.randint(0, 3), chance.randint(0, 5)
        flow.words += [f"tools={tools}", f"reasoning={thoughts}", f"cached={chance.randint(0, 9)}"]
        pieces += tools + thoughts
    flow.tokens = 11, pieces


def _stream(flow: Flow, chance: random.Random, speaks: str = "all") -> None:
    """A stream: whole and well, or cut, refused, broken, left."""
    _generated(flow, chance, speaks)
    http2 = flow.line == "h2"
    match chance.choices(
        ("well", "cut", "headless", "error", "status", "held", "race", "silent"), (50, 12, 3, 5, 5, 10, 8, 4)
    )[0]:
        case "well":
            flow.words += [*_pace(chance), *_coding(chance)]
            if not http2 and chance.random() < 0.1:
                flow.words.append("framing=close")
        case "cut":
            flow.words += [f"die={chance.randint(0, 3)}", *_coding(chance)]
            flow.words.append("cut=" + chance.choice(STREAM_CUTS if http2 else CHUNKED_CUTS))
            if not http2 and chance.random() < 0.3:
                flow.words += ["framing=" + chance.choice(("close", "length")), "cut=fin"]
            flow.ends = frozenset({"upstream_disconnected"})
        case "headless":
            flow.words += ["die=-1", "cut=" + chance.choice(STREAM_CUTS if http2 else ("fin", "rst", "half_head"))]
            flow.ends = frozenset({"upstream_disconnected"})
        case "error":
            flow.words += [f"error={chance.randint(1, 4)}", *_pace(chance), *_coding(chance)]
            flow.ends = frozenset({"upstream_error"})
        case "status":
            flow.words += [f"status={chance.choice((400, 401, 404, 429, 500, 503))}", *_coding(chance)]
            flow.ends = frozenset({"http_error"})
        case "held":
            flow.words += [f"hold={chance.randint(1, 4)}", *_coding(chance)]
            flow.leaves_at, flow.ends = 1, frozenset({"client_disconnected"})
        case "race":
            flow.words += ["delay=0.001", *_coding(chance)]
            flow.leaves_at, flow.ends = chance.randint(1, 4000), frozenset({"client_disconnected", "complete"})
        case _:
            flow.words.append("silent")
            flow.leaves_at, flow.ends = 0, frozenset({"client_disconnected"})


def _whole(flow: Flow, chance: random.Random) -> None:
    """An answer in one piece."""
    _generated(flow, chance)
    match chance.choices(("well", "error", "status", "cut", "silent"), (70, 6, 10, 8, 6))[0]:
        case "well":
            flow.words += [_slices(chance), *_coding(chance)]
        case "error":
            flow.words.append("error=2")
            flow.ends = frozenset({"http_error"})
        case "status":
            flow.words.append(f"status={chance.choice((400, 429, 500))}")
            flow.ends = frozenset({"http_error"})
        case "cut":
            flow.words += [
                "slice=20",
                f"die={chance.randint(0, 3)}",
                "cut=" + ("stream" if flow.line == "h2" else "fin"),
            ]
            flow.ends = frozenset({"upstream_disconnected"})
        case _:
            flow.words.append("silent")
            flow.leaves_at, flow.ends = 0, frozenset({"client_disconnected"})


def _slices(chance: random.Random) -> str:
    return chance.choice(("slice=0", f"slice=-1;seed={chance.randrange(1 << 30)}", f"slice={chance.randint(1, 60)}"))


def _pace(chance: random.Random) -> list[str]:
    """How the frames arrive."""
    words = ["crlf"] if chance.random() < 0.2 else []
    match chance.randrange(5):
        case 0:
            words.append(_slices(chance))
        case 1:
            words.append(f"join={chance.randint(2, 9)}")
        case 2:
            words.append(f"delay={chance.choice((0.001, 0.003))}")
        case 3:
            words += ["first=0.02", "untyped"]
    return words


def _coding(chance: random.Random) -> list[str]:
    if chance.random() < 0.6:
        return []
    return ["encoding=" + chance.choice(CODINGS), "stubborn"] + (["unfinished"] if chance.random() < 0.2 else [])
