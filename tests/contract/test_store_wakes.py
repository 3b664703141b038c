"""Rows that are woken in every order store: however many there are, in short transactions, and around foreign locks."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest

from deploy.embedded.store import SqliteOrderStore
from schemas.dispositions import Disposition
from tests.contract.engines import AnyStore, Cluster, Engine
from tests.contract.several_workers import Opener
from tests.contract.shortcuts import dispositions, parked, register
from tests.support import bulk, log_records
from tests.support.bulk import HeldKind
from tests.support.fakes import Unobserved
from tests.support.log_records import NOW_MS, REGISTERED, SHOP, Operator, Time
from workers.errors import InfrastructureDown, RowsLocked
from workers.learnt_accounts import LearntAccounts
from workers.postgres.store import PostgresOrderStore
from workers.processing import Processing
from workers.queries import HeldQuery
from workers.replays import NewTask, Replayer, ReplayState
from workers.row_codec import Row
from workers.settlement import decision, drafting, loading, parking
from workers.settlement.parking import WOKEN_MAX
from workers.sweeper import Sweeper

MANY = 2 * WOKEN_MAX + 500
LATER_MS = NOW_MS + 3_600_000
WAITING = HeldKind(SHOP.name, "parked", "unknown_account")


def row(offset: int, waits_for: str) -> Row:
    """A row that waits, and is due in an hour if nothing wakes it."""
    *begin, _, _, resolved_at_ms, resolution = bulk.held_row(offset, WAITING, NOW_MS, order=f"P{offset}")
    return (*begin, LATER_MS, waits_for, resolved_at_ms, resolution)


async def count_due(store: AnyStore) -> int:
    return len(await store.due(now_ms=NOW_MS, limit=2 * MANY))


async def wake(store: AnyStore, *conditions: str) -> None:
    plan = drafting.empty()
    plan.wakes.update((SHOP.name, condition) for condition in conditions)
    await store.settle(loading.load_request([]), lambda _: plan)


class NoPause:
    def paused(self, error: InfrastructureDown, *, attempts: int, wait_s: float) -> None:
        pytest.fail(f"the sweeper pauses: {error}")


async def test_sweeper_retries_at_once_what_becomes_due_and_needs_no_look(store: AnyStore, work: Processing) -> None:
    assert isinstance(store, PostgresOrderStore | SqliteOrderStore)
    await work.process(log_records.logged([parked("N1")]))
    assert await store.held_list(HeldQuery(disposition=Disposition.PARKED))
    sweeper = Sweeper(
        parked=store,
        retry=work.retry,
        wake_relay=lambda: None,
        woken=store.woken,
        observer=NoPause(),
        now_ms=lambda: NOW_MS,
        look_every_s=3600,
    )
    sweeping = asyncio.create_task(sweeper.run())
    await asyncio.sleep(0.05)
    await register(store, "N1")
    async with asyncio.timeout(60):
        while await store.held_list(HeldQuery(disposition=Disposition.PARKED)):
            await asyncio.sleep(0.01)
    sweeper.stop()
    await sweeping


async def most_in_one_transaction(store: AnyStore) -> int:
    """How many held rows one transaction of PostgreSQL has written last."""
    assert isinstance(store, PostgresOrderStore)
    query = "SELECT max(count) FROM (SELECT count(*) FROM held WHERE due_at <= $1 GROUP BY xmin) AS written"
    return int(await store.database.read(lambda connection: connection.fetchval(query, NOW_MS)))


async def until_all_are_due(store: AnyStore) -> list[int]:
    """Go on as the sweeper does; return how many rows are due after each transaction."""
    counts = [await count_due(store)]
    while await store.wake_more():
        counts.append(await count_due(store))
    return counts


async def test_account_with_very_many_parked_rows_wakes_them_in_slices(engine: Engine) -> None:
    async with engine.store() as store:
        await bulk.add(store, "held", (row(offset, parking.account_key(SHOP.family)) for offset in range(MANY)))
        learnt = LearntAccounts({SHOP.name: SHOP}, store)
        learnt.learn([SHOP.name])
        learning = asyncio.create_task(learnt.run())
        async with asyncio.timeout(30):
            while learnt._names:
                await asyncio.sleep(0.01)
        learning.cancel()
        await store.wake_more()
        assert 0 < await count_due(store) <= 2 * WOKEN_MAX
    async with engine.store() as store:  # another process
        counts = await until_all_are_due(store)
        assert counts[-1] == MANY
        assert max(later - earlier for earlier, later in itertools.pairwise(counts)) <= WOKEN_MAX
        if isinstance(store, PostgresOrderStore):
            assert await most_in_one_transaction(store) <= WOKEN_MAX


async def test_very_many_conditions_wake_their_rows_in_slices(store: AnyStore) -> None:
    await bulk.add(store, "held", (row(offset, f"order:P{offset}") for offset in range(MANY)))
    await wake(store, *(f"order:P{offset}" for offset in range(MANY - 100)))
    counts = await until_all_are_due(store)
    assert counts[-1] == MANY - 100, "the others wait for other orders"
    assert max(later - earlier for earlier, later in itertools.pairwise([0, *counts])) <= WOKEN_MAX


async def test_row_that_waits_again_is_not_woken_again_by_the_same_wake(store: AnyStore) -> None:
    await bulk.add(store, "held", (row(offset, "order:A") for offset in range(MANY)))
    await wake(store, "order:A")
    while await count_due(store) == 0:
        await store.wake_more()
    await parked_again(store, offset=3)
    counts = await until_all_are_due(store)
    assert counts[-1] == MANY - 1


async def parked_again(store: AnyStore, offset: int) -> None:
    if isinstance(store, SqliteOrderStore):
        statement = "UPDATE held SET due_at_ms = ? WHERE log_offset = ?"
        await store.database.write(lambda connection: connection.execute(statement, (LATER_MS, offset)))
        return
    assert isinstance(store, PostgresOrderStore)
    in_place = "UPDATE held SET due_at = $1 WHERE log_offset = $2"
    await store.database.write(lambda connection: connection.execute(in_place, LATER_MS, offset))


@asynccontextmanager
async def stranger(cluster: Cluster, statement: str) -> AsyncIterator[None]:
    """Another session with an open transaction, until the block ends."""
    session = await asyncpg.connect(cluster.url)
    transaction = session.transaction()
    await transaction.start()
    await session.execute(statement)
    try:
        yield
    finally:
        await transaction.rollback()
        await session.close()


async def test_locked_row_stops_no_registration_and_is_woken_after_it(
    cluster: Cluster, workers: Opener, time: Time
) -> None:
    store, *_ = await workers(1)
    work = log_records.processing(store, time)
    await work.process(log_records.logged([parked("P1"), parked("P1", id_="again"), parked("P2")]))
    async with stranger(cluster, "SELECT FROM held WHERE log_offset = 1 FOR UPDATE"):
        await register(store, "P1")
        await register(store, "P2")
        for _ in range(3):
            assert await store.wake_more(), "it is not forgotten"
        assert [row.position.offset for row in await store.due(now_ms=NOW_MS, limit=10)] == [2, 3]
    assert await store.wake_more()
    due = await store.due(now_ms=NOW_MS, limit=10)
    assert [row.position.offset for row in due] == [1, 2, 3]
    await work.retry(due)
    assert await dispositions(store, "P1", REGISTERED.name) == ["applied", "duplicate"]
    assert not await store.wake_more()


async def test_locked_wakes_and_rows_stop_no_registration_and_no_due_row(
    cluster: Cluster, workers: Opener, time: Time
) -> None:
    store, *_ = await workers(1)
    work = log_records.processing(store, time)
    await work.process(log_records.logged([parked("P1"), parked("P2"), parked("P3")]))
    async with stranger(cluster, "SELECT FROM held WHERE log_offset = 1 FOR UPDATE"):
        await register(store, "P1")
        async with stranger(cluster, "SELECT FROM wakes FOR UPDATE"):
            await register(store, "P2")
            assert await store.wake_more()
            async with stranger(cluster, "SELECT FROM held WHERE log_offset = 2 FOR UPDATE"):
                await register(store, "P3")
                due = await store.due(now_ms=NOW_MS, limit=1)
                assert [row.position.offset for row in due] == [3], "the one that was due before it is locked"
    await store.wake_more()
    await work.retry(await store.due(now_ms=NOW_MS, limit=10))
    assert await store.held_list(HeldQuery()) == []


async def test_locked_row_stops_no_replay_of_others(cluster: Cluster, workers: Opener, time: Time) -> None:
    store, *_ = await workers(1)
    work = log_records.processing(store, time)
    await work.process(log_records.logged([parked(f"P{number}") for number in range(1, 7)]))
    for number in range(1, 7):
        await register(store, f"P{number}")
    query = HeldQuery(disposition=Disposition.PARKED, before_ms=NOW_MS + 1)
    task = await store.start_replay(NewTask(query=query, rate=20, by="ana", why="registered now"), now_ms=NOW_MS)
    replayer = Replayer(
        store=store,
        retry=work.retry,
        decisions=Operator(store, time).decisions,
        wake_relay=lambda: None,
        observer=Unobserved(),
        now_ms=time,
    )
    async with stranger(cluster, "SELECT FROM held WHERE log_offset = 1 FOR UPDATE"):
        for _ in range(6):
            await replayer.run_once()
        ended = await store.replay(task.number)
        assert ended is not None
        assert (ended.state, ended.total, ended.done, ended.applied) == (ReplayState.FINISHED, 6, 5, 5)
    await work.retry(await store.due(now_ms=NOW_MS, limit=10))
    assert await store.held_list(HeldQuery()) == []


FAILING = "P2"


def failing_to_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our code fails on every plan that has a payment of one order."""
    decide: Callable[..., object] = decision.decide

    def failing(parsed_records: list[object], *rest: object, **more: object) -> object:
        for parsed in parsed_records:
            notification = getattr(parsed, "notification", None)
            if notification is not None and notification.order == FAILING:
                raise ArithmeticError("a bug")
        return decide(parsed_records, *rest, **more)

    monkeypatch.setattr(decision, "decide", failing)


