"""Print what commands show: tables for operators, JSON for programs, errors on stderr.

Texts from a notification are untrusted. No text is read as markup, and no control character reaches the terminal.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from deploy import exits

if TYPE_CHECKING:
    from rich.console import Console

Output = Annotated[
    Literal["table", "json"], typer.Option("--output", help="A table for reading, or JSON for programs.")
]

PIPE_WIDTH = 160

_STYLES = {
    "PAID": "bold green", "FINISHED": "bold green", "CLOSED": "bold", "WAITING": "yellow",
    "applied": "green", "duplicate": "dim", "stale": "dim", "parked": "yellow", "quarantined": "red", "dead": "red",
    "refused": "red", "ok": "green", "wrong": "bold red", "note": "yellow",
}  # fmt: skip


def as_json(answer: object) -> None:
    """Print the answer on stdout as indented JSON."""
    sys.stdout.write(json.dumps(answer, indent=2, ensure_ascii=False) + "\n")


def console() -> Console:
    """Return the console for tables; rich honours NO_COLOR and omits colours when stdout is no terminal."""
    from rich.console import Console

    # A pipe has no width. This one is wide enough to keep each row on one line, so that `grep` finds whole rows.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(highlight=False, width=width)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print the rows as a table; statuses and dispositions get their colour."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title or None, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        drawn.add_column(column, overflow="fold", no_wrap=index == 0)
    for row in rows:
        texts = [plain(value) for value in row]
        drawn.add_row(*(Text(text, style=_STYLES.get(text, "")) for text in texts))
    console().print(drawn)


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr while the block runs, if stderr is a terminal; the block advances it by calling."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    to = Console(stderr=True)
    with Progress(*columns, console=to, disable=not to.is_terminal, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)


def line(label: str, value: object) -> None:
    """Print one labelled value on one line."""
    from rich.text import Text

    text = plain(value)
    console().print(Text.assemble((f"{label:<13} ", "bold"), (text, _STYLES.get(text, ""))), soft_wrap=True)


def plain(value: object) -> str:
    """Return the value as text in which control characters are escaped."""
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def moment(text: object) -> str:
    """Return an ISO time in the form `2026-01-31 08:00:00`, in UTC."""
    return "" if text is None else str(text)[:19].replace("T", " ")


def joined(values: Any) -> str:
    """Return the values as one text, separated by commas; none gives an empty text."""
    return ", ".join(str(value) for value in values or ())


def fail(text: object, code: int = exits.FAILED) -> NoReturn:
    """Print the error on stderr and exit with `code`."""
    typer.echo(plain(text), err=True)
    raise typer.Exit(code)


def fail_in_lines(text: str, lines: Iterable[str], code: int = exits.FAILED) -> NoReturn:
    """Print the error and its details on stderr, one line each, and exit with `code`."""
    for each in (text, *(f"  {line}" for line in lines)):
        typer.echo(plain(each), err=True)
    raise typer.Exit(code)
