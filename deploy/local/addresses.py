"""Where the running stack's servers are found, for the doctor and for whoever comes later.

The file may outlive a stack that was killed; the directory's lock does not, so both are asked. No client library is
needed to read it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from deploy.local import directory

NAME = "ready.json"


@contextmanager
def told(path: Path, addresses: Mapping[str, str]) -> Iterator[None]:
    """While the context lasts, `read` finds them. Whoever has the directory calls this."""
    file = path / NAME
    file.touch(mode=0o600)  # a database's password stands in it
    file.write_bytes(msgspec.json.encode(addresses))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def read(path: Path) -> dict[str, str] | None:
    """Each server's address by its name; nothing where no stack is ready in the directory."""
    if directory.holder(path) is None:
        return None
    try:
        return msgspec.json.decode((path / NAME).read_bytes(), type=dict[str, str])
    except (FileNotFoundError, msgspec.DecodeError):  # not ready yet, or not any more
        return None
