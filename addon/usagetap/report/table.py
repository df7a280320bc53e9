"""Tables for a terminal: columns that give way when it is narrow, numbers that line up, colour only where wanted.

Nothing here knows what is shown. A table that does not fit loses first the ends of long texts, then the long headings,
then the least important columns (which its caller can name below it).
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from usagetap.headline import clean

_EIGHTHS = " ▏▎▍▌▋▊▉"
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}
_GAP = 2
#: texts are cut to this before a column is dropped for want of room, and to that when there is nothing left to drop
_SHORT_TEXT = 22
_SHORTEST_TEXT = 4
_NARROWEST = 40


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, a shorter one for narrow terminals, and how dear it is (0 is never dropped)."""

    heading: str
    short: str = ""
    align: Literal["left", "right"] = "right"
    rank: int = 0
    """Of the columns that do not fit, the one with the highest rank goes first."""
    style: str = ""
    whole: bool = False
    """Its texts are never cut; numbers (what stands on the right) never are."""

    @property
    def elastic(self) -> bool:
        """Whether its texts may lose their ends."""
        return self.align == "left" and not self.whole


@dataclass(slots=True)
class Table:
    """Rows of text cells under columns, with an optional last row of totals."""

    columns: Sequence[Column]
    rows: list[Sequence[str]] = field(default_factory=list)
    totals: Sequence[str] | None = None

    def render(self, width: int, *, colour: bool = False) -> tuple[list[str], list[str]]:
        """The lines of the table within `width` cells, and the headings of the columns that it had to drop."""
        cells = [[clean(cell) for cell in row] for row in self._all_rows()]
        kept, headings, widths = self._fit(cells, width)
        dropped = [column.heading for index, column in enumerate(self.columns) if index not in kept]
        lines = [self._line([headings[index] for index in kept], kept, widths, "dim", colour=colour)]
        rule = paint("─" * (sum(widths) + _GAP * (len(widths) - 1)), "dim", colour=colour)
        lines.append(rule)
        body = cells[:-1] if self.totals is not None else cells
        lines += [self._line([row[index] for index in kept], kept, widths, None, colour=colour) for row in body]
        if self.totals is not None:
            last = [cells[-1][index] for index in kept]
            lines += [rule, self._line(last, kept, widths, "bold", colour=colour)]
        return lines, dropped

    def shortest(self, width: int) -> int:
        """How many cells the most cut of the texts would keep within `width`; `width` where none is cut."""
        cells = [[clean(cell) for cell in row] for row in self._all_rows()]
        kept, headings, widths = self._fit(cells, width)
        needs = [max(cell_width(text) for text in (headings[i], *(row[i] for row in cells))) for i in kept]
        return min((wide for wide, need in zip(widths, needs, strict=True) if wide < need), default=width)

    def without_empty(self) -> Table:
        """The same without the columns that say nothing in any row: only those that may be dropped at all."""
        rows = self._all_rows()
        said = [
            index
            for index, column in enumerate(self.columns)
            if not column.rank or not column.heading or any(row[index] != "–" for row in rows)
        ]

        def pick(row: Sequence[str]) -> list[str]:
            return [row[index] for index in said]

        totals = None if self.totals is None else pick(self.totals)
        return Table([self.columns[index] for index in said], [pick(row) for row in self.rows], totals)

    def _all_rows(self) -> list[Sequence[str]]:
        return [*self.rows, self.totals] if self.totals is not None else list(self.rows)

    def _fit(self, cells: list[list[str]], width: int) -> tuple[list[int], list[str], list[int]]:
        """Which columns stay, with which headings, how wide each."""
        kept = list(range(len(self.columns)))
        headings = [column.heading for column in self.columns]
        needed = [max((cell_width(row[i]) for row in cells), default=0) for i in kept]
        while True:
            widths = [max(cell_width(headings[i]), needed[i]) for i in kept]
            over = sum(widths) + _GAP * (len(kept) - 1) - width
            spare = sum(
                max(wide - _SHORT_TEXT, 0)
                for index, wide in zip(kept, widths, strict=True)
                if self.columns[index].elastic
            )
            if over <= spare:
                return kept, headings, self._squeeze(kept, widths, over)
            short = [column.short or column.heading for column in self.columns]
            if headings != short:
                headings = short
                continue
            droppable = [index for index in kept if self.columns[index].rank]
            if not droppable:
                return kept, headings, self._squeeze(kept, widths, over)
            kept.remove(max(droppable, key=lambda index: (self.columns[index].rank, index)))

    def _squeeze(self, kept: list[int], widths: list[int], over: int) -> list[int]:
        """Take what is over from the widest texts; numbers are never cut."""
        while over > 0:
            texts = [
                place
                for place, index in enumerate(kept)
                if self.columns[index].elastic and widths[place] > _SHORTEST_TEXT
            ]
            if not texts:
                break
            widths[max(texts, key=lambda place: widths[place])] -= 1
            over -= 1
        return widths

    def _line(self, texts: list[str], kept: list[int], widths: list[int], style: str | None, *, colour: bool) -> str:
        parts = []
        for index, text, wide in zip(kept, texts, widths, strict=True):
            column = self.columns[index]
            shown = pad(shorten(text, wide), wide, column.align)
            dull = text in ("0", "–", "")
            parts.append(paint(shown, style or ("dim" if dull else column.style), colour=colour))
        return (" " * _GAP).join(parts).rstrip()


def cell_width(text: str) -> int:
    """How many terminal cells `text` takes: wide characters take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def shorten(text: str, width: int) -> str:
    """`text` in at most `width` cells, with `…` where its end was cut."""
    if cell_width(text) <= width:
        return text
    cut = ""
    for char in text:
        if cell_width(cut + char) > width - 1:
            break
        cut += char
    return cut + "…"


def brief(count: int) -> str:
    """A count in at most five cells: `9,999`, `45.0k`, `1.68M`, `320M`."""
    if abs(count) < 10_000:
        return f"{count:,}"
    value, units = float(count), iter("kMGT")
    unit = ""
    while abs(value) >= 999.5 and (larger := next(units, "")):
        value, unit = value / 1000, larger
    digits = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:.{digits}f}{unit}"


def pad(text: str, width: int, align: Literal["left", "right"]) -> str:
    """`text` filled with spaces to `width` cells."""
    fill = " " * (width - cell_width(text))
    return text + fill if align == "left" else fill + text


def paint(text: str, style: str, *, colour: bool) -> str:
    """`text` in a style of the palette, if colour is wanted."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if colour and style else text


def bar(value: Decimal | float, largest: Decimal | float, width: int) -> str:
    """A bar of at most `width` cells, in eighths; something for whatever is not nothing."""
    if not largest or value <= 0:
        return ""
    eighths = max(round(float(value) / float(largest) * width * 8), 1)
    full, rest = divmod(min(eighths, width * 8), 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "")


def wants_colour(stream: object = None) -> bool:
    """Whether to colour: a terminal, and neither NO_COLOR (https://no-color.org) nor TERM=dumb; FORCE_COLOR wins."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    stream = stream or sys.stdout
    return bool(getattr(stream, "isatty", lambda: False)()) and os.environ.get("TERM") != "dumb"


def terminal_width() -> int:
    """The cells of a line: COLUMNS, else the terminal's (also of `… | less`), else 120 (a file is not narrow)."""
    wide = os.environ.get("COLUMNS", "")
    if not wide.isdecimal() or not int(wide):
        for descriptor in (1, 2, 0):
            try:
                return max(os.get_terminal_size(descriptor).columns, _NARROWEST)
            except OSError:
                continue
        return 120
    return max(int(wide), _NARROWEST)
