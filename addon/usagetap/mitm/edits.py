"""What we change in a request, and why we do not."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from mitmproxy import http

from usagetap.dialects.base import Dialect
from usagetap.encoding import DecodeError, encode
from usagetap.headline import clean
from usagetap.mitm.options import Settings
from usagetap.mitm.refusals import Refusals
from usagetap.model import Request
from usagetap.rewrite import Untouchable, include_usage, refuses, signed, strip_model_prefix

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Edit:
    """The outcome: `body` is the new one as it goes on the wire, `None` where nothing changed."""

    body: bytes | None = None
    injected: bool = False
    skipped: str | None = None
    client_include_usage: bool | None = None
    """What the client itself said; `None` where it said nothing."""

    @property
    def usage_asked(self) -> bool:
        """Whether upstream is asked for usage, by us or by the client."""
        return self.injected or self.client_include_usage is True


def edit(
    request: Request, dialect: Dialect, plain: bytes | None, coding: str | None, settings: Settings, refusals: Refusals
) -> Edit:
    """Decide on the edits of one request body and make them; never raises, never guesses."""
    outcome = Edit(client_include_usage=_client_include_usage(request) if dialect.takes_include_usage else None)
    if plain is None or not isinstance(request.body, dict):
        if dialect.takes_include_usage and plain is not None:
            outcome.skipped = "not_json" if plain else None
        return outcome
    text = plain
    skipped = _skip(request, dialect, settings, refusals)
    if skipped is None:
        try:
            text = include_usage(
                text,
                override=settings.include == "force",
                continuous=settings.continuous.covers(request.host, request.port, request.path),
            )
        except Untouchable as reason:
            skipped = reason.reason
        if text is not plain:
            outcome.injected = True
            if outcome.client_include_usage is False and settings.include == "force":
                log.debug("usage: include_usage false overridden for %s", request.host)
    text = _without_prefix(request, text, settings)
    outcome.skipped = skipped or None
    if text is not plain:
        try:
            outcome.body = encode(text, coding)
        except DecodeError:
            outcome.injected, outcome.skipped = False, "encoding"
    return outcome


def as_sent(request: Request, dialect: Dialect) -> Edit:
    """The outcome for a request that is not ours to edit any more."""
    return Edit(client_include_usage=_client_include_usage(request) if dialect.takes_include_usage else None)


def _client_include_usage(request: Request) -> bool | None:
    options = request.body.get("stream_options") if isinstance(request.body, dict) else None
    value = options.get("include_usage") if isinstance(options, dict) else None
    return value if isinstance(value, bool) else None


def _skip(request: Request, dialect: Dialect, settings: Settings, refusals: Refusals) -> str | None:
    """Why nothing is injected: a word for the column, `""` where there was nothing to inject, `None` to go on."""
    if not dialect.takes_include_usage or not dialect.streams(request):
        return ""
    if settings.include == "off":
        return "off"
    place = (request.host, request.port, request.path)
    if settings.no_inject.covers(*place):
        return "no_inject"
    if signed(request.headers, request.query):
        return "signed"
    return refuses(request) or ("refused_before" if refusals.has(request) else None)


def _without_prefix(request: Request, text: bytes, settings: Settings) -> bytes:
    if not settings.model_prefix or not request.text("model") or signed(request.headers, request.query):
        return text
    try:
        return strip_model_prefix(text, settings.model_prefix)
    except Untouchable:
        return text


def apply(flow: http.HTTPFlow, outcome: Edit) -> None:
    """Put the edited body into the flow, with the length that goes with it."""
    if outcome.body is not None:
        flow.request.raw_content = outcome.body
        if "transfer-encoding" not in flow.request.headers:
            flow.request.headers["content-length"] = str(len(outcome.body))


def say(request: Request, outcome: Edit) -> None:
    """Log why a request was left as it is, where that is not what the user chose."""
    if outcome.skipped not in (None, "off", "no_inject", "refused_before", "host_refuses"):
        log.info("usage: %s left as it is: %s", clean(request.host + request.path), outcome.skipped)


def strips(outcome: Edit, strip_frame: str) -> bool:
    """Whether the usage frame is to be withheld (option `usage_strip_frame`)."""
    if strip_frame == "injected":
        return outcome.injected and outcome.client_include_usage is not True
    return strip_frame == "always"
