"""Show the progress of a run on stderr if it is a terminal. Otherwise show nothing, so that logs contain no bars."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class ProgressStage(Protocol):
    """One stage of a run."""

    def advance(self, by: int) -> None: ...

    def reach(self, done: int, note: str = "") -> None: ...


class NoProgress:
    """A stage that is not shown."""

    def advance(self, by: int) -> None:
        pass

    def reach(self, done: int, note: str = "") -> None:
        pass


class _Bar:
    def __init__(self, shown: Progress, task: TaskID) -> None:
        self._shown = shown
        self._task = task

    def advance(self, by: int) -> None:
        self._shown.advance(self._task, by)

    def reach(self, done: int, note: str = "") -> None:
        self._shown.update(self._task, completed=done, note=note)


@contextmanager
def stage(name: str, total: int) -> Iterator[ProgressStage]:
    """Show a bar for this stage until the block ends, if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield NoProgress()
        return
    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        yield _Bar(shown, shown.add_task(name, total=total, note=""))
