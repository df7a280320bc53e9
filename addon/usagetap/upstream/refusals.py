"""How providers refuse `stream_options`, in their own words (threads named below)."""

from __future__ import annotations

from typing import Any

_AZURE_CONTACT = (
    "Please contact us through an Azure support request at: https://go.microsoft.com/fwlink/?linkid=2213926 "
    "for further questions."
)


def refusal(who: str, stream_options: Any) -> tuple[int, Any]:
    """Status and body of the refusal. `who` is one of `behaviour.REFUSALS`; another one raises KeyError."""
    who = _ALIASES.get(who, who)
    return (422, _mistral(stream_options)) if who == "mistral" else _REFUSALS[who]


def needs_stream() -> tuple[int, Any]:
    """OpenAI's answer to `stream_options` without `"stream": true` (BerriAI/litellm#5803)."""
    message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
    return 400, _openai(message, param="stream_options")


def responses_refuse(options: Any) -> tuple[int, Any] | None:
    """The Responses API knows `include_obfuscation` alone (BigPizzaV3/CodexPlusPlus#234); None if it accepts."""
    if not isinstance(options, dict) or "include_usage" not in options:
        return None
    name = "stream_options.include_usage"
    return 400, _openai(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")


def _openai(message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def _mistral(options: Any) -> dict[str, Any]:
    # dnakov/anon-kode#53 for the place, partITech/php-mistral#76 for the shape
    detail = {
        "type": "extra_forbidden",
        "loc": ["body", "stream_options", "include_usage"],
        "msg": "Extra inputs are not permitted",
        "input": options.get("include_usage") if isinstance(options, dict) else options,
    }
    kind = {"type": "invalid_request_error", "param": None, "code": None}
    return {"object": "error", "message": {"detail": [detail]}, **kind}


_UNRECOGNIZED = "Unrecognized request argument supplied: stream_options"
_REFUSALS: dict[str, tuple[int, Any]] = {
    # agno-agi/agno#1066
    "azure": (400, _openai("Unknown parameter: 'stream_options'.", "stream_options", "unknown_parameter")),
    # Pythagora-io/gpt-pilot#1022: api-versions of 2023
    "azure_old": (400, _openai(f"{_UNRECOGNIZED}. {_AZURE_CONTACT}")),
    # the same validator, without the contact
    "openai": (400, _openai(_UNRECOGNIZED)),
    # continuedev/continue#12936
    "databricks": (
        400,
        {"error_code": "BAD_REQUEST", "message": 'Bad request: json: unknown field "stream_options"\n'},
    ),
}
_ALIASES = {"400": "azure", "422": "mistral"}