@pytest.mark.parametrize("table", ["held", "deliveries"])
async def test_locked_row_that_fails_in_deciding_ends_no_round_of_others(
    cluster: Cluster, workers: Opener, time: Time, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    store, *_ = await workers(1)
    work = log_records.processing(store, time)
    orders = ["P1", FAILING, "P3", "P4"]
    await work.process(log_records.logged([parked(order) for order in orders]))
    for order in orders:
        await register(store, order)
    rows = await store.due(now_ms=NOW_MS, limit=10)
    failing_to_decide(monkeypatch)
    async with stranger(cluster, f"SELECT FROM {table} WHERE log_offset = 2 FOR UPDATE"):
        with pytest.raises(RowsLocked):
            await work.retry(rows)
        for order in ("P1", "P3", "P4"):
            assert await dispositions(store, order, REGISTERED.name) == ["applied"]
    await work.retry(rows)
    (page,) = await store.held_list(HeldQuery())
    assert (page.row.order, page.row.disposition) == (FAILING, Disposition.DEAD)


async def test_record_whose_own_row_is_locked_keeps_back_no_other_of_its_batch(
    cluster: Cluster, workers: Opener, time: Time
) -> None:
    """As a stalled worker leaves it, which has inserted the disposition of the same record and has not committed."""
    store, *_ = await workers(1)
    work = log_records.processing(store, time)
    await work.process(log_records.logged([log_records.record("N0")]))
    batch = log_records.logged([log_records.record(f"N{number}") for number in range(1, 5)], first=2)
    columns = "account, order_number, notification_id, type, status, news, disposition, reason, detail, version"
    copied = (
        f"INSERT INTO deliveries (log_partition, log_offset, {columns}, received_at, decided_at) "
        f"SELECT log_partition, 2, {columns}, received_at, decided_at FROM deliveries"
    )
    async with stranger(cluster, copied):
        with pytest.raises(RowsLocked):
            await work.process(batch)
        for number in (2, 3, 4):
            assert await dispositions(store, f"N{number}") == ["applied"]
    await work.process(batch)
    assert await dispositions(store, "N1") == ["applied"]
