"""What holds among workers that share one store: each record one end, each change one event, nobody waits in a circle.

Only the cluster's engine has more than one worker. Each worker here has a store of its own, as a process would.
"""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import asyncpg
import pytest
from msgspec import structs

from schemas import record_format, topics
from schemas.dispositions import Disposition
from schemas.events import Outgoing
from schemas.record_format import Record
from tests.contract.engines import Cluster
from tests.contract.test_store import register
from tests.support import log_records
from tests.support.log_records import NOW_MS, REGISTERED, Time
from tests.support.paths import ROOT
from workers.errors import InfrastructureDamaged, InfrastructureDown, VersionConflict
from workers.postgres import load, outbox, settling, state_resend
from workers.postgres.database import SqlConnection
from workers.postgres.leadership import Leadership
from workers.postgres.outbox import LEFT_BEHIND_MS, LOOK_EVERY_MS
from workers.postgres.state_resend import DOUBT_MS
from workers.postgres.store import PostgresOrderStore
from workers.processing import Processing
from workers.queries import HeldQuery
from workers.settlement import drafting
from workers.settlement.plan import LoadRequest, LogRecord, Position, StoreSnapshot, WritePlan

RIGHTS = ROOT / "deploy/docs/migrations.md"
STATUSES = ("WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED")
Opener = Callable[[int], Awaitable[list[PostgresOrderStore]]]


@pytest.fixture
async def workers(cluster: Cluster) -> AsyncIterator[Opener]:
    """Opens so many workers' stores."""
    async with AsyncExitStack() as stack:

        async def opened(number: int) -> list[PostgresOrderStore]:
            return [await stack.enter_async_context(cluster.store()) for _ in range(number)]

        yield opened
        await cluster.close()


async def stubbornly(work: Processing, batch: Sequence[LogRecord]) -> int:
    """Process the batch as the worker's loop would, again and again until it is done; how often it was fenced."""
    fenced = 0
    while True:
        try:
            await work.process(batch)
        except VersionConflict:
            fenced += 1
            await asyncio.sleep(random.random() * 0.02)
        else:
            return fenced


def at(partition: int, offset: int, record: Record) -> LogRecord:
    return LogRecord(Position(partition, offset), record)


async def dispositions(store: PostgresOrderStore, order: str) -> list[Disposition]:
    page = await store.order_page("shop-sg", order)
    assert page is not None
    return [delivery.disposition for delivery in page.deliveries]


async def test_a_hundred_copies_of_one_notification_over_eight_workers_are_one_effect(
    workers: Opener, time: Time
) -> None:
    stores = await workers(8)
    copies = [at(number % 8, number, log_records.record("N1")) for number in range(100)]
    await asyncio.gather(
        *(
            stubbornly(log_records.processing(store, time), [copy])
            for partition, store in enumerate(stores)
            for copy in copies[partition::8]
        )
    )
    ends = await dispositions(stores[0], "N1")
    assert sorted(ends) == [Disposition.APPLIED] + [Disposition.DUPLICATE] * 99
    page = await stores[0].order_page("shop-sg", "N1")
    assert page is not None
    assert [emitted.event.id for emitted in page.events] == ["shop-sg:N1:1"]


