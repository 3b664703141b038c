"""A storm of rebalances: a further worker joins and leaves, again and again, while records come in."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.cluster import Cluster, Note, until

PROGRESS_S = 30.0
LOOK_S = 0.1
JOINED_FOR_S = 1.0
SETTLED = "SELECT count(*) FROM deliveries"


async def rebalances(cluster: Cluster, *, turns: int, measured: Note) -> None:
    """Let a worker join the group, and leave it or die, that often. Work must not stand for half a minute meanwhile."""
    async with watched(cluster) as waits:
        for turn in range(turns):
            guest = cluster.another("worker", f"worker-guest-{turn}")
            guest.process.spawn()
            try:
                await guest.process.ready()  # it has joined
                await asyncio.sleep(JOINED_FOR_S)
            finally:
                await (guest.process.stop() if turn % 2 else guest.process.kill())
        before = await cluster.one(SETTLED)
        await until(lambda: is_beyond(cluster, before), PROGRESS_S, every_s=LOOK_S)
    measured("longest wait for progress", max(waits))
    assert max(waits) < PROGRESS_S


async def is_beyond(cluster: Cluster, before: int) -> bool:
    return bool(await cluster.one(SETTLED) > before)


@asynccontextmanager
async def watched(cluster: Cluster) -> AsyncIterator[list[float]]:
    """Collect how long each new record was waited for while the block lasts."""
    waits = [0.0]

    async def watch() -> None:
        known, since = 0, time.monotonic()
        while True:
            settled = await cluster.one(SETTLED)
            waits.append(time.monotonic() - since)
            if settled > known:
                known, since = settled, time.monotonic()
            await asyncio.sleep(LOOK_S)

    watching = asyncio.create_task(watch())
    try:
        yield waits
        assert not watching.done(), "the watch ended"
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
