"""The outbox of several workers: which one sends an event, the feed, pruning, and the election of leaders."""

import asyncio
from collections.abc import Collection

import asyncpg
import pytest

from schemas import topics
from tests.contract.engines import AnyStore, Cluster
from tests.contract.several_workers import LOOK_EVERY_MS, ORPHANED_AFTER_MS, WALK_AGAIN_MS, Opener, at, sent
from tests.support import log_records
from tests.support.fakes import AwayTopics, MemoryTopics
from tests.support.log_records import REGISTERED, Time
from workers.postgres import outbox
from workers.postgres.database import SqlConnection
from workers.postgres.leadership import Leadership
from workers.postgres.store import PostgresOrderStore

STATUSES = ("WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED")
_DRAW = (
    "INSERT INTO outbox (id, topic, key, value, headers, version, written_at) "
    "VALUES ($1, 'payments.order.event.v1', '', '', '\\x90', 1, now())"
)


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
    assert await sent(first) == []
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
    await log_records.processing(busy, time).process([at(0, 1, log_records.record("N0"))])
    assert await sent(busy) == ["shop-sg:N0:1"]
    time.now_ms += ORPHANED_AFTER_MS
    await log_records.processing(busy, time).process([at(0, 2, log_records.record("N2"))])
    assert await sent(busy) == ["shop-sg:N1:1", "shop-sg:N2:1"]


@pytest.mark.parametrize("hours", [-26, 1, 26])
async def test_orphans_of_a_machine_whose_clock_is_wrong_are_adopted_as_soon(
    cluster: Cluster, workers: Opener, time: Time, hours: int
) -> None:
    (heir,) = await workers(1)
    wrong = Time(time.now_ms + hours * 3_600_000)
    async with cluster.store(now_ms=wrong) as console:
        await log_records.processing(console, wrong).process([at(1, 1, log_records.record("N1"))])
    await log_records.processing(heir, time).process([at(0, 1, log_records.record("N2"))])
    assert await sent(heir) == ["shop-sg:N2:1"]
    time.now_ms += ORPHANED_AFTER_MS
    assert await sent(heir) == ["shop-sg:N1:1"]


async def test_leader_looks_at_orphans_anew_after_another_has_led(
    cluster: Cluster, workers: Opener, time: Time
) -> None:
    (first, second) = await workers(2)
    assert await sent(first) == []
    assert await first.sending.leads()
    await first.sending.resign()
    assert await sent(second) == []
    async with cluster.store() as dying:
        await log_records.processing(dying, time).process([at(1, 1, log_records.record("N1"))])
    time.now_ms += ORPHANED_AFTER_MS
    assert await sent(second) == []  # it was there only now
    time.now_ms += ORPHANED_AFTER_MS
    assert await sent(second) == ["shop-sg:N1:1"]


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
    time.now_ms += LOOK_EVERY_MS
    assert await sent(store) == []
    time.now_ms += ORPHANED_AFTER_MS
    assert await sent(store) == [*(f"shop-sg:N{number}:1" for number in range(5)), "shop-sg:N1:2"]


class Refusing:
    """The relay of one worker, whose topics refuse the events of some orders."""

    def __init__(self, store: AnyStore, time: Time, refused: Collection[str]) -> None:
        self.topics = MemoryTopics()
        self.topics.refuses = {f"shop-sg:{order}:1" for order in refused}
        self.work = log_records.processing(store, time, self.topics)

    @property
    def sent(self) -> list[str]:
        return [event.id for event in self.topics.events if event.topic != topics.ORDER_STATE]

    async def emit(self) -> None:
        """Run rounds of the relay, as it does without a rest."""
        while await self.work.emit(10) == 10:
            pass