async def test_batches_that_cross_each_other_never_wait_in_a_circle(
    workers: Opener, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.postgres.database.ATTEMPTS_MAX", 1)  # a circle would come out, as `Collided`
    stores = await workers(4)
    chance = random.Random(7)
    orders = [f"N{number}" for number in range(25)]

    async def worker(partition: int, store: PostgresOrderStore) -> int:
        work, fenced = log_records.processing(store, time), 0
        for number in range(12):
            told = [(order, chance.choice(STATUSES)) for order in chance.sample(orders, 20)]
            batch = [
                at(
                    partition,
                    number * 20 + place,
                    log_records.record(order, status, id_=f"{order}-{status}-{partition % 2}"),
                )
                for place, (order, status) in enumerate(told)
            ]
            fenced += await stubbornly(work, batch)
        return fenced

    await asyncio.gather(*(worker(partition, store) for partition, store in enumerate(stores)))
    settled = 0
    for order in orders:
        page = await stores[0].order_page("shop-sg", order)
        assert page is not None
        assert page.order is not None
        assert [emitted.event.id for emitted in page.events] == [
            f"shop-sg:{order}:{version}" for version in range(1, page.order.version + 1)
        ]
        applied = [each.version for each in page.deliveries if each.disposition is Disposition.APPLIED]
        assert sorted(version for version in applied if version) == list(range(1, page.order.version + 1))
        settled += len(page.deliveries)
    assert settled == 4 * 12 * 20


async def test_one_batch_in_two_workers_at_once_is_settled_once(workers: Opener, time: Time) -> None:
    """The zombie and its successor."""
    stores = await workers(2)
    batch = log_records.logged([log_records.record(f"N{number}") for number in range(50)])
    await asyncio.gather(*(stubbornly(log_records.processing(store, time), batch) for store in stores))
    for number in range(50):
        assert await dispositions(stores[0], f"N{number}") == [Disposition.APPLIED]


async def test_who_decided_on_an_order_that_another_has_made_meanwhile_is_fenced(workers: Opener, time: Time) -> None:
    first, second = await workers(2)
    let_go = asyncio.Event()
    news = log_records.logged([log_records.record("N1")])
    older = log_records.logged([log_records.record("N1", "WAIT_BUYER_PAY")], first=2)
    needs, plan = await decided(first, time, news)
    written, looked = asyncio.Event(), asyncio.Event()

    async def write_and_wait(connection: SqlConnection) -> None:
        await settling.settle(connection, needs, lambda _: plan, now_ms=NOW_MS)
        written.set()
        await let_go.wait()

    writing = asyncio.create_task(first._database.write(write_and_wait))
    await written.wait()
    late = log_records.processing(Overheard(second, looked.set), time)
    deciding = asyncio.create_task(late.process(older))
    await looked.wait()
    let_go.set()
    await writing
    with pytest.raises(VersionConflict):
        await deciding
    await late.process(older)
    assert sorted(await dispositions(second, "N1")) == [Disposition.APPLIED, Disposition.STALE]


async def test_records_of_another_log_are_never_taken_for_those_that_are_settled(workers: Opener, time: Time) -> None:
    """Two deployments on one database, or a topic that was made anew and has grown since."""
    (store,) = await workers(1)
    await log_records.processing(store, time).process(
        log_records.logged([log_records.record("N1"), log_records.record("N2")])
    )
    of_another = [received_later(log_records.record(order)) for order in ("M1", "M2", "M3")]
    with pytest.raises(InfrastructureDamaged, match="another record at 0-1 than the log holds"):
        await log_records.processing(store, time).process(log_records.logged(of_another))
    assert await store.order_page("shop-sg", "M3") is None
    await log_records.processing(store, time).process(
        log_records.logged([log_records.record("N1"), log_records.record("N2")])
    )


def received_later(record: Record) -> Record:
    headers = dict(record.headers) | {record_format.Header.RECEIVED_AT.value: b"%d" % (NOW_MS + 5)}
    return structs.replace(record, headers=tuple(headers.items()))


async def decided(store: PostgresOrderStore, time: Time, batch: Sequence[LogRecord]) -> tuple[LoadRequest, WritePlan]:
    """What a worker would write of the batch, without writing it."""
    overheard = Overheard(store, writes=False)
    await log_records.processing(overheard, time).process(batch)
    return overheard.decided[-1]


class Overheard:
    """A store that tells what is decided in it, at the moment between deciding and writing."""

    def __init__(
        self, store: PostgresOrderStore, tell: Callable[[], None] = lambda: None, *, writes: bool = True
    ) -> None:
        self.decided: list[tuple[LoadRequest, WritePlan]] = []
        self.unsent, self.mark_sent = store.unsent, store.mark_sent
        self._store = store
        self._tell = tell
        self._writes = writes

    async def settle(self, needs: LoadRequest, decide: Callable[[StoreSnapshot], WritePlan]) -> WritePlan:
        def listen(known: StoreSnapshot) -> WritePlan:
            plan = decide(known)
            self.decided.append((needs, plan))
            self._tell()
            return plan if self._writes else drafting.empty()

        return await self._store.settle(needs, listen)


# Events, from several workers


async def sent(store: PostgresOrderStore) -> list[str]:
    """Send what this worker would send now; the ids of the order events, and of the states, among it."""
    waiting = await store.unsent(100)
    await store.mark_sent([number for number, _ in waiting])
    return told(waiting)


def told(waiting: Sequence[tuple[int, Outgoing]]) -> list[str]:
    """What is sent: order events by their ids, and states that go to the compacted topic alone."""
    states = [f"state of {event.id}" for _, event in waiting if event.topic == topics.ORDER_STATE]
    return [event.id for _, event in waiting if event.topic == topics.ORDER_EVENT] + states


async def test_each_worker_sends_what_it_wrote(workers: Opener, time: Time) -> None:
    first, second = await workers(2)
    await log_records.processing(first, time).process([at(0, 1, log_records.record("N1"))])
    await log_records.processing(second, time).process([at(1, 1, log_records.record("N2"))])
    assert await sent(second) == ["shop-sg:N2:1"]
    assert await sent(first) == ["shop-sg:N1:1"]
    time.now_ms += LEFT_BEHIND_MS
    assert await sent(first) == await sent(second) == []


async def test_nobody_sends_a_version_while_another_may_still_be_sending_the_one_before(
    workers: Opener, time: Time
) -> None:
    first, second = await workers(2)
    assert await first.sending.leads()
    await log_records.processing(first, time).process([at(0, 1, log_records.record("N1"))])
    later = [log_records.record("N1", "TRADE_FINISHED"), log_records.record("N2")]
    await log_records.processing(second, time).process([at(1, 1, later[0]), at(1, 2, later[1])])
    await log_records.processing(second, time).process([at(1, 3, log_records.record("N1", id_="x", trade="T2"))])
    assert await sent(second) == ["shop-sg:N2:1"]
    assert await sent(first) == ["shop-sg:N1:1"]
    time.now_ms += LEFT_BEHIND_MS
    assert await sent(first) == ["shop-sg:N1:2", "shop-sg:N1:3"]
    await log_records.processing(second, time).process([at(1, 4, log_records.record("N1", id_="y", amount="99.00"))])
    assert await sent(second) == ["shop-sg:N1:4"]


async def test_what_a_dead_worker_left_is_sent_in_its_order_by_the_one_who_leads(
    cluster: Cluster, workers: Opener, time: Time
) -> None:
    (heir,) = await workers(1)
    async with cluster.store() as dying:
        news = [log_records.record("N1", status) for status in STATUSES]
        await log_records.processing(dying, time).process(log_records.logged(news))
    assert await heir.sending.leads()
    assert await sent(heir) == []  # it might be alive
    time.now_ms += LEFT_BEHIND_MS
    assert await sent(heir) == [f"shop-sg:N1:{version}" for version in (1, 2, 3)]


async def test_a_leader_that_always_has_events_of_its_own_sends_what_was_left_behind_all_the_same(
    cluster: Cluster, workers: Opener, time: Time
) -> None:
    (busy,) = await workers(1)
    async with cluster.store() as dying:
        await log_records.processing(dying, time).process([at(1, 1, log_records.record("N1"))])
    time.now_ms += LEFT_BEHIND_MS
    await log_records.processing(busy, time).process([at(0, 1, log_records.record("N2"))])
    assert await sent(busy) == ["shop-sg:N1:1", "shop-sg:N2:1"]


async def test_who_no_longer_sweeps_may_send_and_keeps_nobody_from_sweeping(workers: Opener, time: Time) -> None:
    """A worker that stands still goes on sending; the parked rows are another's then."""
    first, second = await workers(2)
    assert await first.unsent(10) == []
    assert await first.sending.leads()
    assert await second.leadership.leads()


class Late:
    """An order of which the first event was sent by two: by the one who leads, and by one who was slow."""

    def __init__(self, slow: PostgresOrderStore, leader: PostgresOrderStore, time: Time) -> None:
        self.slow = slow
        self.leader = leader
        self._time = time
        self._numbers: list[int] = []

    async def begin(self) -> None:
        assert await self.leader.sending.leads()
        await self.hears(self.slow, 0)
        self._numbers = [number for number, _ in await self.slow.unsent(10)]
        self._time.now_ms += LEFT_BEHIND_MS
        assert await sent(self.leader) == ["shop-sg:N1:1"]

    async def hears(self, worker: PostgresOrderStore, place: int) -> None:
        news = log_records.record("N1", STATUSES[place])
        await log_records.processing(worker, self._time).process([at(place, 1, news)])

    async def ends(self) -> None:
        """The slow one's copy is acknowledged too, and that is written down."""
        await self.slow.mark_sent(self._numbers)

    def pass_doubt(self) -> None:
        self._time.now_ms += DOUBT_MS + LOOK_EVERY_MS


@pytest.fixture
async def late(workers: Opener, time: Time) -> Late:
    slow, leader = await workers(2)
    found = Late(slow, leader, time)
    await found.begin()
    return found


async def test_the_compacted_topic_does_not_end_with_an_event_that_came_late(late: Late) -> None:
    await late.hears(late.leader, 1)
    assert await sent(late.leader) == ["shop-sg:N1:2"]
    late.pass_doubt()
    await late.ends()
    assert await sent(late.slow) == await sent(late.leader) == []
    late.pass_doubt()
    assert await sent(late.leader) == ["state of shop-sg:N1:2"]
    late.pass_doubt()
    assert await sent(late.leader) == []


async def test_who_sent_late_may_die_before_he_can_say_so(late: Late) -> None:
    await late.hears(late.leader, 1)
    assert await sent(late.leader) == ["shop-sg:N1:2"]
    assert await sent(late.leader) == []
    late.pass_doubt()
    assert await sent(late.leader) == ["state of shop-sg:N1:2"]
    late.pass_doubt()
    assert await sent(late.leader) == []


async def test_who_leads_may_die_with_what_was_left_behind_before_he_can_say_so(workers: Opener, time: Time) -> None:
    slow, leader, heir = await workers(3)
    assert await leader.sending.leads()
    await log_records.processing(slow, time).process([at(0, 1, log_records.record("N1"))])
    on_its_way = await slow.unsent(10)
    time.now_ms += LEFT_BEHIND_MS
    assert told(await leader.unsent(10)) == ["shop-sg:N1:1"]
    await slow.mark_sent([number for number, _ in on_its_way])
    await log_records.processing(slow, time).process([at(0, 2, log_records.record("N1", "TRADE_FINISHED"))])
    assert await sent(slow) == ["shop-sg:N1:2"]
    await leader.sending.resign()
    time.now_ms += DOUBT_MS
    assert await sent(heir) == ["state of shop-sg:N1:2"]


async def test_a_state_is_repeated_by_another_where_the_one_who_led_is_gone(late: Late, workers: Opener) -> None:
    late.pass_doubt()
    assert told(await late.leader.unsent(10)) == ["state of shop-sg:N1:1"]
    await late.leader.sending.resign()
    (heir,) = await workers(1)
    assert await sent(heir) == []  # what the leader sent may be on its way
    late.pass_doubt()
    assert await sent(heir) == ["state of shop-sg:N1:1"]
    late.pass_doubt()
    assert await sent(heir) == []


async def test_a_state_that_a_leader_sends_late_is_repeated_after_it(late: Late, workers: Opener) -> None:
    late.pass_doubt()
    repeated = await late.leader.unsent(10)
    assert told(repeated) == ["state of shop-sg:N1:1"]
    await late.leader.sending.resign()
    (heir,) = await workers(1)
    await late.hears(heir, 1)
    assert await sent(heir) == ["shop-sg:N1:2"]
    late.pass_doubt()
    assert await sent(heir) == ["state of shop-sg:N1:2"]
    await late.leader.mark_sent([number for number, _ in repeated])
    late.pass_doubt()
    assert await sent(heir) == ["state of shop-sg:N1:2"]
    late.pass_doubt()
    assert await sent(heir) == []


async def test_what_is_on_its_way_while_an_older_one_comes_late_is_repeated_when_it_is_marked(late: Late) -> None:
    """It may have arrived before the late one, and not be marked yet."""
    await late.hears(late.leader, 1)
    on_its_way = await late.leader.unsent(10)
    late.pass_doubt()
    assert told(await late.leader.unsent(10)) == ["shop-sg:N1:2"]
    await late.leader.mark_sent([number for number, _ in on_its_way])
    late.pass_doubt()
    assert await sent(late.leader) == ["state of shop-sg:N1:2"]


async def test_what_cannot_be_repeated_yet_is_not_looked_at_each_time(late: Late, time: Time) -> None:
    time.now_ms += LOOK_EVERY_MS
    await log_records.processing(late.leader, time).process([at(2, 1, log_records.record("N2"))])
    assert told(await late.leader.unsent(10)) == told(await late.leader.unsent(10)) == ["shop-sg:N2:1"]
    assert await sent(late.leader) == ["shop-sg:N2:1"]
    await late.hears(late.slow, 1)
    late.pass_doubt()

    async def taken() -> list[str]:
        asked = await late.leader._database.write(lambda some: state_resend.take(some, 1, now_ms=time.now_ms))
        return [each.state.id for each in asked]

    assert [await taken() for _ in range(3)] == [[], ["shop-sg:N2:1"], []]


async def test_what_is_written_while_a_state_is_repeated_is_repeated_after_it(late: Late, workers: Opener) -> None:
    (third,) = await workers(1)
    late.pass_doubt()
    repeated = await late.leader.unsent(10)
    assert told(repeated) == ["state of shop-sg:N1:1"]
    await late.hears(third, 1)
    assert await sent(third) == ["shop-sg:N1:2"]
    await late.leader.mark_sent([number for number, _ in repeated])
    assert await sent(late.leader) == ["state of shop-sg:N1:2"]
    assert await sent(late.leader) == []


async def test_what_is_asked_for_again_while_it_is_repeated_is_not_taken_for_done(late: Late) -> None:
    late.pass_doubt()
    repeated = await late.leader.unsent(10)
    assert told(repeated) == ["state of shop-sg:N1:1"]
    await late.ends()
    await late.leader.mark_sent([number for number, _ in repeated])
    late.pass_doubt()
    assert await sent(late.leader) == ["state of shop-sg:N1:1"]


async def test_a_repeat_that_failed_is_tried_again_when_nothing_of_it_can_be_on_its_way(late: Late, time: Time) -> None:
    late.pass_doubt()
    assert told(await late.leader.unsent(10)) == ["state of shop-sg:N1:1"]
    await log_records.processing(late.leader, time).process([at(2, 1, log_records.record("N2"))])
    assert await sent(late.leader) == ["shop-sg:N2:1"]
    time.now_ms += LOOK_EVERY_MS
    assert await sent(late.leader) == []
    late.pass_doubt()
    assert await sent(late.leader) == ["state of shop-sg:N1:1"]
    late.pass_doubt()
    assert await sent(late.leader) == []


async def test_an_event_that_was_tried_twice_is_repeated_when_nothing_of_it_can_be_on_its_way(
    workers: Opener, time: Time
) -> None:
    (alone,) = await workers(1)
    assert await alone.sending.leads()
    await log_records.processing(alone, time).process(
        [at(0, 1, log_records.record("N1")), at(0, 2, log_records.record("N2"))]
    )
    assert told(await alone.unsent(1)) == ["shop-sg:N1:1"]
    assert await sent(alone) == ["shop-sg:N1:1", "shop-sg:N2:1"]
    assert await sent(alone) == []
    time.now_ms += DOUBT_MS + 1
    assert await sent(alone) == ["state of shop-sg:N1:1"]


async def test_a_notice_is_not_repeated(workers: Opener, time: Time) -> None:
    (alone,) = await workers(1)
    await log_records.processing(alone, time).process([at(0, 1, log_records.record("N1", account=REGISTERED))])
    assert [event.topic for _, event in await alone.unsent(10)] == [topics.HELD]
    assert [event.topic for _, event in await alone.unsent(10)] == [topics.HELD]
    await sent(alone)
    time.now_ms += DOUBT_MS + 1
    assert await alone.unsent(10) == []


async def test_a_clock_that_is_set_back_keeps_no_leader_from_looking(
    cluster: Cluster, workers: Opener, time: Time
) -> None:
    (busy,) = await workers(1)
    assert await busy.unsent(10) == []
    time.now_ms -= 3_600_000
    async with cluster.store() as dying:
        await log_records.processing(dying, time).process([at(1, 1, log_records.record("N1"))])
    time.now_ms += LEFT_BEHIND_MS
    await log_records.processing(busy, time).process([at(0, 1, log_records.record("N2"))])
    assert await sent(busy) == ["shop-sg:N1:1", "shop-sg:N2:1"]


async def test_what_is_too_much_to_remember_is_left_to_the_one_who_leads(
    workers: Opener, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.postgres.outbox.FRESH_MAX", 3)
    (store,) = await workers(1)
    work = log_records.processing(store, time)
    await work.process(log_records.logged([log_records.record(f"N{number}") for number in range(5)]))
    await work.process(
        log_records.logged([log_records.record("N1", "TRADE_FINISHED"), log_records.record("N9")], first=9)
    )
    assert await sent(store) == ["shop-sg:N9:1"]
    time.now_ms += LEFT_BEHIND_MS
    assert await sent(store) == [*(f"shop-sg:N{number}:1" for number in range(5)), "shop-sg:N1:2"]


async def loses_all(store: PostgresOrderStore) -> None:
    """A standby takes over that has not heard the last commits: it gives their numbers out again."""
    tables = "outbox, orders, deliveries, notifications, trades"
    await store._database.write(lambda connection: connection.execute(f"TRUNCATE {tables} RESTART IDENTITY"))


async def test_a_number_that_another_worker_was_given_anew_is_not_marked_for_what_was_lost(
    workers: Opener, time: Time
) -> None:
    first, second = await workers(2)
    await log_records.processing(first, time).process([at(0, 1, log_records.record("N1"))])
    lost = await first.unsent(10)
    await loses_all(first)
    await log_records.processing(second, time).process([at(1, 1, log_records.record("N2"))])
    assert [number for number, _ in await second.unsent(10)] == [number for number, _ in lost]
    await first.mark_sent([number for number, _ in lost])
    time.now_ms += LEFT_BEHIND_MS
    assert await sent(first) == ["shop-sg:N2:1"]


async def test_a_number_that_is_given_anew_while_what_was_lost_is_sent_is_still_to_be_sent(
    workers: Opener, time: Time
) -> None:
    (alone,) = await workers(1)
    await log_records.processing(alone, time).process([at(0, 1, log_records.record("N1"))])
    lost = await alone.unsent(10)
    await loses_all(alone)
    await log_records.processing(alone, time).process([at(0, 1, log_records.record("N2"))])
    await alone.mark_sent([number for number, _ in lost])
    assert await sent(alone) == ["shop-sg:N2:1"]


async def test_the_feed_does_not_run_ahead_of_a_transaction_that_may_still_bring_lower_numbers(
    workers: Opener, time: Time
) -> None:
    slow, quick = await workers(2)
    let_go = asyncio.Event()
    took = asyncio.Event()

    async def take_a_number(connection: SqlConnection) -> None:
        await connection.execute(
            "INSERT INTO outbox (id, topic, key, value, headers, version, written_at) "
            "VALUES ('shop-sg:N0:1', 'payments.order.event.v1', '', '', '\\x90', 1, now())"
        )
        took.set()
        await let_go.wait()

    taking = asyncio.create_task(slow._database.write(take_a_number))
    await took.wait()
    await log_records.processing(quick, time).process(log_records.logged([log_records.record("N1")]))
    assert await quick.events_after(0, 10) == []
    let_go.set()
    await taking
    assert [each.event.id for each in await quick.events_after(0, 10)] == ["shop-sg:N0:1", "shop-sg:N1:1"]


# Leadership


async def test_of_several_workers_one_leads_and_when_it_goes_another_does(workers: Opener) -> None:
    first, second = await workers(2)
    assert await first.leadership.leads()
    assert not await second.leadership.leads()
    await first.leadership.resign()
    database = second._database
    assert await Leadership(database, role="sweeping", holder="third").leads()


async def test_a_leader_that_no_longer_asks_is_followed_when_its_lease_has_run_out(workers: Opener) -> None:
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


# Held rows, from several workers


async def test_a_held_row_that_two_workers_try_at_once_is_settled_once(workers: Opener, time: Time) -> None:
    stores = await workers(2)
    record = log_records.record("P1", account=REGISTERED)
    works = [log_records.processing(store, time) for store in stores]
    await works[0].process([at(0, 1, record)])
    time.now_ms += 25 * 3_600_000
    (row,) = await stores[0].due(now_ms=time.now_ms, limit=10)

    async def tried(work: Processing) -> None:
        try:
            await work.retry([row])
        except InfrastructureDown:  # fenced: whoever sweeps reads anew what is due
            return

    await asyncio.gather(*(tried(work) for work in works))
    (page,) = await stores[0].held_list(HeldQuery())
    assert (page.row.disposition, page.row.attempts) == (Disposition.QUARANTINED, 1)
    notices = [event.id for store in stores for _, event in await store.unsent(10)]
    assert set(notices) == {"held:0-1:0:parked", "held:0-1:1:quarantined"}


async def test_the_highest_settled_offset_of_a_partition_is_known(workers: Opener, time: Time) -> None:
    (store,) = await workers(1)
    assert await store.last_settled(3) is None
    batch = [
        structs.replace(each, position=Position(3, each.position.offset))
        for each in log_records.logged([log_records.record("N1"), log_records.record("N2")], first=41)
    ]
    await log_records.processing(store, time).process(batch)
    assert (await store.last_settled(3), await store.last_settled(0)) == (42, None)
    assert (await store.last_settled(3, below=42), await store.last_settled(3, below=41)) == (41, None)
    assert await store.all_settled([Position(3, 41), Position(3, 42)])
    assert not await store.all_settled([Position(3, 42), Position(3, 43)])


async def test_old_events_are_pruned_but_for_the_newest_of_each_order_and_what_is_not_sent(
    workers: Opener, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PRUNE_ROWS_MAX", 2)
    (store,) = await workers(1)
    news = [log_records.record(order, status) for order in ("N1", "N2") for status in STATUSES]
    await log_records.processing(store, time).process(
        log_records.logged([*news, log_records.record("N3", account=REGISTERED)])
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


async def test_an_old_event_is_kept_while_its_order_is_to_be_repeated_for_it(late: Late, time: Time) -> None:
    await late.hears(late.leader, 1)
    assert await sent(late.leader) == ["shop-sg:N1:2"]
    assert await late.leader.prune_sent(older_than_ms=time.now_ms + 1)
    late.pass_doubt()
    assert await sent(late.leader) == ["state of shop-sg:N1:2"]


async def test_what_is_settled_is_known_by_its_position_and_its_moment(workers: Opener, time: Time) -> None:
    """A topic that was made anew has other records at the same positions."""
    (store,) = await workers(1)
    batch = log_records.logged([log_records.record("N1"), log_records.record("N2")], first=41)
    assert not await store.are_settled(batch)
    await log_records.processing(store, time).process(batch)
    assert await store.are_settled(batch)
    later = log_records.sealed(b"", "N2", received_at_ms=NOW_MS + 1)
    assert not await store.are_settled([batch[0], at(0, 42, later)])
    assert not await store.are_settled([*batch, at(0, 43, log_records.record("N3"))])
    assert not await store.are_settled([at(0, 41, Record(b"", b"", ()))])


async def test_a_worker_needs_no_other_rights_than_those_that_are_documented(
    cluster: Cluster, workers: Opener, time: Time
) -> None:
    await workers(1)
    role, password = f"r{secrets.token_hex(6)}", secrets.token_hex(16)
    grants = [line.strip() for line in RIGHTS.read_text().splitlines() if line.startswith("    GRANT ")]
    assert grants
    owner = await asyncpg.connect(cluster.url)
    await owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
    for grant in grants:
        await owner.execute(grant.replace("public", cluster.name).replace("orders_worker", role))
    await owner.close()
    url = f"postgresql://{role}:{password}@{cluster.url.rpartition('@')[2]}"
    store = await PostgresOrderStore.open(url, holder=role, now_ms=time)
    try:
        work = log_records.processing(store, time)
        news = [log_records.record("N1", status) for status in STATUSES]
        await work.process(log_records.logged([*news, news[0], log_records.record("N2", account=REGISTERED)]))
        assert len(await sent(store)) == 3
        time.now_ms += 25 * 3_600_000
        await work.retry(await store.due(now_ms=time.now_ms, limit=10))
        await sent(store)
        assert await store.prune_sent(older_than_ms=time.now_ms)
    finally:
        await store.close()


async def test_what_comes_true_while_a_parked_row_is_tried_is_not_parked_over(
    workers: Opener, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its schedule would let it wait for minutes, and then for hours."""
    trying, other = await workers(2)
    work = log_records.processing(trying, time)
    await work.process([at(0, 1, log_records.record("N1", account=REGISTERED))])
    time.now_ms += 60_000
    (row,) = await trying.due(now_ms=time.now_ms, limit=10)
    lock = load._tries_of_open

    async def registered_meanwhile(connection: SqlConnection, settled: frozenset[Position]) -> dict[Position, int]:
        monkeypatch.setattr(load, "_tries_of_open", lock)
        await register(other, "N1")
        return await lock(connection, settled)

    monkeypatch.setattr(load, "_tries_of_open", registered_meanwhile)
    with pytest.raises(VersionConflict):
        await work.retry([row])
    assert [each.position for each in await trying.due(now_ms=time.now_ms, limit=10)] == [row.position]
    await work.retry([row])
    assert await trying.due(now_ms=time.now_ms + 10 * 3_600_000, limit=10) == []
