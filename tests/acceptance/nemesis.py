"""Break a cluster on purpose, one fault after the other, during a flood.

A fault begins at a share of the flood, not at a time, so a fast machine meets the same faults as a slow one. Each fault
has its own stretch of the flood. If the flood reaches the stretch's end before the fault is over, it slows to a
trickle, which shows when the cluster has recovered.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from aiokafka.errors import KafkaError

from deploy.local import ports
from deploy.local.kafka.cluster import Broker
from deploy.local.redis import Redis
from deploy.local.roles import Role
from tests.acceptance import cluster_dumps
from tests.acceptance.cluster_dumps import NOTIFICATIONS, Stores
from tests.acceptance.dumps import EVENTS, HELD, STATES
from tests.acceptance.sending import History
from tests.support.cluster import Cluster, until

LOCK_S = 30.0
MARGIN_S = 2.0
DEAD_S = 2.0
RECOVERED_WITHIN_S = 180.0  # on a machine that is busy with other tests; the report has how long it took
IN_SYNC_WITHIN_S = 60.0
TRICKLE_S = 40.0  # length of a stretch as a trickle: longer than a fault, even on a slow machine
LOOK_S = 0.2

Fault = Callable[[], Awaitable[None]]


class Nemesis:
    """All faults in turn, over a flood of `count` notifications."""

    def __init__(
        self, cluster: Cluster, redis: Redis, stores: Stores, history: History, count: int, *, session_s: float
    ) -> None:
        self._cluster = cluster
        self._redis = redis
        self._stores = stores
        self._history = history
        self._session_s = session_s
        self.faults: Mapping[str, Fault] = self._all()
        self._stretch = count / (len(self.faults) + 1)
        self._over = 0  # faults
        self.lasted_s: dict[str, float] = {}
        self.recovered_s: dict[str, float] = {}

    def _all(self) -> Mapping[str, Fault]:
        first, second = self._cluster.engine.receivers
        one, other = self._cluster.engine.workers
        return {
            "a receiver is killed": partial(self._killed, first),
            "a worker is killed, and started at once": partial(self._killed, one, dead_s=0.0),
            "the leader of most partitions is killed": self._leader_killed,
            "Redis is killed, and comes back empty": self._redis_killed,
            "a worker is killed, and its partitions are reassigned": partial(
                self._killed, other, dead_s=self._session_s + MARGIN_S
            ),
            "PostgreSQL is killed": self._postgres_killed,
            "the other receiver is killed": partial(self._killed, second),
            "a worker is frozen for longer than its session and its locks": partial(self._frozen, one),
            "the coordinator of the workers' group is killed": self._coordinator_killed,
        }

    async def gate(self, index: int) -> None:
        """Wait until this item of the flood may be sent."""
        if index >= self._stretch * (self._over + 1):
            await asyncio.sleep(TRICKLE_S / self._stretch)

    async def run(self) -> None:
        """Run all faults, and wait for the recovery after each.

        Raises:
            TimeoutError: the cluster did not recover in time.
        """
        for number, (name, fault) in enumerate(self.faults.items()):
            behind = self._stretch * (number + 0.5)
            while self._history.over < behind:  # noqa: ASYNC110 - the history is only a count
                await asyncio.sleep(0.01)
            self._history.begin(name)
            began_s = time.monotonic()
            await fault()
            self.lasted_s[name] = time.monotonic() - began_s
            self._history.end(name)
            try:
                self.recovered_s[name] = await self._recovered()
            except TimeoutError:
                raise TimeoutError(f"no progress within {RECOVERED_WITHIN_S:.0f} s after: {name}") from None
            self._over = number + 1

    async def _recovered(self) -> float:
        """Wait for a new acknowledgement and a new committed record. Return the seconds that took."""
        began = time.monotonic()
        acknowledged = len(self._history.acknowledged)
        committed = sum((await cluster_dumps.committed(self._stores)).values())

        async def goes_on() -> bool:
            if len(self._history.acknowledged) == acknowledged:
                return False
            return sum((await cluster_dumps.committed(self._stores)).values()) > committed

        await until(_while_away(goes_on), RECOVERED_WITHIN_S, every_s=LOOK_S)
        return time.monotonic() - began

    async def _killed(self, role: Role, *, dead_s: float = DEAD_S) -> None:
        await role.process.kill()
        await asyncio.sleep(dead_s)
        await role.process.start()

    async def _frozen(self, role: Role) -> None:
        role.process.freeze()
        await asyncio.sleep(max(self._session_s, LOCK_S) + MARGIN_S)
        role.process.thaw()
        await until(partial(ports.is_ok, role.admin_port, "/readyz"), RECOVERED_WITHIN_S)

    async def _redis_killed(self) -> None:
        await self._redis.process.kill()
        await asyncio.sleep(DEAD_S)
        await self._redis.process.start()

    async def _postgres_killed(self) -> None:
        await self._cluster.postgres.process.kill()
        await asyncio.sleep(DEAD_S)
        await self._cluster.postgres.start_again()

    async def _leader_killed(self) -> None:
        leads = [each["leader"] for each in await cluster_dumps.partitions(self._stores, NOTIFICATIONS)]
        await self._broker_killed(self._broker(max(leads, key=leads.count)))

    async def _coordinator_killed(self) -> None:
        async with cluster_dumps.asked(self._stores) as admin:
            number = await admin.find_coordinator(self._stores.group)
        await self._broker_killed(self._broker(number))

    def _broker(self, number: int) -> Broker:
        (found,) = [broker for broker in self._cluster.kafka.brokers if broker.node.number == number]
        return found

    async def _broker_killed(self, broker: Broker) -> None:
        """Kill the broker until others lead its partitions; start it, and wait until all replicas are in sync."""
        number = broker.node.number
        await broker.process.kill()

        async def others_lead() -> bool:
            return all(each["leader"] not in (number, -1) for each in await self._partitions())

        async def are_in_sync() -> bool:
            return all(len(each["isr"]) == len(each["replicas"]) for each in await self._partitions())

        await until(_while_away(others_lead), IN_SYNC_WITHIN_S, every_s=LOOK_S)
        await broker.process.start()
        await until(_while_away(are_in_sync), IN_SYNC_WITHIN_S, every_s=LOOK_S)

    async def _partitions(self) -> list[Mapping[str, Any]]:
        topics = (NOTIFICATIONS, EVENTS, STATES, HELD)
        return [each for topic in topics for each in await cluster_dumps.partitions(self._stores, topic)]


def _while_away(condition: Callable[[], Awaitable[bool]]) -> Callable[[], Coroutine[Any, Any, bool]]:
    """Return a condition that is false while the cluster does not answer."""

    async def holds() -> bool:
        try:
            return await condition()
        except (KafkaError, OSError):
            return False

    return holds
