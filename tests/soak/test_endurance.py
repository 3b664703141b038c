"""Steady load for hours, a fault every minute: nothing is lost, and memory, descriptors, threads, tasks stay flat.

make soak HOURS=8     by default some two minutes, which show that it runs
"""

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable
from statistics import median

import psutil

from deploy.local.engine import EngineSpec
from deploy.local.postgres import Postgres
from deploy.local.redis import Redis
from deploy.local.roles import Role
from tests.support import cluster as clusters
from tests.support.cluster import SESSION_S, Cluster, Note

WISHED = EngineSpec(receivers=2, workers=2, console=True, balancer=True, sandbox=True)

HOURS = float(os.environ.get("HOURS") or "0.03")
ROUND_S = min(300.0, HOURS * 1800)  # at least two, to compare
FAULT_EVERY_S = min(60.0, ROUND_S / 3)
PER_S = 60
GROWTH_MAX = 24 << 20  # of one process, between the first third and the last
DESCRIPTORS_MAX = 40
TASKS_MAX = 40  # requests under way come and go


async def test_hours_of_load_and_faults_leave_memory_flat_and_lose_nothing(
    started: Cluster, local_postgres: Postgres, local_redis: Redis, measured: Note
) -> None:
    chance = random.Random(int(HOURS * 1000))
    steady = [started.engine.receivers[0], started.console]  # never broken, so that their growth is to be seen
    samples: list[dict[str, tuple[int, ...]]] = []
    until_s = time.monotonic() + HOURS * 3600
    faults = 0
    while time.monotonic() < until_s or len(samples) < 2:
        async with started.sending(rate=PER_S, seconds=3 * ROUND_S) as load:
            round_until_s = time.monotonic() + ROUND_S
            while time.monotonic() < round_until_s:
                await asyncio.sleep(FAULT_EVERY_S)
                await chance.choice(accidents(started, local_postgres, local_redis))()
                faults += 1
                samples.append({role.name: await sizes(role) for role in steady})
        await started.whole()
        await load.judged(within_s=2 * clusters.QUIET_WITHIN_S)
    third = max(1, len(samples) // 3)
    for role in steady:
        before, after = (
            [median(sample[role.name][kind] for sample in part) for kind in range(4)]
            for part in (samples[:third], samples[-third:])
        )
        measured(f"{role.name}: memory grown, MiB", (after[0] - before[0]) / (1 << 20))
        assert after[0] - before[0] < GROWTH_MAX
        assert after[1] - before[1] < DESCRIPTORS_MAX
        assert after[2] <= before[2] + 2, "threads"
        measured(f"{role.name}: tasks grown", after[3] - before[3])
        assert after[3] - before[3] < TASKS_MAX
    measured("faults", faults)
    measured("minutes", HOURS * 60)


async def sizes(role: Role) -> tuple[int, ...]:
    """Memory in bytes, descriptors, threads, and tasks on the event loop of the process."""
    process = psutil.Process(role.process.pid)
    tasks = (await clusters.metrics(role))["alipay_notify_async_tasks"]
    return process.memory_info().rss, process.num_fds(), process.num_threads(), int(tasks)


def accidents(cluster: Cluster, postgres: Postgres, redis: Redis) -> list[Callable[[], Awaitable[None]]]:
    """Each ends with everything running again."""
    receiver, worker = cluster.engine.receivers[1], cluster.engine.workers[1]

    async def kill(role: Role) -> None:
        await role.process.kill()
        await role.process.start()

    async def restart(role: Role) -> None:
        await role.process.stop()
        await role.process.start()

    async def freeze(role: Role) -> None:
        role.process.freeze()
        await asyncio.sleep(SESSION_S / 2)
        role.process.thaw()

    async def lose_postgres() -> None:
        await postgres.process.kill()
        await postgres.start_again()

    async def lose_redis() -> None:
        await redis.process.kill()
        await redis.process.start()

    return [
        lambda: kill(worker),
        lambda: restart(worker),
        lambda: freeze(worker),
        lambda: kill(receiver),
        lambda: restart(receiver),
        lose_postgres,
        lose_redis,
    ]
