"""Show the steps of a stack's start on stderr: live at a terminal, otherwise a line for each finished step.

stdout is only for the ready line. A failed step shows nothing, because the error that ends the start names it.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Protocol

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Steps(Protocol):
    """Shows each step while it lasts."""

    def doing(self, what: str) -> AbstractContextManager[None]:
        """Show the step `what` as long as the context lasts."""

    def end(self) -> None:
        """Stop the live display, so that other text may follow."""


class NoSteps:
    """Shows nothing."""

    def doing(self, what: str) -> AbstractContextManager[None]:
        return nullcontext()

    def end(self) -> None:
        return


class StepLines:
    """A line on stderr at the end of each step."""

    def doing(self, what: str) -> AbstractContextManager[None]:
        return self._timed(what)

    def end(self) -> None:
        return

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        typer.echo(f"{what}: ready in {time.monotonic() - begun:.1f} s", err=True)


class LiveSteps:
    """A line with a spinner for each step."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def doing(self, what: str) -> AbstractContextManager[None]:
        return self._shown(what)

    def end(self) -> None:
        self._progress.stop()

    @contextmanager
    def _shown(self, what: str) -> Iterator[None]:
        step = self._progress.add_task(escape(what), total=1)
        yield
        self._progress.update(step, completed=1)


@contextmanager
def shown() -> Iterator[Steps]:
    """Provide live steps if stderr is a terminal, otherwise lines."""
    console = Console(stderr=True)
    with ExitStack() as stack:
        if not console.is_terminal:
            yield StepLines()
            return
        columns = (SpinnerColumn(finished_text="[green]✓"), TextColumn("{task.description}"), TimeElapsedColumn())
        yield LiveSteps(stack.enter_context(Progress(*columns, console=console)))
