"""Files that only their owner may read, whatever the mode of their folder: bodies hold personal data."""

import os
from contextlib import suppress
from pathlib import Path

from deploy.embedded.migrations import FileNotUsable

MODE = 0o600


def make(path: Path) -> None:
    """Create the database's file if it is missing, and take it and its logs away from all but the owner.

    SQLite gives a new log the mode of its database.

    Raises:
        FileNotUsable: the file is another user's, or the folder cannot be written.
    """
    try:
        _create(path)
        for each in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            _restrict(each)
    except OSError as error:
        raise FileNotUsable(f"{path} cannot be made private (mode 0600): {error.strerror}") from error


def _create(path: Path) -> None:
    # A file that is there is not opened: closing it would end the locks that this process has on it.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE))


def _restrict(path: Path) -> None:
    try:
        if path.stat().st_mode & 0o777 != MODE:
            path.chmod(MODE)
    except FileNotFoundError:
        return  # a log that there is not, or that another process has just removed
