"""What `--since`, `--until` and `--timezone` understand.

The clock is a parameter: nothing here reads it (but for the machine's offset, where its zone has no name).
"""

from __future__ import annotations

import difflib
import os
import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

_AGO = re.compile(r"(\d{1,6})\s*(m|min|h|d|w)", re.ASCII)
_MONTH = re.compile(r"\d{4}-\d{2}", re.ASCII)
_UNDERSTOOD = "write 7d, 24h, 2w, today, yesterday, 2026-01-31, 2026-01 or 2026-01-31T18:00"


def zone_of(name: str | None) -> tzinfo:
    """The time zone `name` (IANA, `UTC`, or `local` as without one); `ValueError` names a close one."""
    if name is None or name.lower() == "local":
        return _local_zone() or datetime.now().astimezone().tzinfo or UTC
    if name.upper() in ("UTC", "Z"):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        close = difflib.get_close_matches(name, sorted(available_timezones()), n=1)
        hint = f"did you mean {close[0]}?" if close else "write one such as Europe/Berlin, UTC or local"
        raise ValueError(f"unknown time zone {name!r}; {hint}") from None


def zone_name(zone: tzinfo) -> str:
    """A zone as people call it (`/etc/localtime` says `Etc/UTC` on many servers)."""
    return str(zone).removeprefix("Etc/")


def _local_zone() -> tzinfo | None:
    """The machine's zone with its rules for summer time, where it can be known (TZ, /etc/localtime)."""
    name = os.environ.get("TZ", "").lstrip(":")
    if not name:
        target = str(Path("/etc/localtime").resolve())
        name = target.partition("zoneinfo/")[2]
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def moment(text: str, now: datetime, *, end: bool = False) -> datetime:
    """What `text` means, in `now`'s time zone; as an `end`, a day or month counts whole (its end is meant).

    `7d` is today and the six days before it, `2w` likewise; `24h` and `30min` are exact. `ValueError` says what is
    understood.
    """
    text = text.strip()
    ago = _AGO.fullmatch(text)
    if ago:
        try:
            return _ago(int(ago[1]), ago[2], now)
        except OverflowError:
            raise ValueError(f"{text!r} is before the first day there is; {_UNDERSTOOD}") from None
    day = _day(text, now)
    if day is not None:
        return _midnight(day + timedelta(days=1) if end else day, now)
    if _MONTH.fullmatch(text):
        first = _parse(f"{text}-01", text).date()
        return _midnight(_next_month(first) if end else first, now)
    exact = _parse(text, text)
    return exact if exact.tzinfo else exact.replace(tzinfo=now.tzinfo)


def _ago(number: int, unit: str, now: datetime) -> datetime:
    if unit in ("d", "w"):
        days = number * (7 if unit == "w" else 1)
        return _midnight(now.date() - timedelta(days=max(days - 1, 0)), now)
    return (now.astimezone(UTC) - timedelta(minutes=number * (60 if unit == "h" else 1))).astimezone(now.tzinfo)


def _day(text: str, now: datetime) -> date | None:
    if text.lower() == "today":
        return now.date()
    if text.lower() == "yesterday":
        return now.date() - timedelta(days=1)
    return _parse(text, text).date() if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII) else None


def _parse(text: str, said: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"not a date or time: {said!r}; {_UNDERSTOOD}") from None


def _midnight(day: date, now: datetime) -> datetime:
    return datetime.combine(day, time(), now.tzinfo)


def _next_month(first: date) -> date:
    return (first.replace(day=28) + timedelta(days=4)).replace(day=1)
