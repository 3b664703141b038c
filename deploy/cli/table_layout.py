"""Lay out a table for the width of a terminal, so that every number in it can be copied.

Three layouts, the first that fits: a plain table; a table whose prose is wrapped at blanks; and a table of the columns
that fit beside each other, with the others below each row. There, one long text does not move its whole column: it
alone follows below its row. A number that is wider than the terminal stays on one line all the same. A terminal does
not show a column that is empty in all rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_PROSE_MIN = 24  # a column of texts with blanks is prose from this width on; times and amounts are narrower
_BETWEEN = 3  # columns of a table: a blank on each side, and one between
_GAP = 2  # columns of a stacked table
_INDENT = 4
_FILLED_MIN = 0.5  # a column with fewer texts takes the room of others, and is below
_BELOW_MAX = 0.25  # the largest share of a column's texts that follow below their rows, before all of them do
_WORD = re.compile(r"\S+\s*|^\s+")

Rows = Sequence[Sequence[str]]


def draw(console: Console, title: str, columns: Sequence[str], rows: Rows, styles: Mapping[str, str]) -> None:
    """Print the table. `styles` are the styles of cells, by their text."""
    from rich.text import Text

    if console.is_terminal:
        columns, rows = _without_empty(columns, rows)
    natural = [max(map(_width, [column, *(row[index] for row in rows)])) for index, column in enumerate(columns)]
    widths = _fitted(natural, columns, rows, console.width)
    if widths is not None:
        _draw_table(console, title, columns, rows, widths, styles)
        return
    if title:
        console.print(Text(title, style="italic"), soft_wrap=True)
    _draw_stacked(console, columns, rows, _beside(columns, rows, console.width), styles)


def _without_empty(columns: Sequence[str], rows: Rows) -> tuple[Sequence[str], Rows]:
    """Return the table without the columns that are empty in all rows; the first one names the row, and stays."""
    kept = [index for index in range(len(columns)) if index == 0 or not rows or any(row[index] for row in rows)]
    return [columns[index] for index in kept], [[row[index] for index in kept] for row in rows]


def hanging(console: Console, label: Text, text: Text) -> None:
    """Print the text after its label, wrapped at blanks, with the further lines indented like the first.

    A word that fits on a line only without the label or the indent has a line of its own.
    """
    from rich.text import Text

    indent = label.cell_len
    lines = _wrapped(text, console.width - indent)
    if label.plain.strip() and indent + lines[0].cell_len > console.width:
        lines.insert(0, Text(""))
    for number, line in enumerate(lines):
        blanks = Text(" " * max(0, min(indent, console.width - line.cell_len)))
        is_labelled = number == 0 and label.plain.strip()
        console.print(Text.assemble(label if is_labelled else blanks, line), soft_wrap=True)


def _fitted(natural: Sequence[int], columns: Sequence[str], rows: Rows, room: int) -> list[int] | None:
    """Return the widths of the columns in a table of this width, or `None` if words would have to be folded."""
    room -= _BETWEEN * len(natural) + 1
    if sum(natural) <= room:
        return [*natural]
    least = [
        max(_PROSE_MIN, _longest_word(columns[index], rows, index)) if _is_prose(rows, index) else width
        for index, width in enumerate(natural)
    ]
    left = room - sum(least)
    if left < 0:
        return None
    widths = [*least]
    for index, width in enumerate(natural):
        more = min(left, width - widths[index])
        widths[index] += more
        left -= more
    return widths


def _is_prose(rows: Rows, index: int) -> bool:
    return any(" " in row[index] and _width(row[index]) > _PROSE_MIN for row in rows)


def _longest_word(column: str, rows: Rows, index: int) -> int:
    texts = [column, *(row[index] for row in rows)]
    return max((_width(word) for text in texts for word in text.split()), default=0)


def _draw_table(
    console: Console,
    title: str,
    columns: Sequence[str],
    rows: Rows,
    widths: Sequence[int],
    styles: Mapping[str, str],
) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title or None, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    for column, width in zip(columns, widths, strict=True):
        drawn.add_column(column, overflow="fold", width=width)
    for row in rows:
        drawn.add_row(*(Text(text, style=styles.get(text, "")) for text in row))
    if console.is_terminal:
        console.print(drawn)
        return
    with console.capture() as captured:
        console.print(drawn)
    # Without the blanks up to the widest cell of the last column, which may be very wide in a pipe.
    console.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def _beside(columns: Sequence[str], rows: Rows, room: int) -> dict[int, int]:
    """Return the widths of the columns that stay beside each other, by their place; the first column always does."""
    beside = {0: max(map(_width, [columns[0], *(row[0] for row in rows)]))}
    left = room - beside[0]
    for index in range(1, len(columns)):
        texts = [row[index] for row in rows if row[index]]
        width = _width_of_most(columns[index], texts, left - _GAP)
        if width is not None and len(texts) >= _FILLED_MIN * len(rows):
            beside[index] = width
            left -= _GAP + width
    return beside


def _width_of_most(column: str, texts: Sequence[str], room: int) -> int | None:
    """Return the width of the texts that fit into the room; `None` if they are too few, or the heading does not fit."""
    widths = [_width(text) for text in texts]
    fitting = [width for width in (_width(column), *widths) if width <= room]
    if _width(column) > room or len(widths) + 1 - len(fitting) > _BELOW_MAX * len(widths):
        return None
    return max(fitting)


def _draw_stacked(
    console: Console, columns: Sequence[str], rows: Rows, beside: Mapping[int, int], styles: Mapping[str, str]
) -> None:
    from rich.text import Text

    def is_below(index: int, text: str) -> bool:
        return index not in beside or _width(text) > beside[index]

    def line(texts: Sequence[str], style: Callable[[str], str]) -> Text:
        made = Text()
        for index, width in beside.items():
            cell = Text("" if is_below(index, texts[index]) else texts[index], style=style(texts[index]))
            made = Text.assemble(made, cell, " " * (width - cell.cell_len + _GAP))
        made.rstrip()
        return made

    console.print()
    console.print(line(columns, lambda _: "bold"), soft_wrap=True)
    for row in rows:
        hanging(console, Text(""), line(row, lambda text: styles.get(text, "")))
        details = [
            Text.assemble((f"{column} " if column else "", "dim"), (text, styles.get(text, "")))
            for index, (column, text) in enumerate(zip(columns, row, strict=True))
            if text and is_below(index, text)
        ]
        for each in _packed(details, console.width - _INDENT):
            hanging(console, Text(" " * _INDENT), each)
    console.print()


def _packed(details: Sequence[Text], room: int) -> list[Text]:
    """Return the details on as few lines as possible, each whole; one that is longer than a line has its own."""
    from rich.text import Text

    lines: list[Text] = []
    for each in details:
        if lines and lines[-1].cell_len + _BETWEEN + each.cell_len <= room:
            lines[-1] = Text.assemble(lines[-1], " " * _BETWEEN, each)
        else:
            lines.append(each)
    return lines


def _wrapped(text: Text, room: int) -> list[Text]:
    """Return the text in lines that end at blanks; a word that is wider than a line stays whole."""
    if text.cell_len <= room:
        return [text]
    breaks, used = [], 0
    for word in _WORD.finditer(text.plain):
        if used and used + _width(word[0].rstrip()) > room:
            breaks.append(word.start())
            used = 0
        used += _width(word[0])
    lines = [*text.divide(breaks)]
    for line in lines:
        line.rstrip()
    return lines


def _width(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)
