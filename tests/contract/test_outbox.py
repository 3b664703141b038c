"""The outbox of several workers: which one sends an event, the feed, pruning, and the election of leaders."""

import asyncio

import pytest

from tests.contract.engines import Cluster
from tests.contract.several_workers import Opener, at, sent
from tests.support import log_records
from tests.support.log_records import REGISTERED, Time
from workers.postgres import outbox
from workers.postgres.database import SqlConnection
from workers.postgres.leadership import Leadership
from workers.postgres.outbox import ORPHANED_AFTER_MS
from workers.postgres.store import PostgresOrderStore

STATUSES = ("WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED")


async def test_each_worker_sends_its_own_events(workers: Opener, time: Time) -> None:
    first, second = await workers(2)
    await log_records.processing(first, time).process([at(0, 1, log_records.record("N1"))])
    await log_records.processing(second, time).process([at(1, 1, log_records.record("N2"))])
    assert await sent(second) == ["shop-sg:N2:1"]
    assert await sent(first) == ["shop-sg:N1:1"]
    time.now_ms += ORPHANED_AFTER_MS
    assert await sent(first) == await sent(second) == []


async def test_version_waits_until_another_worker_has_sent_its_predecessor(workers: Opener, time: Time) -> None:
    first, second = await workers(2)
    assert await first.sending.leads()
    await log_records.processing(first, time).process([at(0, 1, log_records.record("N1"))])
    later = [log_records.record("N1", "TRADE_FINISHED"), log_records.record("N2")]
    await log_records.processing(second, time).process([at(1, 1, later[0]), at(1, 2, later[1])])
    await log_records.processing(second, time).process([at(1, 3, log_records.record("N1", id_="x", trade="T2"))])
    assert await sent(second) == ["shop-sg:N2:1"]
    assert await sent(first) == ["shop-sg:N1:1"]
    time.now_ms += ORPHANED_AFTER_MS
    assert await sent(first) == ["shop-sg:N1:2", "shop-sg:N1:3"]
    await log_records.processing(second, time).process([at(1, 4, log_records.record("N1", id_="y", amount="99.00"))])
    assert await sent(second) == ["shop-sg:N1:4"]


async def test_leader_sends_the_events_of_a_dead_worker_in_order(cluster: Cluster, workers: Opener, time: Time) -> None:
    (heir,) = await workers(1)
    async with cluster.store() as dying:
        payment = [log_records.record("N1", status) for status in STATUSES]
        await log_records.processing(dying, time).process(log_records.logged(payment))
    assert await heir.sending.leads()
    assert await sent(heir) == []  # the writer might be alive
    time.now_ms += ORPHANED_AFTER_MS
    assert await sent(heir) == [f"shop-sg:N1:{version}" for version in (1, 2, 3)]


async def test_busy_leader_adopts_orphaned_events_too(cluster: Cluster, workers: Opener, time: Time) -> None:
    (busy,) = await workers(1)
    async with cluster.store() as dying:
        await log_records.processing(dying, time).process([at(1, 1, log_records.record("N1"))])
    time.now_ms += ORPHANED_AFTER_MS
    await log_records.processing(busy, time).process([at(0, 1, log_records.record("N2"))])
    assert await sent(busy) == ["shop-sg:N1:1", "shop-sg:N2:1"]


async def test_leader_adopts_orphans_after_its_clock_was_set_back(
    cluster: Cluster, workers: Opener, time: Time
) -> None:
    (busy,) = await workers(1)
    assert await busy.unsent(10) == []
    time.now_ms -= 3_600_000
    async with cluster.store() as dying:
        await log_records.processing(dying, time).process([at(1, 1, log_records.record("N1"))])
    time.now_ms += ORPHANED_AFTER_MS
    await log_records.processing(busy, time).process([at(0, 1, log_records.record("N2"))])
    assert await sent(busy) == ["shop-sg:N1:1", "shop-sg:N2:1"]


