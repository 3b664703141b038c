"""Print what commands show: tables for operators, JSON for programs, errors on stderr.

Texts from a notification are untrusted. No text is read as markup, and no control character reaches the terminal.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from deploy import exits

if TYPE_CHECKING:
    from rich.console import Console

Output = Annotated[
    Literal["table", "json"], typer.Option("--output", help="A table for reading, or JSON for programs.")
]

PIPE_WIDTH = 100_000
LABEL_WIDTH = 13
PAIR_LABEL_MAX = 28  # longer names move only their own values

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

    # A pipe has no width, so that each row stays on one line and `grep` finds whole rows.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(highlight=False, width=width)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print the rows as a table; statuses and dispositions get their colour.

    Nothing is cut, and no id is folded. If the rows are wider than the terminal, prose is wrapped at blanks. If that is
    not enough, columns that do not fit follow below each row, with their headings.
    """
    from deploy.cli import table_layout

    texts = [[plain(value) for value in row] for row in rows]
    table_layout.draw(console(), title, columns, texts, _STYLES)


@contextmanager
def progress(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr while the block runs, if stderr is a terminal; the block advances it by calling.

    Without a total it only counts.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    to = Console(stderr=True)
    with Progress(*columns, console=to, disable=not to.is_terminal, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)


def line(label: str, value: object, *, label_width: int = LABEL_WIDTH) -> None:
    """Print one labelled value. A longer text goes on below it, on a terminal; no word is folded."""
    from rich.text import Text

    from deploy.cli import table_layout

    shown = plain(value)
    styled = Text(shown, style=_STYLES.get(shown, ""))
    table_layout.hanging(console(), Text(f"{label:<{label_width}} ", style="bold"), styled)


def pairs(title: str, values: Mapping[str, object]) -> None:
    """Print named values below a title, one on each line."""
    from rich.text import Text

    console().print(Text(f"\n{title}", style="bold"))
    width = min(max(map(len, values), default=0), PAIR_LABEL_MAX)
    for name, value in values.items():
        line(f"  {plain(name)}", value, label_width=width + 2)


def note(value: object, *, label: str = "") -> None:
    """Print a text for the operator on stderr, wrapped at blanks on a terminal."""
    if not sys.stderr.isatty():
        typer.echo(f"{label}{plain(value)}", err=True)
        return
    from rich.console import Console
    from rich.text import Text

    from deploy.cli import table_layout

    table_layout.hanging(Console(stderr=True, highlight=False), Text(label), Text(plain(value)))


def wrapped(text: str, *, after: str = "") -> str:
    """Return the text in lines for the terminal of stderr; its first line stands after another text."""
    from rich.console import Console

    from deploy.cli import table_layout

    lines = table_layout.lines(f"{after}{text}", Console(stderr=True).width)
    return "\n".join(lines).removeprefix(after)


def text(value: object) -> None:
    """Print a text, wrapped at blanks on a terminal; no word is folded."""
    from rich.text import Text

    from deploy.cli import table_layout

    table_layout.hanging(console(), Text(""), Text(plain(value)))


def words(values: Iterable[object]) -> None:
    """Print the values, separated by commas, on as many lines as a terminal needs; no value is folded."""
    text(joined(values))


def plain(value: object) -> str:
    """Return the value as text in which control characters are escaped."""
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def moment(iso: object) -> str:
    """Return an ISO time in the form `2026-01-31 08:00:00`, in UTC."""
    return "" if iso is None else str(iso)[:19].replace("T", " ")


def joined(values: Any) -> str:
    """Return the values as one text, separated by commas; none gives an empty text."""
    return ", ".join(str(value) for value in values or ())


def fail(value: object, code: int = exits.FAILED) -> NoReturn:
    """Print the error on stderr and exit with `code`."""
    note(value)
    raise typer.Exit(code)


def fail_in_lines(first: str, lines: Iterable[str], code: int = exits.FAILED) -> NoReturn:
    """Print the error and its details on stderr, one line each, and exit with `code`."""
    note(first)
    for each in lines:
        note(each, label="  ")
    raise typer.Exit(code)


def confirm(count: int, question: str) -> None:
    """Ask for the number of things that a very large change is about; end the command without the right one."""
    try:
        given = str(typer.prompt(f"{question}. Type the number to go on", err=True))
    except typer.Abort:
        typer.echo("", err=True)
        fail(f"Nothing was done: type {count}, or pipe it into the command (echo {count} | alipay-notify …).")
    if given.replace(",", "").strip() != str(count):
        fail("That is another number; nothing was done.")