async def test_refused_events_do_not_starve_the_others_and_come_back_later(store: AnyStore, time: Time) -> None:
    """On both engines: more refused events than fit into a round."""
    relay = Refusing(store, time, [f"A{number}" for number in range(25)])
    records = [log_records.record(f"A{number}") for number in range(25)]
    await relay.work.process(log_records.logged([*records, log_records.record("B")]))
    await relay.emit()
    assert relay.sent == ["shop-sg:B:1"]
    relay.topics.refuses.clear()
    for _ in range(3):
        time.now_ms += WALK_AGAIN_MS // 2
        await relay.emit()
    assert sorted(relay.sent) == sorted(["shop-sg:B:1", *(f"shop-sg:A{number}:1" for number in range(25))])


async def test_versions_after_a_refused_one_wait_for_it(store: AnyStore, time: Time) -> None:
    relay = Refusing(store, time, ["N1"])
    await relay.work.process(log_records.logged([log_records.record("N1"), log_records.record("N2")]))
    await relay.emit()
    assert relay.sent == ["shop-sg:N2:1"]
    later = [log_records.record(order, "TRADE_FINISHED") for order in ("N1", "N2")]
    await relay.work.process(log_records.logged(later, first=10))
    await relay.emit()
    relay.topics.refuses.clear()
    for _ in range(6):
        time.now_ms += WALK_AGAIN_MS // 2
        await relay.emit()
    assert relay.sent == ["shop-sg:N2:1", "shop-sg:N2:2", "shop-sg:N1:1", "shop-sg:N1:2"]


async def test_events_of_topics_that_are_away_are_not_offered(store: AnyStore, time: Time) -> None:
    relay = Refusing(store, time, [])
    parked = [log_records.record(f"P{number}", account=REGISTERED) for number in range(30)]
    await relay.work.process(log_records.logged([*parked, log_records.record("N1")]))
    relay.topics.away = AwayTopics(topics.HELD)
    await relay.emit()
    assert relay.sent == ["shop-sg:N1:1"]
    relay.topics.away = AwayTopics()
    await relay.emit()
    assert len(relay.sent) == 31


async def test_refused_events_do_not_starve_the_others_after_a_takeover(
    cluster: Cluster, workers: Opener, time: Time
) -> None:
    async with cluster.store() as dying:
        records = [log_records.record(f"A{number}") for number in range(25)]
        records += [log_records.record("B"), log_records.record("A3", "TRADE_FINISHED")]
        await log_records.processing(dying, time).process(log_records.logged(records))
    (heir,) = await workers(1)
    relay = Refusing(heir, time, [f"A{number}" for number in range(25)])
    assert await heir.sending.leads()
    await relay.emit()
    time.now_ms += ORPHANED_AFTER_MS
    await relay.emit()
    assert relay.sent == ["shop-sg:B:1"]
    assert len(relay.topics.tried) == len(set(relay.topics.tried)), "each once"
    relay.topics.refuses.clear()
    time.now_ms += WALK_AGAIN_MS
    await relay.emit()
    assert sorted(relay.sent)[:2] == ["shop-sg:A0:1", "shop-sg:A10:1"]
    assert relay.sent.index("shop-sg:A3:1") < relay.sent.index("shop-sg:A3:2")
    assert len(relay.sent) == 27