async def test_events_beyond_the_memory_limit_are_left_to_the_leader(
    workers: Opener, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.postgres.outbox.IN_MEMORY_MAX", 3)
    (store,) = await workers(1)
    work = log_records.processing(store, time)
    await work.process(log_records.logged([log_records.record(f"N{number}") for number in range(5)]))
    await work.process(
        log_records.logged([log_records.record("N1", "TRADE_FINISHED"), log_records.record("N9")], first=9)
    )
    assert await sent(store) == ["shop-sg:N9:1"]
    time.now_ms += ORPHANED_AFTER_MS
    assert await sent(store) == [*(f"shop-sg:N{number}:1" for number in range(5)), "shop-sg:N1:2"]


async def lose_everything(store: PostgresOrderStore) -> None:
    """A standby without the last commits takes over: it gives their numbers out again."""
    tables = "outbox, orders, deliveries, notifications, trades"
    await store._database.write(lambda connection: connection.execute(f"TRUNCATE {tables} RESTART IDENTITY"))


async def test_reused_number_of_another_worker_is_not_marked_for_a_lost_event(workers: Opener, time: Time) -> None:
    first, second = await workers(2)
    await log_records.processing(first, time).process([at(0, 1, log_records.record("N1"))])
    lost = await first.unsent(10)
    await lose_everything(first)
    await log_records.processing(second, time).process([at(1, 1, log_records.record("N2"))])
    assert [number for number, _ in await second.unsent(10)] == [number for number, _ in lost]
    await first.mark_sent([number for number, _ in lost])
    time.now_ms += ORPHANED_AFTER_MS
    assert await sent(first) == ["shop-sg:N2:1"]


async def test_number_reused_while_its_lost_event_is_sent_stays_unsent(workers: Opener, time: Time) -> None:
    (alone,) = await workers(1)
    await log_records.processing(alone, time).process([at(0, 1, log_records.record("N1"))])
    lost = await alone.unsent(10)
    await lose_everything(alone)
    await log_records.processing(alone, time).process([at(0, 1, log_records.record("N2"))])
    await alone.mark_sent([number for number, _ in lost])
    assert await sent(alone) == ["shop-sg:N2:1"]


async def test_feed_waits_for_transactions_that_may_add_lower_numbers(workers: Opener, time: Time) -> None:
    slow, quick = await workers(2)
    released = asyncio.Event()
    took = asyncio.Event()

    async def take_a_number(connection: SqlConnection) -> None:
        await connection.execute(
            "INSERT INTO outbox (id, topic, key, value, headers, version, written_at) "
            "VALUES ('shop-sg:N0:1', 'payments.order.event.v1', '', '', '\\x90', 1, now())"
        )
        took.set()
        await released.wait()

    taking = asyncio.create_task(slow._database.write(take_a_number))
    await took.wait()
    await log_records.processing(quick, time).process(log_records.logged([log_records.record("N1")]))
    assert await quick.events_after(0, 10) == []
    released.set()
    await taking
    assert [each.event.id for each in await quick.events_after(0, 10)] == ["shop-sg:N0:1", "shop-sg:N1:1"]


async def test_pruning_keeps_unsent_events_and_the_newest_of_each_order(
    workers: Opener, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PRUNE_ROWS_MAX", 2)
    (store,) = await workers(1)
    payments = [log_records.record(order, status) for order in ("N1", "N2") for status in STATUSES]
    await log_records.processing(store, time).process(
        log_records.logged([*payments, log_records.record("N3", account=REGISTERED)])
    )
    await sent(store)
    await log_records.processing(store, time).process([at(0, 99, log_records.record("N4"))])

    async def pruned(older_than_ms: int) -> list[str]:
        while await store.prune_sent(older_than_ms=older_than_ms):
            pass
        return [emitted.event.id for emitted in await store.events_after(0, 100)]

    assert len(await pruned(time.now_ms)) == 8
    assert await pruned(time.now_ms + 1) == ["shop-sg:N1:3", "shop-sg:N2:3", "shop-sg:N4:1"]
    later = log_records.record("N1", id_="x", amount="99.00")
    await log_records.processing(store, time).process([at(0, 100, later)])
    await sent(store)
    assert await pruned(time.now_ms + 1) == ["shop-sg:N2:3", "shop-sg:N4:1", "shop-sg:N1:4"]


async def test_worker_that_stopped_sweeping_still_sends_and_another_sweeps(workers: Opener, time: Time) -> None:
    """A stopped worker goes on sending; another worker sweeps the parked rows."""
    first, second = await workers(2)
    assert await first.unsent(10) == []
    assert await first.sending.leads()
    assert await second.leadership.leads()


async def test_one_worker_leads_and_another_follows_when_it_resigns(workers: Opener) -> None:
    first, second = await workers(2)
    assert await first.leadership.leads()
    assert not await second.leadership.leads()
    await first.leadership.resign()
    database = second._database
    assert await Leadership(database, role="sweeping", holder="third").leads()


async def test_lease_of_a_silent_leader_expires_and_another_worker_leads(workers: Opener) -> None:
    (store,) = await workers(1)
    database = store._database
    gone = Leadership(database, role="r", holder="gone", lease_s=0.3)
    heir = Leadership(database, role="r", holder="heir", lease_s=0.3)
    assert await gone.leads()
    assert not await heir.leads()
    async with asyncio.timeout(5):
        while not await heir.leads():
            await asyncio.sleep(0.05)
    assert not await gone.leads()
