"""Several workers on one store: one disposition a record, one event a change, no deadlock.

Only the cluster engine has more than one worker. Each worker here has a store of its own, as a process would.
"""

import asyncio
import random
import secrets
from collections.abc import Callable, Sequence

import asyncpg
import pytest
from msgspec import structs

from schemas import record_format
from schemas.dispositions import Disposition
from schemas.record_format import Record
from tests.contract.engines import Cluster
from tests.contract.several_workers import Opener, at, sent
from tests.contract.shortcuts import register
from tests.support import log_records
from tests.support.log_records import NOW_MS, REGISTERED, Time
from tests.support.paths import ROOT
from workers.callbacks.endpoints import Endpoint
from workers.errors import InfrastructureDamaged, InfrastructureDown, VersionConflict
from workers.postgres import load, settling
from workers.postgres.callbacks import PostgresCallbacks
from workers.postgres.database import SqlConnection
from workers.postgres.store import PostgresOrderStore
from workers.processing import Processing
from workers.queries import HeldQuery
from workers.settlement import drafting, parking
from workers.settlement.plan import (
    LoadRequest,
    LogRecord,
    Position,
    StoreSnapshot,
    WritePlan,
)

RIGHTS = ROOT / "deploy/docs/migrations.md"
STATUSES = ("WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED")


async def stubbornly(work: Processing, batch: Sequence[LogRecord]) -> int:
    """Process the batch as the worker's loop would, until it succeeds; return the number of version conflicts."""
    conflicts = 0
    while True:
        try:
            await work.process(batch)
        except InfrastructureDown as error:  # also a connection that is not free in time, on a slow machine
            conflicts += isinstance(error, VersionConflict)
            await asyncio.sleep(random.random() * 0.02)
        else:
            return conflicts


async def dispositions(store: PostgresOrderStore, order: str) -> list[Disposition]:
    page = await store.order_page("shop-sg", order)
    assert page is not None
    return [delivery.disposition for delivery in page.deliveries]


async def test_hundred_copies_in_eight_workers_change_the_order_once(workers: Opener, time: Time) -> None:
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


