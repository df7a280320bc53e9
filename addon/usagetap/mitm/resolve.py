"""What an aborted generation cost, asked of OpenRouter by its id, with the client's own key (`usage_resolve`).

A generation's figures are there some seconds after it ended: until then it answers 404. So it is asked again, ever more
slowly, for two minutes at most. The key is held in memory for so long, sent only to the host that the client itself had
sent it to, and never logged. A refusal or no answer leaves the row as it was.

Source: https://openrouter.ai/docs/api/api-reference/generations/get-generation
"""

from __future__ import annotations

import heapq
import http.client
import itertools
import json
import logging
import re
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import quote

from usagetap.dialects.cost import money
from usagetap.model import Record, Usage

log = logging.getLogger(__name__)

DELAYS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Seconds before each try."""
QUEUE_LIMIT = 1_000
"""Generations that wait at most; a further one stays unresolved."""
TIMEOUT = 10.0
"""Seconds for one try."""
ANSWER_LIMIT = 1 << 20
"""Bytes of an answer that are read: it has about one thousand."""
ENDS = frozenset(
    {"client_disconnected", "killed", "upstream_disconnected", "idle_timeout", "no_usage", "proxy_stopped"}
)
"""Ends that can leave a generation with a cost that we have not seen."""

_API = re.compile(r"(.*?)/(?:chat/completions|completions|responses|messages)/?")


@dataclass(order=True, slots=True)
class _Question:
    due: float
    number: int
    record: Record = field(compare=False)
    credential: str = field(compare=False, repr=False)
    host: str = field(compare=False)
    port: int = field(compare=False)
    scheme: str = field(compare=False)
    tries: int = field(default=0, compare=False)


class Resolver:
    """Asks on a thread of its own. `put` gets each record with its final cost, on that thread."""

    def __init__(
        self,
        put: Callable[[Record], None],
        log: Callable[[int, str], None] = log.log,
        *,
        provider: str = "openrouter",
        delays: tuple[float, ...] = DELAYS,
    ) -> None:
        self._put = put
        self._log = log
        self._provider = provider
        self._delays = delays
        self._numbers = itertools.count()
        self._questions: list[_Question] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="usage-resolve", daemon=True)

    def resolve(self, record: Record, credential: str | None, host: str, port: int, scheme: str) -> bool:
        """Ask for an ended record, if it is one to ask for; whether it is. Does not wait."""
        if not credential or not self._wants(record) or self._stopping:
            return False
        with self._changed:
            if len(self._questions) >= QUEUE_LIMIT:
                return False
            due = time.monotonic() + self._delays[0]
            asked = replace(record, usage=replace(record.usage))
            question = _Question(due, next(self._numbers), asked, credential, host, port, scheme)
            heapq.heappush(self._questions, question)
            if self._thread.ident is None:
                self._thread.start()
            self._changed.notify()
        return True

    def stop(self) -> None:
        """Ask no more, and forget the keys. Does not wait for an answer that is under way."""
        with self._changed:
            self._stopping = True
            self._questions.clear()
            self._changed.notify()

    def _wants(self, record: Record) -> bool:
        return (
            record.provider == self._provider
            and record.end_reason in ENDS
            and record.response_id is not None
            and record.cost_source != "provider"
            and _API.fullmatch(record.path or "") is not None
        )

    # -- on the thread

    def _run(self) -> None:
        while (question := self._next()) is not None:
            question.tries += 1
            try:
                self._ask(question)
            except Exception as error:  # noqa: BLE001 - the thread outlives any bug; the error's text could hold the key
                self._log(logging.ERROR, f"usage: resolving {question.record.flow_id} failed: {type(error).__name__}")

    def _next(self) -> _Question | None:
        with self._changed:
            while not self._stopping:
                wait = self._questions[0].due - time.monotonic() if self._questions else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._questions)
                self._changed.wait(wait)
        return None

    def _ask(self, question: _Question) -> None:
        status, answer = fetch(question)
        record = question.record
        if status == 200 and take(record, answer):
            if not self._stopping:
                self._put(record)
        elif status in (400, 401, 402, 403):
            self._log(logging.INFO, f"usage: {question.host} does not tell what {record.response_id} cost: {status}")
        elif question.tries < len(self._delays):
            with self._changed:
                if not self._stopping:
                    question.due = time.monotonic() + self._delays[question.tries]
                    heapq.heappush(self._questions, question)
        else:
            self._log(
                logging.INFO, f"usage: {question.host} has not told what {record.response_id} cost: left as it was"
            )


def fetch(question: _Question) -> tuple[int | Literal["unreachable"], Any]:
    """One try: the status and the JSON of the answer. Straight to the host: no proxy of the environment is asked."""
    connection: http.client.HTTPConnection
    if question.scheme == "https":
        connection = http.client.HTTPSConnection(question.host, question.port, timeout=TIMEOUT, context=_trust())
    else:
        connection = http.client.HTTPConnection(question.host, question.port, timeout=TIMEOUT)
    prefix = _API.fullmatch(question.record.path or "")
    path = f"{prefix[1] if prefix else ''}/generation?id={quote(question.record.response_id or '', safe='')}"
    headers = {"authorization": f"Bearer {question.credential}", "accept": "application/json", "user-agent": "usagetap"}
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        status, body = response.status, response.read(ANSWER_LIMIT)
    except (OSError, http.client.HTTPException):
        return "unreachable", None
    finally:
        connection.close()
    try:
        return status, json.loads(body, parse_float=Decimal)
    except (ValueError, RecursionError):
        return status, None


def _trust() -> ssl.SSLContext:
    """The system's certificates and mitmproxy's own (a Python without the system's has none)."""
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def take(record: Record, answer: Any) -> bool:
    """Put what a generation says into its record; whether it says what it cost.

    `native_tokens_…` are the numbers of the provider that ran it (`tokens_…` are OpenRouter's own count, in another
    vocabulary): they count where the stream had told none.
    """
    told = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(told, dict) or told.get("id", record.response_id) != record.response_id:
        return False
    cost = money(_number(told.get("total_cost")))
    if cost is not None and told.get("is_byok") is True:
        # with the user's own provider key `total_cost` is OpenRouter's fee, and the provider bills the rest
        upstream = money(_number(told.get("upstream_inference_cost")))
        cost = None if upstream is None else cost + upstream
    if cost is None:
        return False
    record.cost, record.currency, record.cost_source = cost, "USD", "resolved"
    record.price_version, record.price_note = "openrouter generation", None
    native = {name: told[name] for name in told if name.startswith("native_tokens_") and told[name] is not None}
    if record.usage.known or record.usage_raw is not None or not native:
        return True
    record.usage = Usage(
        input_tokens=_count(native.get("native_tokens_prompt")),
        output_tokens=_count(native.get("native_tokens_completion")),
        cache_read_input_tokens=_count(native.get("native_tokens_cached")),
        reasoning_output_tokens=_count(native.get("native_tokens_reasoning")),
    )
    if record.usage.known:
        record.usage_raw, record.usage_quality = {"generation": native}, "exact"
    return True


def _number(value: Any) -> Any:
    return str(value) if isinstance(value, Decimal) else value


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
