"""The directory of one local stack: its lock, its logs, the marks of running processes, and each server's files.

    lock            one stack at a time
    run/NAME.json   the mark of a running process
    log/NAME.log    its output
    NAME/           its files, kept from one run to the next
    secrets/        files that only their owner can read

If an earlier run was killed, its processes still run. Taking the directory ends them first.
"""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import typer
from msgspec import Struct

from deploy import directory_lock
from deploy.local import leftovers


class Directory(Struct, frozen=True):
    """A stack's directory while we hold its lock."""

    path: Path
    fresh: bool = False  # deletes all files at the end

    def mark(self, name: str) -> Path:
        return self.path / "run" / f"{name}.json"

    def log(self, name: str) -> Path:
        return self.path / "log" / f"{name}.log"

    def home(self, name: str) -> Path:
        """Return the server's own directory, and create it if necessary."""
        home = self.path / name
        home.mkdir(exist_ok=True)
        return home

    def secret(self, name: str, text: str) -> Path:
        """Write a secret to a file that no other user can read at any moment, and return its path."""
        home = self.home("secrets")
        home.chmod(0o700)
        return private_file(home / name, text)

    def wipe(self) -> None:
        """Delete every file except the lock: deleting a held lock would let in a second holder."""
        for entry in self.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != directory_lock.NAME:
                entry.unlink()
        self.prepare()

    def prepare(self) -> None:
        for name in ("run", "log"):
            (self.path / name).mkdir(exist_ok=True)


def private_file(path: Path, text: str) -> Path:
    """Write a file that no other user can read at any moment, and return its path."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return path


@asynccontextmanager
async def held(path: Path, *, fresh: bool = False) -> AsyncIterator[Directory]:
    """Hold the directory's lock. With `fresh` the directory is emptied at the start and at the end.

    Raises:
        AlreadyRunning: another process holds the lock.
    """
    path.mkdir(parents=True, exist_ok=True)
    directory = Directory(path.resolve(), fresh)
    with directory_lock.held(path):
        for name in await leftovers.end_all(directory.path / "run"):
            typer.echo(f"stopped {name}, left running by an earlier run", err=True)
        directory.wipe() if fresh else directory.prepare()
        try:
            yield directory
        finally:
            if fresh:
                directory.wipe()
