"""Which answer a request gets: by path, as on the real hosts, whatever stands before it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from usagetap.upstream import anthropic_messages, gemini, openai_chat
from usagetap.upstream.behaviour import Behaviour, parse_behaviour, split_model
from usagetap.upstream.chunks import GenerationError
from usagetap.upstream.exchange import Answer, Exchange, Headers, json_answer
from usagetap.upstream.generate import generate, usage_of
from usagetap.upstream.openai_responses import Event, response_events, response_frames
from usagetap.upstream.refusals import needs_stream, refusal, responses_refuse
from usagetap.upstream.replay import Capture, replayed
from usagetap.upstream.sessions import RealtimeSession, RecordedSession, ResponsesSession
from usagetap.upstream.ws_server import Session

SSE: Headers = [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache")]

#: responses that are remembered for `GET /responses/{id}`; the oldest go first
REMEMBERED = 1000


class Asked:
    """A request as a route sees it."""

    def __init__(self, exchange: Exchange, body: Any, model: str, how: Behaviour) -> None:
        self.query = exchange.query
        self.body: dict[str, Any] = body if isinstance(body, dict) else {}
        self.model = model
        self.how = how
        self.named: dict[str, str | Any] = {}
        """The named groups of the route's pattern."""

    @property
    def streams(self) -> bool:
        """Whether the body asks for a stream."""
        return self.body.get("stream") is True

    @property
    def opening(self) -> Any:
        """What the provider knows of usage before it begins; None if usage never comes."""
        return None if self.how.no_usage else usage_of(self.how)


class Provider:
    """All dialects behind one port. `captures` are answered by id, whatever the path."""

    def __init__(self, default: Behaviour, captures: Mapping[str, Capture]) -> None:
        self._default = default
        self._captures = captures
        self._responses: dict[str, list[Event]] = {}
        self._routes: tuple[tuple[re.Pattern[str], Callable[[Asked], Answer]], ...] = (
            (re.compile(r"/chat/completions$"), _chat),
            (re.compile(r"/completions$"), _completion),
            (re.compile(r"/messages/count_tokens$"), _count("input_tokens")),
            (re.compile(r"/messages$"), _messages),
            (re.compile(r"/responses/(?P<id>[^/]+)$"), self._remembered),
            (re.compile(r"/responses$"), self._response),
            (re.compile(r":(?P<method>generateContent|streamGenerateContent)$"), _content),
            (re.compile(r":countTokens$"), _count("totalTokens")),
            (re.compile(r"/embeddings$"), _embeddings),
            (re.compile(r"/models$"), _models),
        )

    def answer(self, exchange: Exchange) -> Answer:
        """The answer to one request; one that makes no sense gets a 4xx that says why, in its dialect's shape."""
        try:
            asked = self._asked(exchange)
        except ValueError as error:
            return _error(exchange.path, GenerationError(str(error), type="invalid_request_error"), self._default, 400)
        if name := exchange.header("x-capture"):
            if capture := self._captures.get(name):
                return replayed(capture, asked.how)
            return _error(exchange.path, GenerationError(f"no capture {name}", type="not_found_error"), asked.how, 404)
        for pattern, route in self._routes:
            if found := pattern.search(exchange.path):
                asked.named = found.groupdict()
                return self._routed(exchange.path, asked, route)
        unknown = GenerationError(f"Unknown request URL: {exchange.path}", type="not_found_error")
        return _error(exchange.path, unknown, asked.how, 404)

    def session(self, exchange: Exchange) -> Session:
        """What is said on a WebSocket; a path or words that nobody knows raise ValueError."""
        asked = self._asked(exchange)
        if capture := self._captures.get(exchange.header("x-capture") or ""):
            return RecordedSession(capture.messages)
        if exchange.path.endswith("/responses"):
            return ResponsesSession(asked.how)
        if exchange.path.endswith("/realtime"):
            return RealtimeSession(asked.model, asked.how)
        raise ValueError(f"no WebSocket at {exchange.path}")

    def _asked(self, exchange: Exchange) -> Asked:
        recorded = exchange.header("x-capture") is not None
        body = exchange.json if exchange.body and not recorded else None
        named = body.get("model") if isinstance(body, dict) else None
        in_path = re.search(r"/(?:models|deployments)/([^/:]+)", exchange.path)
        if not isinstance(named, str):
            named = in_path[1] if in_path else exchange.query.get("model", "fake-model")
        model, words = split_model(named)
        how = parse_behaviour(exchange.header("x-upstream") or "", parse_behaviour(words, self._default))
        return Asked(exchange, body, model, how)

    def _routed(self, path: str, asked: Asked, route: Callable[[Asked], Answer]) -> Answer:
        how = asked.how
        if how.status is not None:
            kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
            kind = kinds.get(how.status, "server_error" if how.status >= 500 else "invalid_request_error")
            told = GenerationError(f"The fake upstream was told to answer {how.status}.", type=kind)
            return _error(path, told, how, how.status)
        if how.refuse and "stream_options" in asked.body:
            status, words = refusal(how.refuse, asked.body["stream_options"])
            return json_answer(words, how, status)
        try:
            return route(asked)
        except GenerationError as error:  # from the generator of an answer that is not streamed
            return _error(path, error, how, 500)
        except (TypeError, ValueError) as error:
            return _error(path, GenerationError(str(error), type="invalid_request_error"), how, 400)

    def _response(self, asked: Asked) -> Answer:
        if refused := responses_refuse(asked.body.get("stream_options")):
            return json_answer(refused[1], asked.how, refused[0])
        events = list(response_events(generate(asked.how), model=asked.model))
        response = events[-1]["response"]
        while len(self._responses) >= REMEMBERED:
            del self._responses[next(iter(self._responses))]
        self._responses[response["id"]] = events
        if asked.streams:
            return Answer(200, SSE, response_frames(events, send_terminal=not asked.how.no_done), True, asked.how)
        if asked.body.get("background") is True:
            queued = {**events[0]["response"], "status": "queued", "background": True}
            return json_answer(queued, asked.how)
        if response["status"] == "failed":
            raise GenerationError(response["error"]["message"])
        return json_answer(response, asked.how)

    def _remembered(self, asked: Asked) -> Answer:
        """`GET /responses/{id}`, whole or (`stream=true`) as events after `starting_after`."""
        events = self._responses.get(asked.named["id"])
        if events is None:
            missing = GenerationError(
                f"Response with id '{asked.named['id']}' not found.", type="invalid_request_error"
            )
            return json_answer(openai_chat.error_body(missing), asked.how, 404)
        if asked.query.get("stream") != "true":
            return json_answer(events[-1]["response"], asked.how)
        after = int(asked.query.get("starting_after", -1))
        rest = [event for event in events if event["sequence_number"] > after]
        return Answer(200, SSE, response_frames(rest, send_terminal=not asked.how.no_done), True, asked.how)


