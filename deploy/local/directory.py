"""The directory of one local stack: its lock, its logs, the marks of what runs, and a home for each server's files.

    lock            one stack at a time
    run/NAME.json   what runs now
    log/NAME.log    what it says
    NAME/           its files, kept from one run to the next

Whoever takes the directory first ends what an earlier run left running in it when it was killed itself.
"""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import typer
from msgspec import Struct

from deploy import directory_lock
from deploy.local import leftovers


class Directory(Struct, frozen=True):
    """A stack's directory while it is ours."""

    path: Path
    fresh: bool = False  # nothing of it is to be kept

    def mark(self, name: str) -> Path:
        return self.path / "run" / f"{name}.json"

    def log(self, name: str) -> Path:
        return self.path / "log" / f"{name}.log"

    def home(self, name: str) -> Path:
        """The server's own directory, made where it is not there."""
        home = self.path / name
        home.mkdir(exist_ok=True)
        return home

    def wipe(self) -> None:
        """Forget every file but the lock: removing a lock that is held would let a second holder in."""
        for entry in self.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != directory_lock.NAME:
                entry.unlink()
        self.prepare()

    def prepare(self) -> None:
        for name in ("run", "log"):
            (self.path / name).mkdir(exist_ok=True)


@asynccontextmanager
async def held(path: Path, *, fresh: bool = False) -> AsyncIterator[Directory]:
    """Have the directory to ourselves; with `fresh` it is empty at the start, and emptied again at the end.

    Raises:
        AlreadyRunning: another process has it.
    """
    path.mkdir(parents=True, exist_ok=True)
    directory = Directory(path.resolve(), fresh)
    with directory_lock.held(path):
        for name in await leftovers.end_all(directory.path / "run"):
            typer.echo(f"ended {name}, which an earlier run had left running", err=True)
        directory.wipe() if fresh else directory.prepare()
        try:
            yield directory
        finally:
            if fresh:
                directory.wipe()
