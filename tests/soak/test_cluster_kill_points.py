"""Break receivers and workers of a cluster at every step: they die, stand still, fail, or have their task cancelled.

Each step is broken in a process of its own, several at a time, beside processes that are well. Afterwards all orders
and events are judged: nothing acknowledged is lost, nothing happened twice.
"""

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from functools import partial

import pytest
from msgspec import structs

from deploy.local import ports, roles
from deploy.local.engine import EngineSpec
from deploy.local.roles import Program, Role
from tests.faults.breaking import HOWS
from tests.faults.breaking_cluster import CALLBACKS, RECEIVER, WORKER
from tests.support import cluster as clusters
from tests.support.cluster import SESSION_S, Cluster, until

WISHED = EngineSpec(receivers=1, workers=1, console=True, balancer=False, sandbox=True)

PROGRAM = (sys.executable, "-P", "-m", "tests.faults.breaking_cluster")
PER_S = 60
AT_A_TIME = 7
AFTER = 2  # so that a batch, or a request, is behind it
HIT_WITHIN_S = 90
STANDS_S = SESSION_S + 3
WANTED = os.environ.get("BREAK_HOW", ",".join(HOWS)).split(",")


def groups() -> list[tuple[str, tuple[str, ...]]]:
    workers, receivers = list(WORKER), list(RECEIVER)
    parts = [
        names[first : first + AT_A_TIME] for names in (workers, receivers) for first in range(0, len(names), AT_A_TIME)
    ]
    return [
        (how, points)
        for how in WANTED
        for part in parts
        if (points := tuple(point for point in part if how != "cancel" or point not in CALLBACKS))
    ]


@pytest.mark.parametrize(
    ("how", "points"), groups(), ids=lambda part: part if isinstance(part, str) else "-".join(part)
)
async def test_processes_broken_at_each_step_lose_nothing_and_repeat_nothing(
    cluster: Cluster, how: str, points: tuple[str, ...]
) -> None:
    broken = [breaking(cluster, point, how) for point in points]
    async with AsyncExitStack() as left, AsyncExitStack() as loads:
        left.push_async_callback(ended, broken)
        await asyncio.gather(*(role.process.start() for role in broken))
        urls = ["", *(role.url for role in broken if role.port)]
        running = [
            await loads.enter_async_context(cluster.sending(rate=PER_S / len(urls), seconds=3 * HIT_WITHIN_S, to=url))
            for url in urls
        ]
        for role in broken:
            await until(partial(is_hit, role), HIT_WITHIN_S)
        if how == "stop":
            await asyncio.sleep(STANDS_S)
            for role in broken:
                role.process.thaw()
        await asyncio.sleep(1)
        await ended(broken)
        for role in broken:
            if role.port:  # so that what got no answer is sent again, to a receiver that is well
                await left.enter_async_context(well(cluster, role).process.running())
        await loads.aclose()
        if how == "raise":
            await replay_dead_letters(cluster)
        for load in running:
            await load.judged(within_s=2 * clusters.QUIET_WITHIN_S)


async def ended(broken: list[Role]) -> None:
    await asyncio.gather(*(role.process.kill() for role in broken))


async def replay_dead_letters(cluster: Cluster) -> None:
    """Do as an operator does after a fault of ours is mended: a record whose batch raised alone is a dead letter."""

    async def is_read() -> bool:
        return await cluster.behind() == 0

    await until(is_read, clusters.QUIET_WITHIN_S)
    admin = cluster.console.admin_url
    await cluster.command("held", "replay", "--reason", "our_fault", "--yes", "--why", "mended", "--admin", admin)


def well(cluster: Cluster, broken: Role) -> Role:
    """A receiver without a fault, not started, on the ports of a broken one."""
    return roles.receiver(
        cluster.directory,
        cluster.machine,
        cluster.program,
        name=f"{broken.name}-well",
        port=broken.port,
        admin=broken.admin_port,
    )


def is_hit(role: Role) -> bool:
    return "planted: " in role.process.output()


def breaking(cluster: Cluster, point: str, how: str) -> Role:
    """One more process, not started, that breaks at this step."""
    program = Program(argv=PROGRAM, settings=cluster.program.settings)
    environ = {**cluster.machine.environ, "BREAK_AT": point, "BREAK_HOW": how, "BREAK_AFTER": str(AFTER)}
    machine = structs.replace(cluster.machine, environ=environ)
    public, admin = ports.free(2)
    name = f"{point.lower()}-{how}"
    if point in RECEIVER:
        return roles.receiver(cluster.directory, machine, program, name=name, port=public, admin=admin)
    return roles.inner(cluster.directory, machine, program, command="worker", name=name, admin=admin)
