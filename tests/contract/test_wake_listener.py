"""Wakes that another process hears: at once, of its own schema, and again after its connection was lost.

The fallback of each sweeper here is an hour away.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from schemas.dispositions import Disposition
from tests.contract.engines import Cluster
from tests.contract.several_workers import Opener, at
from tests.contract.shortcuts import parked, register
from tests.support import log_records
from tests.support.fakes import MemoryTopics, PlanObserver
from tests.support.log_records import NOW_MS, Time
from workers.errors import InfrastructureDown
from workers.postgres.store import PostgresOrderStore
from workers.postgres.wake_listener import WakeListener
from workers.queries import HeldQuery
from workers.sweeper import Sweeper

WITHIN_S = 60


class Wakes(asyncio.Event):
    """Counts how often it was set."""

    count = 0

    def set(self) -> None:
        self.count += 1
        super().set()


class NoPause:
    def paused(self, error: InfrastructureDown, *, attempts: int, wait_s: float) -> None:
        pytest.fail(f"the sweeper pauses: {error}")


@asynccontextmanager
async def hearing(url: str, woken: asyncio.Event, *, alive_every_s: float = 30.0) -> AsyncIterator[None]:
    """Listen meanwhile; the block begins when the connection does."""
    task = asyncio.create_task(WakeListener(url, woken, again_s=0.01, alive_every_s=alive_every_s).run())
    try:
        await heard(woken)
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def heard(woken: asyncio.Event) -> None:
    async with asyncio.timeout(WITHIN_S):
        await woken.wait()
    woken.clear()


async def park(store: PostgresOrderStore, time: Time, *orders: str) -> None:
    work = log_records.processing(store, time, MemoryTopics(), PlanObserver())
    await work.process([at(0, offset, parked(order)) for offset, order in enumerate(orders)])
    assert len(await store.held_list(HeldQuery(disposition=Disposition.PARKED))) == len(orders)


async def test_sweeper_retries_at_once_what_another_process_has_released(
    cluster: Cluster, workers: Opener, time: Time
) -> None:
    leading, console = await workers(2)
    await park(console, time, "N1")
    work = log_records.processing(leading, time, MemoryTopics(), PlanObserver())
    assert await leading.leadership.leads()
    sweeper = Sweeper(
        parked=leading,
        retry=work.retry,
        wake_relay=lambda: None,
        woken=leading.woken,
        observer=NoPause(),
        now_ms=lambda: NOW_MS,
        leads=leading.leadership.leads,
        look_every_s=3600,
    )
    async with hearing(cluster.url, leading.woken):
        sweeping = asyncio.create_task(sweeper.run())
        await register(console, "N1")
        async with asyncio.timeout(WITHIN_S):
            while await leading.held_list(HeldQuery(disposition=Disposition.PARKED)):
                await asyncio.sleep(0.01)
        sweeper.stop()
        await sweeping


async def test_another_installation_in_the_same_database_wakes_nobody(
    cluster: Cluster, workers: Opener, time: Time, request: pytest.FixtureRequest
) -> None:
    (store,) = await workers(1)
    await park(store, time, "N1")
    other = Cluster(request.getfixturevalue("local_postgres"), None, time)
    async with other.store() as stranger:
        await park(stranger, time, "N1")
        woken = Wakes()
        async with hearing(cluster.url, woken):
            woken.count = 0
            await register(stranger, "N1")
            await register(store, "N1")
            await heard(woken)
            assert woken.count == 1
    await other.close()


async def test_connection_that_was_cut_is_made_again(cluster: Cluster, workers: Opener, time: Time) -> None:
    (store,) = await workers(1)
    await park(store, time, "N1")
    cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query ILIKE 'LISTEN %'"
    woken = asyncio.Event()
    async with hearing(cluster.url, woken):
        assert await store.database.read(lambda connection: connection.fetchval(cut))
        await heard(woken)  # a wake may have been missed
        await register(store, "N1")
        await heard(woken)


async def test_listener_goes_on_after_it_has_asked_whether_the_server_is_there(
    cluster: Cluster, workers: Opener, time: Time
) -> None:
    (store,) = await workers(1)
    await park(store, time, "N1")
    woken = Wakes()
    async with hearing(cluster.url, woken, alive_every_s=0.01):
        woken.count = 0
        await asyncio.sleep(0.2)
        await register(store, "N1")
        await heard(woken)
        assert woken.count == 1, "it has connected anew"


async def test_transaction_that_releases_nothing_tells_nobody(cluster: Cluster, workers: Opener, time: Time) -> None:
    (store,) = await workers(1)
    await park(store, time, "N1")
    woken = Wakes()
    async with hearing(cluster.url, woken):
        woken.count = 0
        await register(store, "N2")
        await register(store, "N1")
        await heard(woken)
        assert woken.count == 1
