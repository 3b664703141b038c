"""Whether there is a cluster to look at, and where: what the environment names, else the stack that runs here.

No client library is needed to find out.
"""

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from deploy.cluster import settings
from deploy.cluster.settings import ClusterSettings
from deploy.local import addresses
from ingest.settings import PREFIX

STACK = Path(".stack")
NAMED_BY = tuple(f"{PREFIX}{name}" for name in ("KAFKA", "POSTGRES", "POSTGRES_FILE", "REDIS", "REDIS_FILE"))


class Places(Struct, frozen=True, kw_only=True):
    """Where the servers are. On one machine, copies of a topic are worth nothing, so a local stack may have one."""

    told: ClusterSettings
    is_local: bool

    @property
    def development(self) -> bool:
        return self.told.development or self.is_local


def find(environ: Mapping[str, str], *, stack: Path = STACK) -> Places | None:
    """Nothing where no server is named and no stack is ready.

    Raises:
        BadSettings: with every fault found.
    """
    if any(environ.get(name) for name in NAMED_BY):
        return Places(told=settings.load(environ), is_local=False)
    running = addresses.read(stack)
    if not running:
        return None
    found = {name: running.get(name) for name in ("kafka", "postgres", "redis")}
    return Places(told=settings.load(environ, **found), is_local=True)