async def test_orphans_beyond_the_memory_limit_do_not_fill_it_while_their_topic_is_away(
    cluster: Cluster, workers: Opener, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.postgres.outbox.IN_MEMORY_MAX", 20)
    (heir,) = await workers(1)
    relay = Refusing(heir, time, [])
    await relay.emit()
    async with cluster.store() as dying:
        parked = [log_records.record(f"P{number}", account=REGISTERED) for number in range(60)]
        await log_records.processing(dying, time).process(log_records.logged([*parked, log_records.record("N1")]))
    time.now_ms += LOOK_EVERY_MS
    await relay.emit()
    time.now_ms += ORPHANED_AFTER_MS
    assert len(await heir.unsent(10)) == 10  # adopted, and then their topic goes
    relay.topics.away = AwayTopics(topics.HELD)
    for _ in range(8):
        time.now_ms += LOOK_EVERY_MS
        await relay.emit()
    assert relay.sent == ["shop-sg:N1:1"]
    relay.topics.away = AwayTopics()
    for _ in range(8):
        time.now_ms += LOOK_EVERY_MS
        await relay.emit()
    assert len(set(relay.sent)) == 61


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
    time.now_ms += LOOK_EVERY_MS
    assert await sent(first) == []
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
        await connection.execute(_DRAW, "shop-sg:N0:1")
        took.set()
        await released.wait()

    taking = asyncio.create_task(slow._database.write(take_a_number))
    await took.wait()
    await log_records.processing(quick, time).process(log_records.logged([log_records.record("N1")]))
    assert await quick.events_after(0, 10) == []
    released.set()
    await taking
    assert [each.event.id for each in await quick.events_after(0, 10)] == ["shop-sg:N0:1", "shop-sg:N1:1"]


async def test_feed_waits_for_the_youngest_of_all_transactions(workers: Opener, cluster: Cluster) -> None:
    """No other transaction begins or ends after it, so that no number of PostgreSQL's shows that one runs."""
    (store,) = await workers(1)
    old, young = await asyncpg.connect(cluster.url), await asyncpg.connect(cluster.url)
    try:
        await old.execute("BEGIN; SELECT pg_current_xact_id()")
        await young.execute("BEGIN; SELECT pg_current_xact_id()")
        await young.execute(_DRAW, "lower")
        await old.execute(_DRAW, "higher")
        await old.execute("COMMIT")
        assert await store.events_after(0, 10) == []
        await young.execute("COMMIT")
        assert [each.event.id for each in await store.events_after(0, 10)] == ["lower", "higher"]
    finally:
        await old.close()
        await young.close()


async def test_feed_of_many_writers_at_once_leaves_out_no_number(workers: Opener, cluster: Cluster) -> None:
    (store,) = await workers(1)
    pool = await asyncpg.create_pool(cluster.url, min_size=4, max_size=4)
    seen: list[int] = []

    async def write(writer: int) -> None:
        for number in range(100):
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute(_DRAW, f"{writer}-{number}")

    async def look() -> None:
        seen.extend(each.number for each in await store.events_after(seen[-1] if seen else 0, 1_000))

    async with pool:
        writing = [asyncio.create_task(write(writer)) for writer in range(4)]
        while not all(each.done() for each in writing):
            await look()
        await asyncio.gather(*writing)
    await look()
    written = [each.number for each in await store.events_after(0, 1_000)]
    assert len(written) == 400
    assert seen == written


async def test_feed_waits_for_no_transaction_of_a_stranger(workers: Opener, time: Time, cluster: Cluster) -> None:
    (store,) = await workers(1)
    work = log_records.processing(store, time)
    await work.process(log_records.logged([log_records.record("N1")]))
    shell = await asyncpg.connect(cluster.url)
    try:
        await shell.execute("BEGIN; SELECT pg_current_xact_id(); LOCK TABLE numbers IN ROW EXCLUSIVE MODE")
        assert await shell.fetch("SELECT 1 FROM orders WHERE order_number = 'N1' FOR UPDATE")
        await work.process(log_records.logged([log_records.record("N2")], first=2))
        found = await store.events_after(0, 10)
    finally:
        await shell.close()
    assert [each.event.id for each in found] == ["shop-sg:N1:1", "shop-sg:N2:1"]


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


@pytest.mark.parametrize("hours", [-26, 26])
async def test_lease_from_before_a_jump_of_the_databases_clock_is_taken_over(workers: Opener, hours: int) -> None:
    (store,) = await workers(1)
    database = store._database
    gone, heir = [Leadership(database, role="r", holder=name) for name in ("gone", "heir")]
    assert await gone.leads()
    await database.write(
        lambda connection: connection.execute(f"UPDATE leases SET until = until + interval '{hours} hours'")
    )
    assert await heir.leads()