async def test_overlapping_batches_of_several_workers_never_deadlock(
    workers: Opener, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.postgres.database.ATTEMPTS_MAX", 1)  # a deadlock would be raised, as `Collided`
    stores = await workers(4)
    chance = random.Random(7)
    orders = [f"N{number}" for number in range(25)]

    async def worker(partition: int, store: PostgresOrderStore) -> int:
        work, conflicts = log_records.processing(store, time), 0
        for number in range(12):
            chosen = [(order, chance.choice(STATUSES)) for order in chance.sample(orders, 20)]
            batch = [
                at(
                    partition,
                    number * 20 + place,
                    log_records.record(order, status, id_=f"{order}-{status}-{partition % 2}"),
                )
                for place, (order, status) in enumerate(chosen)
            ]
            conflicts += await stubbornly(work, batch)
        return conflicts

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


async def test_batch_processed_by_two_workers_at_once_is_applied_once(workers: Opener, time: Time) -> None:
    """A zombie and its successor."""
    stores = await workers(2)
    batch = log_records.logged([log_records.record(f"N{number}") for number in range(50)])
    await asyncio.gather(*(stubbornly(log_records.processing(store, time), batch) for store in stores))
    for number in range(50):
        assert await dispositions(stores[0], f"N{number}") == [Disposition.APPLIED]


async def test_decision_on_a_new_order_conflicts_if_it_was_created_meanwhile(workers: Opener, time: Time) -> None:
    first, second = await workers(2)
    released = asyncio.Event()
    paid = log_records.logged([log_records.record("N1")])
    older = log_records.logged([log_records.record("N1", "WAIT_BUYER_PAY")], first=2)
    needs, plan = await decided(first, time, paid)
    written, looked = asyncio.Event(), asyncio.Event()

    async def write_and_wait(connection: SqlConnection) -> None:
        await settling.settle(connection, needs, lambda _: plan, now_ms=NOW_MS)
        written.set()
        await released.wait()

    writing = asyncio.create_task(first._database.write(write_and_wait))
    await written.wait()
    late = log_records.processing(DecisionRecorder(second, looked.set), time)
    deciding = asyncio.create_task(late.process(older))
    await looked.wait()
    released.set()
    await writing
    with pytest.raises(VersionConflict):
        await deciding
    await late.process(older)
    assert sorted(await dispositions(second, "N1")) == [Disposition.APPLIED, Disposition.STALE]


async def test_record_of_another_log_at_a_processed_offset_is_refused(workers: Opener, time: Time) -> None:
    """Two deployments on one database, or a topic that was created again and has grown since."""
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
    """Return the plan that a worker would write for the batch; nothing is written."""
    recorder = DecisionRecorder(store, writes=False)
    await log_records.processing(recorder, time).process(batch)
    return recorder.decided[-1]


class DecisionRecorder:
    """A store that records each decision, and calls `on_decided` between deciding and writing."""

    def __init__(
        self, store: PostgresOrderStore, on_decided: Callable[[], None] = lambda: None, *, writes: bool = True
    ) -> None:
        self.decided: list[tuple[LoadRequest, WritePlan]] = []
        self.unsent, self.mark_sent, self.set_aside = store.unsent, store.mark_sent, store.set_aside
        self._store = store
        self._on_decided = on_decided
        self._writes = writes

    async def settle(self, needs: LoadRequest, decide: Callable[[StoreSnapshot], WritePlan]) -> WritePlan:
        def recorded(snapshot: StoreSnapshot) -> WritePlan:
            plan = decide(snapshot)
            self.decided.append((needs, plan))
            self._on_decided()
            return plan if self._writes else drafting.empty()

        return await self._store.settle(needs, recorded)


async def test_held_row_retried_by_two_workers_at_once_is_settled_once(workers: Opener, time: Time) -> None:
    stores = await workers(2)
    record = log_records.record("P1", account=REGISTERED)
    works = [log_records.processing(store, time) for store in stores]
    await works[0].process([at(0, 1, record)])
    for _ in range(parking.GIVE_UP_AFTER_RETRIES - 1):
        time.now_ms += 76 * 60_000
        await works[0].retry(await stores[0].due(now_ms=time.now_ms, limit=10))
    time.now_ms += 76 * 60_000
    (row,) = await stores[0].due(now_ms=time.now_ms, limit=10)

    async def tried(work: Processing) -> None:
        try:
            await work.retry([row])
        except InfrastructureDown:  # a version conflict: the sweeper reads the due rows again
            return

    await asyncio.gather(*(tried(work) for work in works))
    (page,) = await stores[0].held_list(HeldQuery())
    retries = parking.GIVE_UP_AFTER_RETRIES
    assert (page.row.disposition, page.row.attempts) == (Disposition.QUARANTINED, retries)
    notices = [event.id for store in stores for _, event in await store.unsent(10)]
    assert set(notices) == {"held:0-1:0:parked", f"held:0-1:{retries}:quarantined"}


async def test_last_settled_is_the_partitions_highest_processed_offset(workers: Opener, time: Time) -> None:
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


async def test_processed_record_is_recognised_by_offset_and_receive_time(workers: Opener, time: Time) -> None:
    """A topic that was created again has other records at the same offsets."""
    (store,) = await workers(1)
    batch = log_records.logged([log_records.record("N1"), log_records.record("N2")], first=41)
    assert not await store.are_settled(batch)
    await log_records.processing(store, time).process(batch)
    assert await store.are_settled(batch)
    later = log_records.sealed(b"", "N2", received_at_ms=NOW_MS + 1)
    assert not await store.are_settled([batch[0], at(0, 42, later)])
    assert not await store.are_settled([*batch, at(0, 43, log_records.record("N3"))])
    assert not await store.are_settled([at(0, 41, Record(b"", b"", ()))])


async def test_record_that_was_set_aside_is_recognised_without_being_read(workers: Opener, time: Time) -> None:
    (store,) = await workers(1)
    (fatal,) = log_records.logged([log_records.record("N1")], first=41)
    time.now_ms += 1000  # it was received a while ago
    await log_records.processing(store, time).set_aside(fatal)
    assert await store.are_settled([fatal])


async def test_documented_rights_are_enough_for_a_worker(cluster: Cluster, workers: Opener, time: Time) -> None:
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
        payment = [log_records.record("N1", status) for status in STATUSES]
        await work.process(log_records.logged([*payment, payment[0], log_records.record("N2", account=REGISTERED)]))
        assert len(await sent(store)) == 3
        time.now_ms += 25 * 3_600_000
        await work.retry(await store.due(now_ms=time.now_ms, limit=10))
        await sent(store)
        assert len(await store.events_after(0, 10)) >= 3
        callbacks = PostgresCallbacks(store.database, store.reads)
        shop = Endpoint(name="shop", url="https://shop.example/", secrets=(b"s" * 24,))
        await callbacks.configure([shop], now_ms=time.now_ms)
        of_order = {"number": None, "scope": "shop-sg", "order": "N1", "version": 1, "by": "tests", "why": "rights"}
        assert await callbacks.resend("shop", **of_order, now_ms=time.now_ms) == 1  # type: ignore[arg-type]
        assert len((await callbacks.step(shop, [], busy=(), limit=9, now_ms=time.now_ms)).due) == 1
        assert await store.prune_sent(older_than_ms=time.now_ms)
    finally:
        await store.close()


async def test_condition_that_comes_true_during_a_retry_is_not_lost(
    workers: Opener, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise its schedule would let it wait for minutes, and then for hours."""
    trying, other = await workers(2)
    work = log_records.processing(trying, time)
    await work.process([at(0, 1, log_records.record("N1", account=REGISTERED))])
    time.now_ms += 60_000
    (row,) = await trying.due(now_ms=time.now_ms, limit=10)
    lock = load._held_attempts

    async def registered_meanwhile(connection: SqlConnection, settled: frozenset[Position]) -> dict[Position, int]:
        monkeypatch.setattr(load, "_held_attempts", lock)
        await register(other, "N1")
        return await lock(connection, settled)

    monkeypatch.setattr(load, "_held_attempts", registered_meanwhile)
    with pytest.raises(VersionConflict):
        await work.retry([row])
    assert [each.position for each in await trying.due(now_ms=time.now_ms, limit=10)] == [row.position]
    await work.retry([row])
    assert await trying.due(now_ms=time.now_ms + 10 * 3_600_000, limit=10) == []
