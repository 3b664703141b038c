"""What happens while a stack starts, told as it happens: live at a terminal, a line each where nobody watches.

It goes to stderr: stdout belongs to the ready line. A step that fails is told of by the error that ends the start.
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
    """Is told of each step as it begins, and of its end."""

    def doing(self, what: str) -> AbstractContextManager[None]:
        """The step lasts as long as the context."""

    def end(self) -> None:
        """The last step is over: what was live stands still, and others may write."""


class Untold:
    """For those who want to hear of nothing."""

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
    """A line for each step that turns while the step lasts."""

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
    """What suits the stderr we have."""
    console = Console(stderr=True)
    with ExitStack() as stack:
        if not console.is_terminal:
            yield StepLines()
            return
        columns = (SpinnerColumn(finished_text="[green]✓"), TextColumn("{task.description}"), TimeElapsedColumn())
        yield LiveSteps(stack.enter_context(Progress(*columns, console=console)))