def _error(path: str, error: GenerationError, how: Behaviour, status: int) -> Answer:
    """An error as the path's dialect tells it."""
    if "/messages" in path:
        return json_answer(anthropic_messages.error_body(error), how, status)
    if re.search(r":\w+$", path):
        return json_answer(gemini.error_body(error, status), how, status)
    return json_answer(openai_chat.error_body(error), how, status)


def _chat(asked: Asked) -> Answer:
    return _openai(asked, openai_chat.format_chat, openai_chat.chat_completion)


def _completion(asked: Asked) -> Answer:
    return _openai(asked, openai_chat.format_completion, openai_chat.text_completion)


def _openai(asked: Asked, format_stream: Callable[..., Any], whole: Callable[..., Any]) -> Answer:
    how = asked.how
    options = asked.body.get("stream_options")
    if options is not None and not asked.streams:
        status, words = needs_stream()
        return json_answer(words, how, status)
    count = asked.body.get("n")
    chunks = generate(how, count if isinstance(count, int) and count > 0 else 1)
    if not asked.streams:
        return json_answer(whole(chunks, model=asked.model), how)
    include_usage = isinstance(options, dict) and options.get("include_usage") is True
    stream = format_stream(chunks, model=asked.model, include_usage=include_usage, send_done=not how.no_done)
    return Answer(200, SSE, stream, True, how)


def _messages(asked: Asked) -> Answer:
    chunks = generate(asked.how)
    if not asked.streams:
        return json_answer(anthropic_messages.whole_message(chunks, model=asked.model), asked.how)
    stream = anthropic_messages.format_messages(
        chunks, model=asked.model, opening=asked.opening, send_stop=not asked.how.no_done
    )
    return Answer(200, SSE, stream, True, asked.how)


def _content(asked: Asked) -> Answer:
    chunks = generate(asked.how)
    if asked.named["method"] == "generateContent":
        return json_answer(gemini.whole_content(chunks, model=asked.model), asked.how)
    payloads = gemini.content_stream(chunks, model=asked.model, opening=asked.opening)
    if asked.query.get("alt") == "sse":
        return Answer(200, [("content-type", "text/event-stream")], gemini.as_sse(payloads), True, asked.how)
    typed = [("content-type", "application/json; charset=UTF-8")]
    return Answer(200, typed, gemini.as_array(payloads), True, asked.how)


def _count(name: str) -> Callable[[Asked], Answer]:
    return lambda asked: json_answer({name: asked.how.input}, asked.how)


def _embeddings(asked: Asked) -> Answer:
    usage = {"prompt_tokens": asked.how.input, "total_tokens": asked.how.input}
    vectors = [{"object": "embedding", "index": 0, "embedding": [0.1, -0.2, 0.3]}]
    return json_answer({"object": "list", "data": vectors, "model": asked.model, "usage": usage}, asked.how)


def _models(asked: Asked) -> Answer:
    models = [{"id": "fake-model", "object": "model", "created": 0, "owned_by": "usagetap"}]
    return json_answer({"object": "list", "data": models}, asked.how)
