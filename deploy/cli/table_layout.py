"""Lay out a table for the width of a terminal, so that every number in it can be copied.

Three layouts, the first that fits: a plain table; a table whose prose and headings are wrapped at blanks; and a table
of the columns that fit beside each other, with the others below each row. There, one long text does not move its whole
column: it alone follows below its row. The first column names the row. If its names are wide, each has a line of its
own, and the other columns stand below it. A number that is wider than the terminal stays on one line all the same.
Chinese is wrapped between any two characters. A terminal does not show a column that is empty in all rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    Styled = Callable[[str], str]  # the style of a cell, by its text

_PROSE_MIN = 24  # a column of texts with blanks is prose from this width on; times and amounts are narrower
_BETWEEN = 3  # columns of a table: a blank on each side, and one between
_GAP = 2  # columns of a stacked table
_INDENT = 4
_FILLED_MIN = 0.5  # a column with fewer texts takes the room of others, and is below
_BELOW_MAX = 0.25  # the largest share of a column's texts that follow below their rows, before all of them do
_FIRST_MAX = 0.5  # the largest share of the terminal for the first column, or for a label, with others beside it
_HAN = "\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # with the two kanas, which wrap alike
_CLOSING = "\u3001\u3002\u300b\u300d\u300f\u3011\uff01\uff09\uff0c\uff1a\uff1b\uff1f"  # they do not begin a line
_WORD = re.compile(rf"(?:[{_HAN}][{_CLOSING}]*(?:[),.;:!?]+(?=[\s{_HAN}]|$))?|[^\s{_HAN}]+)\s*|^\s+")

Rows = Sequence[Sequence[str]]


def draw(console: Console, title: str, columns: Sequence[str], rows: Rows, styles: Mapping[str, str]) -> None:
    """Print the table. `styles` are the styles of cells, by their text."""
    from rich.text import Text

    if console.is_terminal:
        columns, rows = _without_empty(columns, rows)
    widths = _fitted(columns, rows, console.width)
    if widths is not None:
        _draw_table(console, title, columns, rows, widths, styles)
        return
    if title:
        hanging(console, Text(""), Text(title, style="italic"))
    _draw_stacked(console, columns, rows, _beside(columns, rows, console.width), lambda text: styles.get(text, ""))


def hanging(console: Console, label: Text, text: Text) -> None:
    """Print the text after its label, wrapped at blanks, with the further lines indented like the first.

    A word that fits on a line only without the label or the indent has a line of its own. A text that does not fit
    beside a wide label is below it.
    """
    from rich.text import Text

    indent, is_labelled = label.cell_len, bool(label.plain.strip())
    is_below = is_labelled and indent > console.width * _FIRST_MAX and indent + text.cell_len > console.width
    if is_below:
        indent = _INDENT
    lines = _wrapped(text, console.width - indent)
    if is_below or (is_labelled and indent + lines[0].cell_len > console.width):
        lines.insert(0, Text(""))
    for number, line in enumerate(lines):
        blanks = Text(" " * max(0, min(indent, console.width - line.cell_len)))
        made = Text.assemble(label if is_labelled and number == 0 else blanks, line)
        made.rstrip()
        console.print(made, soft_wrap=True)


def lines(text: str, room: int) -> list[str]:
    """Return the text in lines of this width that end at blanks."""
    from rich.text import Text

    return [line.plain for line in _wrapped(Text(text), room)]


def _without_empty(columns: Sequence[str], rows: Rows) -> tuple[Sequence[str], Rows]:
    """Return the table without the columns that are empty in all rows; the first one names the row, and stays."""
    kept = [index for index in range(len(columns)) if index == 0 or not rows or any(row[index] for row in rows)]
    return [columns[index] for index in kept], [[row[index] for index in kept] for row in rows]


def _fitted(columns: Sequence[str], rows: Rows, room: int) -> list[int] | None:
    """Return the widths of the columns in a table of this width, or `None` if words would have to be folded."""
    natural = [max(map(_width, (column, *_texts(rows, index)))) for index, column in enumerate(columns)]
    room -= _BETWEEN * len(natural) + 1
    if sum(natural) <= room:
        return natural
    widths = [_least_width(column, _texts(rows, index)) for index, column in enumerate(columns)]
    left = room - sum(widths)
    if left < 0:
        return None
    for index, width in enumerate(natural):
        more = min(left, width - widths[index])
        widths[index] += more
        left -= more
    return widths


def _texts(rows: Rows, index: int) -> list[str]:
    return [row[index] for row in rows]


def _least_width(column: str, texts: Sequence[str]) -> int:
    """Return the width of a column whose heading is wrapped at blanks, and its texts too if they are prose."""
    if any(_width(text) > _PROSE_MIN and len(_WORD.findall(text)) > 1 for text in texts):
        return max(_PROSE_MIN, _longest_word([column, *texts]))
    return max([_longest_word([column]), *map(_width, texts)])


def _longest_word(texts: Sequence[str]) -> int:
    return max((_width(word[0].rstrip()) for text in texts for word in _WORD.finditer(text)), default=0)


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

    def cell(text: str, width: int, style: str) -> Text:
        return Text("\n").join(_wrapped(Text(text, style=style), width))

    drawn = Table(title=title or None, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    for column, width in zip(columns, widths, strict=True):
        drawn.add_column(cell(column, width, ""), overflow="fold", width=width)
    for row in rows:
        drawn.add_row(*(cell(text, width, styles.get(text, "")) for text, width in zip(row, widths, strict=True)))
    if console.is_terminal:
        console.print(drawn)
        return
    with console.capture() as captured:
        console.print(drawn)
    # Without the blanks up to the widest cell of the last column, which may be very wide in a pipe.
    console.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def _beside(columns: Sequence[str], rows: Rows, room: int) -> dict[int, int]:
    """Return the widths of the columns that stay beside each other, by their place.

    Without the first, which names the row, a name has a line of its own.
    """
    beside: dict[int, int] = {}
    first = _width_of_most(columns[0], _texts(rows, 0), int(room * _FIRST_MAX))
    if first is not None:
        beside[0] = first
    left = room - (_INDENT if first is None else first + _GAP)
    for index in range(1, len(columns)):
        texts = [text for text in _texts(rows, index) if text]
        width = _width_of_most(columns[index], texts, left)
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
    console: Console, columns: Sequence[str], rows: Rows, beside: Mapping[int, int], style: Styled
) -> None:
    from rich.text import Text

    console.print()
    _draw_beside(console, columns, beside, lambda _: "bold")
    for row in rows:
        _draw_beside(console, row, beside, style)
        details = [
            Text.assemble((f"{column} " if column else "", "dim"), (text, style(text)))
            for index, (column, text) in enumerate(zip(columns, row, strict=True))
            if index and text and _width(text) > beside.get(index, 0)
        ]
        for each in _packed(details, console.width - _INDENT):
            hanging(console, Text(" " * _INDENT), each)
    console.print()


def _draw_beside(console: Console, texts: Sequence[str], beside: Mapping[int, int], style: Styled) -> None:
    """Print the texts that fit into their columns; a first one that does not is above the others."""
    from rich.text import Text

    line = Text("" if 0 in beside else " " * _INDENT)
    for index, width in beside.items():
        is_beside = _width(texts[index]) <= width
        cell = Text(texts[index] if is_beside else "", style=style(texts[index]))
        line = Text.assemble(line, cell, " " * (width - cell.cell_len + _GAP))
    line.rstrip()
    if _width(texts[0]) > beside.get(0, 0):
        hanging(console, Text(""), Text(texts[0], style=style(texts[0])))
        if not line:
            return
    console.print(line, soft_wrap=True)


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
    """Return the text in lines that end at blanks, or between Chinese characters; a wider word stays whole."""
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
