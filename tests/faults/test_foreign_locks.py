"""Rows that a stranger has locked in a cluster's order store: other orders go on, and nothing is lost or reordered.

A shell with an open transaction is enough. One worker, so that there is no other to go on.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from deploy.load.corpus import Mix
from deploy.local.engine import EngineSpec
from schemas.dispositions import Reason
from tests.support.cluster import Cluster, Note, is_ready, until

WISHED = EngineSpec(receivers=1, workers=1, console=True, balancer=False, sandbox=False)

PER_S = 40
LOCKED_S = 12.0
RELEASED_WITHIN_S = 30.0


@asynccontextmanager
async def locking(cluster: Cluster, statement: str) -> AsyncIterator[list[Any]]:
    """Another session that locks rows and leaves its transaction open, until the block ends; and these rows."""
    session = await asyncpg.connect(cluster.dsn)
    try:
        transaction = session.transaction()
        await transaction.start()
        yield await session.fetch(statement)
        await transaction.rollback()
    finally:
        await session.close()


async def worst_delay_s(cluster: Cluster, *, since: float, without: list[str]) -> float:
    """The longest time from receipt to disposition of records received since then, of other orders than these.

    A record that was parked waited for another reason: a capture for its payment.
    """
    return float(
        await cluster.one(
            "SELECT coalesce(max(extract(epoch FROM decided_at - received_at)), 0)::float8 FROM deliveries AS d "
            "WHERE received_at > to_timestamp($1) AND order_number <> ALL($2) AND NOT EXISTS (SELECT 1 FROM held AS h "
            "WHERE h.log_partition = d.log_partition AND h.log_offset = d.log_offset)",
            since,
            without,
        )
    )


async def nothing_is_locked(cluster: Cluster) -> bool:
    query = "SELECT count(*) = 0 FROM held WHERE reason = $1 AND resolved_at IS NULL"
    return bool(await cluster.one(query, Reason.LOCKED))


@pytest.mark.parametrize("orders", ["LIMIT 1", ""], ids=["one order", "all orders"])
async def test_orders_behind_a_foreign_lock_wait_alone(cluster: Cluster, measured: Note, orders: str) -> None:
    (worker,) = cluster.engine.workers
    # The same orders again and again, so that each batch has some that are locked.
    mix = Mix(duplicates=0.3, lifecycles=1.0, forgeries=0.0)
    newest = f"SELECT order_number FROM orders ORDER BY changed_at DESC {orders} FOR UPDATE"
    async with cluster.sending(rate=PER_S, seconds=90, mixed=mix) as load:
        await asyncio.sleep(2)
        await until(lambda: cluster.one("SELECT count(*) > 10 FROM orders"), 30)
        began = time.time()
        async with locking(cluster, newest) as rows:
            locked = [row["order_number"] for row in rows]
            assert locked
            await asyncio.sleep(LOCKED_S)
            delay_s = await worst_delay_s(cluster, since=began, without=locked)
            parked = await cluster.one("SELECT count(*) FROM held WHERE reason = $1", Reason.LOCKED)
            behind = await cluster.behind()
            assert await is_ready(worker)
        released_s = await until(lambda: nothing_is_locked(cluster), RELEASED_WITHIN_S)
        await asyncio.sleep(1)
    measured("orders locked", len(locked))
    measured("notifications parked", parked)
    measured("longest from receipt to disposition of the others", delay_s)
    measured("records behind while locked", behind)
    measured("all applied after the release", released_s)
    assert load.failed() == []
    if not orders:
        assert parked > 0, "the schedule met the lock"
    assert delay_s < LOCKED_S / 2, "the others did not wait for the release"
    await load.judged()


async def test_locked_rows_of_outbox_and_leases_stop_no_other_event(cluster: Cluster, measured: Note) -> None:
    async with cluster.sending(rate=PER_S, seconds=90) as load:
        await asyncio.sleep(2)
        sent = "SELECT count(*) >= 100 FROM outbox WHERE sent_at > to_timestamp($1)"
        async with (
            locking(cluster, "SELECT number FROM outbox ORDER BY number DESC LIMIT 20 FOR UPDATE"),
            locking(cluster, "SELECT role FROM leases FOR UPDATE"),
        ):
            await asyncio.sleep(1)
            began = time.time()
            await until(lambda: cluster.one(sent, began), 20)
            measured("100 events marked as sent after", time.time() - began)
            await asyncio.sleep(3)
    assert load.failed() == []
    await load.judged()
    await until(lambda: cluster.one("SELECT count(*) = 0 FROM outbox WHERE sent_at IS NULL"), 30)


async def test_locked_table_is_waited_for_and_nothing_is_held(cluster: Cluster) -> None:
    async with cluster.sending(rate=PER_S, seconds=90) as load:
        await asyncio.sleep(2)
        before = await cluster.one("SELECT count(*) FROM held WHERE reason = $1", Reason.LOCKED)
        async with locking(cluster, "LOCK TABLE orders IN SHARE MODE"):  # as CREATE INDEX holds it
            await asyncio.sleep(LOCKED_S / 2)
            assert await cluster.one("SELECT count(*) FROM held WHERE reason = $1", Reason.LOCKED) == before
        await asyncio.sleep(1)
    assert load.failed() == []
    await load.judged()
