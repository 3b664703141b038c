"""A directory that every user of this machine can enter: pytest's own are closed to others."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree

import pytest


@contextmanager
def opened() -> Iterator[Path]:
    """Give such a directory for the length of a block."""
    home = Path("/tmp")
    if not home.is_dir() or any(each.stat().st_mode & 0o001 == 0 for each in (home, *home.resolve().parents)):
        pytest.skip("no directory of this machine is open to all users")
    directory = Path(tempfile.mkdtemp(dir=home)).resolve()
    try:
        directory.chmod(0o755)
        yield directory
    finally:
        os.chmod(directory, 0o700)
        rmtree(directory)
