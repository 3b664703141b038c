"""Publish the addresses of the running stack. `deploy.cluster.servers` reads them, for `doctor` and other commands."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from deploy.cluster.servers import STACK_FILE
from deploy.local import directory as directories


@contextmanager
def published(directory: Path, addresses: Mapping[str, str]) -> Iterator[None]:
    """Keep the addresses in the stack's directory until the context ends. The caller holds the directory's lock."""
    # It contains the database's password.
    file = directories.private_file(directory / STACK_FILE, msgspec.json.encode(addresses).decode("utf-8"))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
