"""One engine per data directory: an operating-system lock, which goes when its process goes, however it goes.

Two engines on the same files would each hand out the same journal offsets, and each send the other's events.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "lock"


class AlreadyRunning(Exception):
    """Another process has the data directory."""


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Have the directory to ourselves as long as the context lasts.

    Raises:
        AlreadyRunning: it names the process that has it.
    """
    # Not truncated on opening: until the lock is ours, what stands in the file is the other's number.
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
