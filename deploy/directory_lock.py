"""One process for each directory: an operating-system lock, released however its process ends.

Two engines on the same files would assign the same journal offsets twice and send each other's events.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "lock"


class AlreadyRunning(Exception):
    """Another process holds the directory."""


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Lock the directory for this process until the block ends.

    Raises:
        AlreadyRunning: another process holds it; the message names that process.
    """
    # Not truncated on opening: until this process has the lock, the file holds the other process's number.
    descriptor = os.open(directory / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise AlreadyRunning(f"{directory} is in use by process {holder}") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(descriptor)


def holder(directory: Path) -> int | None:
    """Return the id of the process that holds the directory, or `None` when no process does.

    The lock decides, not the number in the file: a killed process leaves its number behind.
    """
    try:
        descriptor = os.open(directory / NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        number = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        return int(number) if number.isdigit() else None
    finally:
        os.close(descriptor)
    return None
