"""A cluster whose workers send callbacks, driven as an engine of one process is: `kill` ends the worker that sends."""

import asyncio
import os
import signal

from deploy.local.roles import Role
from tests.support import processes
from tests.support.cluster import Cluster
from tests.support.processes import Engine, eventually

TAKES_OVER_WITHIN_S = 120.0  # the lease, and a slow machine
READY_WITHIN_S = 120.0
_LEADER = "SELECT holder FROM leases WHERE role = 'callbacks' AND until > now()"


class CallbackCluster(Engine):
    """The cluster; the fixture that made it starts and ends its processes."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.public, self.admin = cluster.engine.public_url, cluster.console.admin_url

    def start(self, module: str = "", **environment_now: str) -> None:
        """Wait until a worker sends, then start those that were killed."""
        eventually(self._leader, within_s=TAKES_OVER_WITHIN_S)
        for role in self._cluster.engine.workers:
            if not role.process.runs:
                role.process.spawn()
                eventually(lambda role=role: processes.samples(role.admin_url), within_s=READY_WITHIN_S)

    def kill(self) -> None:
        """Send SIGKILL to the worker that sends."""
        role = eventually(self._leader, within_s=TAKES_OVER_WITHIN_S)
        os.kill(role.process.pid, signal.SIGKILL)
        eventually(lambda: not role.process.runs)

    def metrics(self) -> dict[str, float]:
        """Every sample of the workers by its name with labels, summed."""
        found: dict[str, float] = {}
        for role in self._cluster.engine.workers:
            for name, value in processes.samples(role.admin_url).items():
                found[name] = found.get(name, 0) + value
        return found

    def _leader(self) -> Role | None:
        """Return the running worker that has the lease; its name has its process id in it."""
        holders = [row["holder"] for row in asyncio.run(self._cluster.sql(_LEADER))]
        workers = [role for role in self._cluster.engine.workers if role.process.runs]
        found = [role for role in workers for holder in holders if f"-{role.process.pid}-" in holder]
        return found[0] if found else None
