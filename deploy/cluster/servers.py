"""Find the cluster's servers: those that the environment names, otherwise those of a local stack that runs here.

Commands import this before they know whether the client libraries are installed, so it imports none of them.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from deploy import directory_lock
from deploy.cluster import settings
from deploy.cluster.settings import ClusterSettings
from ingest.settings import PREFIX

STACK = Path(".stack")
STACK_FILE = "ready.json"  # written by the local stack (`deploy.local.addresses`), with each server's address by name
NAMED_BY = tuple(f"{PREFIX}{name}" for name in ("KAFKA", "POSTGRES", "POSTGRES_FILE", "REDIS", "REDIS_FILE"))


class Servers(Struct, frozen=True, kw_only=True):
    """Settings that name the servers. A local stack may keep one copy of a topic: one machine is one failure domain."""

    settings: ClusterSettings
    is_local: bool

    @property
    def development(self) -> bool:
        return self.settings.development or self.is_local


def find(environ: Mapping[str, str], *, stack: Path = STACK) -> Servers | None:
    """Return the servers, or `None` if the environment names none and no local stack is ready.

    Raises:
        BadSettings: with every fault found.
    """
    if any(environ.get(name) for name in NAMED_BY):
        return Servers(settings=settings.load(environ), is_local=False)
    running = of_stack(stack)
    if not running:
        return None
    found = {name: running.get(name) for name in ("kafka", "postgres", "redis")}
    return Servers(settings=settings.load(environ, **found), is_local=True)


def of_stack(directory: Path) -> dict[str, str] | None:
    """Return each server's address by its name, or `None` if no local stack is ready in the directory.

    The file may outlive a stack that was killed and its lock does not, so both are checked.
    """
    if directory_lock.holder(directory) is None:
        return None
    try:
        return msgspec.json.decode((directory / STACK_FILE).read_bytes(), type=dict[str, str])
    except (FileNotFoundError, msgspec.DecodeError):  # not ready yet, or no longer
        return None
