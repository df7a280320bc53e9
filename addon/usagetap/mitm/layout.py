"""How a content view is laid out: sections with a heading, names and values in columns. Text in, text out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from usagetap.assembly import Answer, Choice
from usagetap.conversation import Asked
from usagetap.headline import SOURCES, clean, money, seconds, tokens
from usagetap.headline import ending as how_it_ended

WIDTH = 72
_TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")
#: token counts in the order of the table; those under another are its subsets
_COUNTS = (
    ("input_tokens", 0),
    ("cache_read_input_tokens", 1),
    ("cache_write_input_tokens", 1),
    ("cache_write_5m_input_tokens", 2),
    ("cache_write_1h_input_tokens", 2),
    ("audio_input_tokens", 1),
    ("image_input_tokens", 1),
    ("output_tokens", 0),
    ("reasoning_output_tokens", 1),
    ("audio_output_tokens", 1),
    ("image_output_tokens", 1),
    ("total_tokens", 0),
    ("tool_use_input_tokens", 0),
)


def section(title: str, text: str | Iterable[str], aside: str = "") -> str:
    """A heading over a text, or over lines; nothing where there is no text."""
    body = text if isinstance(text, str) else "\n".join(text)
    if not body.strip():
        return ""
    heading = f"── {title} "
    line = heading + "─" * max(WIDTH - len(heading) - len(aside) - bool(aside), 3)
    return f"{line} {aside}".rstrip() + f"\n{body.rstrip()}\n"


def page(head: str, *sections: str) -> str:
    """A whole view: the headline, then every section that has something in it.

    An empty line is a blank one: mitmweb gives a line without any character no height. mitmproxy takes out control
    characters, but not those that turn the direction of what follows them.
    """
    text = _TURNS.sub("�", "\n".join(filter(None, (f"{head}\n" if head else "", *sections))))
    return "\n".join(line or " " for line in text.rstrip("\n").split("\n"))


def answer(told: Answer) -> list[str]:
    """The sections of an answer: text, reasoning and tool calls of each choice."""
    found: list[str] = []
    several = len(told.choices) > 1
    for index, choice in sorted(told.choices.items()):
        found += _choice(choice, f" {index}" if several else "")
    if told.notes:
        found.append(section("Answer", map(clean, told.notes)))
    if told.error is not None:
        found.append(section("Error", clean(told.error)))
    return found


def _choice(choice: Choice, which: str) -> list[str]:
    finish = clean(choice.finish_reason or "")
    text = "".join(choice.text)
    found = [
        section(f"Reasoning{which}", "".join(choice.reasoning)),
        section(f"Answer{which}", text or "(no text)" if not choice.calls or text else "", finish),
        section(f"Refusal{which}", "".join(choice.refusal)),
    ]
    for call in choice.calls.values():
        title = f"Tool call{which}: {clean(call.name) or 'without a name'}"
        found.append(section(title, call.pretty or "(no arguments)", clean(call.call_id)))
    if choice.calls and not text and finish:
        found.append(section(f"Answer{which}", "(tool calls only)", finish))
    return found


def usage(told: Mapping[str, Any]) -> str:
    """The token counts and the cost."""
    counts = told.get("usage")
    counts = counts if isinstance(counts, dict) else {}
    lines = [
        ("  " * depth + name, tokens(counts[name]) if isinstance(counts.get(name), int) else "?")
        for name, depth in _COUNTS
        if name in counts or (name in ("input_tokens", "output_tokens") and told.get("usage_quality"))
    ]
    estimates = ("estimated_input_tokens", "estimated_output_tokens")
    lines += [(name, tokens(told[name], mark="~")) for name in estimates if isinstance(told.get(name), int)]
    cost = _cost(told)
    if cost:
        lines.append(("cost", cost))
    quality, source = told.get("usage_quality"), clean(told.get("cost_source") or "")
    # an estimate says so twice already, by its marks
    aside = ("partial" if quality == "partial" else "", "" if source == "estimated" else SOURCES.get(source, source))
    return section("Usage", columns(lines), " · ".join(filter(None, aside)))


def _cost(told: Mapping[str, Any]) -> str:
    if told.get("cost") is None:
        counted = (told.get("usage"), told.get("estimated_input_tokens"), told.get("estimated_output_tokens"))
        return "unpriced" if any(counted) else ""
    try:
        amount = Decimal(str(told["cost"]))
    except InvalidOperation:
        return ""
    return ("~" if told.get("cost_source") == "estimated" else "") + money(amount, told.get("currency"))


def ending(told: Mapping[str, Any]) -> str:
    """How it ended."""
    reasons = told.get("finish_reasons")
    finish = ", ".join(clean(reason) for reason in reasons if reason) if isinstance(reasons, list) else ""
    how = how_it_ended(clean(told.get("status") or ""), told.get("end_reason"))
    lines = [" · ".join(filter(None, (how, finish and f"finish {finish}")))]
    if told.get("error_message"):
        lines.append(f"{clean(told.get('error_type') or 'error')}: {clean(told['error_message'])}")
    times = [("first chunk", told.get("time_to_first_chunk")), ("took", told.get("duration"))]
    known = [f"{name} {seconds(value)}" for name, value in times if isinstance(value, int | float)]
    if told.get("service_tier"):
        known.append(f"service tier {clean(told['service_tier'])}")
    return section("How it ended", [*filter(None, lines), *([" · ".join(known)] if known else [])])


def changes(told: Mapping[str, Any]) -> str:
    """What we changed on the way."""
    said = told.get("client_include_usage")
    client = "the client had said nothing" if said is None else f"the client had said {str(bool(said)).lower()}"
    lines = []
    if told.get("injected"):
        lines.append(f"stream_options.include_usage is true: {client}")
    elif told.get("inject_skipped"):
        lines.append(f"stream_options left alone: {clean(told['inject_skipped']).replace('_', ' ')}")
    if told.get("retried"):
        lines.append("upstream refused our field: the client's own request was sent again")
    if told.get("stripped"):
        lines.append("the final usage frame was withheld from the client")
    if told.get("tag"):
        lines.append(f"the tag header ({clean(told['tag'])}) was taken off")
    return section("What usagetap changed", lines)


def asked(told: Asked) -> list[str]:
    """The sections of a request: parameters, messages, tools."""
    found = [section("Request", columns((clean(name), clean(value)) for name, value in told.parameters.items()))]
    found += [section(clean(said.role), said.text or "(nothing)") for said in told.said]
    tools = [f"{clean(name)}: {clean(text)}" if text else clean(name) for name, text in told.tools.items()]
    return [*found, section(f"{len(tools)} tool{'' if len(tools) == 1 else 's'}", tools)]


def columns(lines: Iterable[tuple[str, str]]) -> list[str]:
    """Names and values under each other; numbers end in one column."""
    pairs = list(lines)
    names = max((len(name) for name, _ in pairs), default=0)
    numbers = max((len(value) for _, value in pairs if _number(value)), default=0)
    return [
        f"{name:{names}}  {value:>{numbers}}" if _number(value) else f"{name:{names}}  {value}" for name, value in pairs
    ]


def _number(value: str) -> bool:
    return value.lstrip("~≥$€£<").replace(",", "").replace(".", "").isdigit() or value in ("?", "unpriced")
