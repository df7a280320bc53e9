"""The user's own prices: a YAML file of entries, the first that matches wins.

currency: USD                      # of every entry that names no other
prices:
  - provider: "localhost:*"        # glob on provider or host; without it any
    model: ["qwen3*", "llama-*"]   # glob or globs; without it any
    valid_from: 2026-01-01         # UTC, inclusive
    valid_until: 2026-07-01        # UTC, exclusive
    per: million                   # the token rates are per `million` (default) or per `token`
    input: 0.20
    output: 0.60
  - provider: llm.example.com
    like: openai                   # the bundled table's rates of that provider
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from usagetap.pricing.bundled import sellers
from usagetap.pricing.rates import UNIT, Rates

#: the kinds whose unit is a token: `per` speaks of these only
TOKEN_KINDS = frozenset(kind for kind, unit in UNIT.items() if unit > 1)
WORDS = ("provider", "model", "valid_from", "valid_until", "currency", "per", "like", *UNIT)
_MILLION = 1_000_000
#: beyond it costs would have more digits than anybody can mean
_HIGHEST = 10**15
_NO_CURRENCY = "`currency` must be a name such as USD or sats, not `{}`"


class PriceFileError(ValueError):
    """The price file cannot be used; the message names file, line and entry, and says what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the file."""

    providers: tuple[str, ...]
    models: tuple[str, ...]
    valid_from: float | None
    valid_until: float | None
    rates: Rates | None
    like: str | None
    version: str

    def matches(self, providers: Sequence[str], models: Sequence[str], moment: float) -> bool:
        """Whether it is about any of these names at that time (seconds since the epoch)."""
        return (
            (self.valid_from is None or moment >= self.valid_from)
            and (self.valid_until is None or moment < self.valid_until)
            and _any_glob(self.providers, providers)
            and _any_glob(self.models, models)
        )


@dataclass(frozen=True, slots=True)
class PriceFile:
    """A price file as read."""

    entries: tuple[Entry, ...]

    def find(self, providers: Sequence[str], models: Sequence[str], moment: float) -> Entry | None:
        """The first entry that is about any of these providers (or hosts) and models at `moment`."""
        return next((entry for entry in self.entries if entry.matches(providers, models, moment)), None)


def _any_glob(globs: tuple[str, ...], names: Sequence[str]) -> bool:
    return not globs or any(fnmatchcase(name.lower(), glob) for glob in globs for name in names)


def read_prices(path: str | Path) -> PriceFile:
    """Read a price file; raises `PriceFileError` with one sentence that names the place and the remedy."""
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    path = Path(path).expanduser()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PriceFileError(f"{path}: cannot read the price file: {error.strerror}") from error
    try:
        document = _load(content)
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise PriceFileError(f"{path}{line}: not YAML: {error.problem or error.context}") from error
    except (YAMLError, ValueError, TypeError, AttributeError, LookupError) as error:  # ruamel's own, at strange tags
        raise PriceFileError(f"{path}: not YAML: {(str(error) or 'nothing that is known').splitlines()[0]}") from error
    digest = hashlib.sha256(content).hexdigest()[:8]
    return PriceFile(tuple(_entries(document, path, digest)))


def _load(content: bytes) -> Any:
    """The document, its lines known.

    Dates stay text, for what no calendar has would be YAML's own error, of no line; and numbers with a point do, for
    what is read in binary is another number.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import RoundTripConstructor

    class Constructor(RoundTripConstructor):
        pass

    for kind in ("timestamp", "float"):
        Constructor.add_constructor(f"tag:yaml.org,2002:{kind}", lambda _, node: node.value)
    yaml = YAML(typ="rt")
    yaml.Constructor = Constructor
    return yaml.load(content)


def _entries(document: Any, path: Path, digest: str) -> Iterator[Entry]:
    currency = "USD"
    entries = document
    if isinstance(document, dict):
        strange = [key for key in document if key not in ("currency", "prices")]
        if strange:
            raise PriceFileError(
                f"{path}:{_line(document, strange[0])}: unknown key `{strange[0]}`; the file has "
                "`currency` and `prices`"
            )
        currency, entries = document.get("currency", currency), document.get("prices")
        if not isinstance(currency, str):
            raise PriceFileError(f"{path}:{_line(document, 'currency')}: {_NO_CURRENCY.format(currency)}")
    if not isinstance(entries, list):
        raise PriceFileError(f"{path}: no list of prices; write `prices:` and below it one `- model: …` an entry")
    for number, raw in enumerate(entries):
        where = f"{path}:{_item_line(entries, number)}: entry {number + 1}"
        if not isinstance(raw, dict):
            raise PriceFileError(f"{where} is not a mapping; write `- model: …` with rates below it")
        version = f"{path.name}@{digest}:{_item_line(entries, number)}"
        yield _Reader(where, raw, path).entry(currency, version)


