"""Publish the addresses of the running stack. `deploy.cluster.servers` reads them, for `doctor` and other commands."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from deploy.cluster.servers import STACK_FILE


@contextmanager
def published(directory: Path, addresses: Mapping[str, str]) -> Iterator[None]:
    """Keep the addresses in the stack's directory until the context ends. The caller holds the directory's lock."""
    file = directory / STACK_FILE
    file.touch(mode=0o600)  # it contains the database's password
    file.write_bytes(msgspec.json.encode(addresses))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
