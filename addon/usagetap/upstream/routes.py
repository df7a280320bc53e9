"""Which answer a request gets: by path, as on the real hosts, whatever stands before it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from usagetap.upstream.behaviour import Behaviour, parse_behaviour, split_model
from usagetap.upstream.chunks import GenerationError
from usagetap.upstream.exchange import Answer, Exchange, json_answer
from usagetap.upstream.generate import generate
from usagetap.upstream.openai_chat import (
    chat_completion,
    error_body,
    format_chat,
    format_completion,
    text_completion,
)
from usagetap.upstream.refusals import needs_stream, refusal

SSE = [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache")]


def answer(exchange: Exchange, default: Behaviour) -> Answer:
    """The answer to one request; a request that makes no sense gets a 4xx that says why."""
    try:
        body = exchange.json if exchange.body else None
        model, how = model_and_behaviour(exchange, body, default)
    except ValueError as error:
        return json_answer(error_body(GenerationError(str(error), type="invalid_request_error")), default, 400)
    for pattern, route in _ROUTES:
        if found := pattern.search(exchange.path):
            if how.status is not None:
                return _status(how, how.status)
            if how.refuse and isinstance(body, dict) and "stream_options" in body:
                status, words = refusal(how.refuse, body["stream_options"])
                return json_answer(words, how, status)
            return route(Asked(body if isinstance(body, dict) else {}, model, how, found.groupdict()))
    return json_answer(error_body(GenerationError(f"Unknown request URL: {exchange.path}", type="not_found")), how, 404)


def model_and_behaviour(exchange: Exchange, body: Any, default: Behaviour) -> tuple[str, Behaviour]:
    """The model without its words, and the words of model and header over the default. Bad words raise ValueError."""
    named = body.get("model") if isinstance(body, dict) else None
    in_path = re.search(r"/(?:models|deployments)/([^/:]+)", exchange.path)
    model = named if isinstance(named, str) else in_path[1] if in_path else exchange.query.get("model", "fake-model")
    model, words = split_model(model)
    how = parse_behaviour(words, default)
    return model, parse_behaviour(exchange.header("x-upstream") or "", how)


class Asked:
    """A request as a route sees it."""

    def __init__(self, body: dict[str, Any], model: str, how: Behaviour, path: dict[str, str | Any]) -> None:
        self.body = body
        self.model = model
        self.how = how
        self.path = path

    @property
    def streams(self) -> bool:
        """Whether the body asks for a stream."""
        return self.body.get("stream") is True


def _status(how: Behaviour, status: int) -> Answer:
    kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return json_answer(error_body(GenerationError(f"The fake upstream was told {status}.", type=kind)), how, status)


def _chat(asked: Asked) -> Answer:
    return _openai(asked, format_chat, chat_completion)


def _completion(asked: Asked) -> Answer:
    return _openai(asked, format_completion, text_completion)


def _openai(asked: Asked, format_stream: Callable[..., Any], whole: Callable[..., Any]) -> Answer:
    how = asked.how
    options = asked.body.get("stream_options")
    if options is not None and not asked.streams:
        status, words = needs_stream()
        return json_answer(words, how, status)
    count = asked.body.get("n")
    chunks = generate(how, count if isinstance(count, int) and count > 0 else 1)
    if not asked.streams:
        return whole_answer(how, lambda: whole(chunks, model=asked.model))
    include_usage = isinstance(options, dict) and options.get("include_usage") is True
    stream = format_stream(chunks, model=asked.model, include_usage=include_usage, send_done=not how.no_done)
    return Answer(200, SSE, stream, streamed=True, behaviour=how)


def whole_answer(how: Behaviour, make: Callable[[], Any]) -> Answer:
    """A JSON answer; what the generator raises becomes a 500 with its words."""
    try:
        return json_answer(make(), how)
    except GenerationError as error:
        return json_answer(error_body(error), how, 500)


def _models(asked: Asked) -> Answer:
    models = [{"id": "fake-model", "object": "model", "created": 0, "owned_by": "usagetap"}]
    return json_answer({"object": "list", "data": models}, asked.how)


_ROUTES: tuple[tuple[re.Pattern[str], Callable[[Asked], Answer]], ...] = (
    (re.compile(r"/chat/completions$"), _chat),
    (re.compile(r"/completions$"), _completion),
    (re.compile(r"/models$"), _models),
)