def _line(mapping: Any, key: object) -> int:
    return int(mapping.lc.key(key)[0]) + 1


def _item_line(sequence: Any, number: int) -> int:
    return int(sequence.lc.item(number)[0]) + 1


@dataclass(frozen=True, slots=True)
class _Reader:
    """One entry being read; `fail` knows where it stands."""

    where: str
    raw: Mapping[str, Any]
    path: Path

    def entry(self, currency: str, version: str) -> Entry:
        for key in self.raw:
            if key not in WORDS:
                close = difflib.get_close_matches(str(key), WORDS, n=1)
                hint = f"did you mean `{close[0]}`?" if close else f"known: {', '.join(WORDS)}"
                raise self.fail(key, f"unknown key `{key}`; {hint}")
        like = self._like()
        rates = self._rates(self._currency(currency))
        if (like is None) == (not rates.rate):
            raise PriceFileError(
                f"{self.where}: give rates (`input: …`, `output: …`) or `like: PROVIDER`, one of the two"
            )
        valid_from, valid_until = self._moment("valid_from"), self._moment("valid_until")
        if valid_from is not None and valid_until is not None and valid_from >= valid_until:
            raise self.fail("valid_until", "`valid_until` is not after `valid_from`: no response would have this price")
        return Entry(
            providers=self._globs("provider"),
            models=self._globs("model"),
            valid_from=valid_from,
            valid_until=valid_until,
            rates=rates if rates.rate else None,
            like=like,
            version=version,
        )

    def fail(self, key: object, message: str) -> PriceFileError:
        place = f"{self.path}:{_line(self.raw, key)}:{self.where.rpartition(':')[2]}"
        return PriceFileError(f"{place}: {message}")

    def _currency(self, usual: str) -> str:
        currency = self.raw.get("currency", usual)
        if not isinstance(currency, str):
            raise self.fail("currency", _NO_CURRENCY.format(currency))
        return currency

    def _like(self) -> str | None:
        like = self.raw.get("like")
        if like is None:
            return None
        known = sellers()
        if not isinstance(like, str) or (known and like not in known):
            close = difflib.get_close_matches(str(like), known, n=1)
            hint = f"did you mean `{close[0]}`?" if close else "write `openai`, `anthropic`, `google`, …"
            raise self.fail("like", f"`like` names `{like}`, which is no provider of the bundled table; {hint}")
        return like

    def _globs(self, key: str) -> tuple[str, ...]:
        value = self.raw.get(key)
        values = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(each, str) and each for each in values):
            raise self.fail(key, f"`{key}` must be a name or glob, or a list of them; quote names that YAML misreads")
        return tuple(each.lower() for each in values)

    def _moment(self, key: str) -> float | None:
        value = self.raw.get(key)
        if value is None:
            return None
        try:
            moment = datetime.fromisoformat(str(value))
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            raise self.fail(key, f"`{key}` is not a date: `{value}`; write 2026-01-31") from None

    def _rates(self, currency: str) -> Rates:
        per = self.raw.get("per", "million")
        if per not in ("million", "token"):
            raise self.fail("per", f"`per` is `million` or `token`, not `{per}`")
        factor = _MILLION if per == "token" else 1
        rate = {
            kind: self._number(kind) * (factor if kind in TOKEN_KINDS else 1)
            for kind in UNIT
            if self.raw.get(kind) is not None
        }
        return Rates(dict(rate), currency)

    def _number(self, key: str) -> Decimal:
        value = self.raw[key]
        try:
            number = Decimal(str(value)) if not isinstance(value, bool) else Decimal("nan")
        except InvalidOperation:
            number = Decimal("nan")
        if not number.is_finite() or not 0 <= number <= _HIGHEST:
            raise self.fail(key, f"`{key}` must be a number from 0 to a million billions, not `{value}`")
        return number
