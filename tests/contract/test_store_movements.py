"""Refunds and captures of an order that has many: rows of their own, in the store of each engine."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence

import asyncpg
import msgspec
import pytest
from msgspec import structs

from deploy.embedded import migrations as embedded_migrations
from schemas.dispositions import Disposition, Flag, Reason
from schemas.orders import Movement, Order, Status, View
from tests.contract.engines import AnyStore, Cluster, Engine
from tests.contract.several_workers import Opener
from tests.support import facts, log_records
from tests.support.facts import Fact, batch, form
from tests.support.fakes import MemoryTopics, PlanObserver
from tests.support.log_records import Time
from workers import row_codec
from workers.errors import InfrastructureDown
from workers.held_decisions import HeldDecisions
from workers.postgres import migrations
from workers.postgres.migrations import run
from workers.processing import Processing
from workers.settlement import decision, movements
from workers.settlement.plan import LogRecord, Position, Registration

decoded = row_codec.order
ACCOUNT = facts.account("mapi")
MANY = movements.INLINE_MAX + 8
PRICE = "10000.00"


def over(store: AnyStore, time: Time) -> Processing:
    return Processing(
        accounts=facts.ACCOUNTS,
        authenticate=log_records.anybody_signed_this,
        store=store,
        events=MemoryTopics(),
        observer=PlanObserver(),
        now_ms=time,
        chance=lambda: 0.5,
    )


def refund(number: int, amount: str = "1.00", *, batch_no: str = "") -> Fact:
    return batch(f"b{number}-{amount}", f"T1^{amount}^SUCCESS", batch_no or f"N{number}")


def logged(delivered: Sequence[Fact], *, first: int = 0, partition: int = 0) -> list[LogRecord]:
    return [
        LogRecord(Position(partition, first + offset), facts.record(facts.body(fact), ACCOUNT))
        for offset, fact in enumerate(delivered, 1)
    ]


async def paid_and_refunded(store: AnyStore, time: Time, refunds: int = MANY) -> Processing:
    """An order with so many refunds of 1.00; one more record comes at offset `refunds + 2`."""
    work = over(store, time)
    await work.process(logged([form("p", "TRADE_SUCCESS", PRICE), *map(refund, range(refunds))]))
    return work


async def shown(store: AnyStore) -> tuple[Order, View]:
    page = await store.order_page(ACCOUNT.name, "A")
    assert page is not None
    assert page.order is not None
    assert page.view is not None
    return page.order, page.view


def count(order: Order) -> int:
    assert order.movement_sums is not None
    return order.movement_sums.refunds.count


async def test_order_of_many_refunds_keeps_their_sum_and_its_size(store: AnyStore, time: Time) -> None:
    work = await paid_and_refunded(store, time)
    order, view = await shown(store)
    assert (order.refunds, count(order), view.refunded_minor) == ((), MANY, MANY * 100)
    size = len(msgspec.msgpack.encode(order))
    await work.process(logged([refund(number) for number in range(MANY, 10 * MANY)], first=MANY + 1))
    order, view = await shown(store)
    assert (count(order), view.refunded_minor) == (10 * MANY, 10 * MANY * 100)
    assert len(msgspec.msgpack.encode(order)) < size + 20


async def test_known_refund_counts_once_and_with_its_larger_amount(store: AnyStore, time: Time) -> None:
    work = await paid_and_refunded(store, time)
    again = [batch("copy", "T1^1.00^SUCCESS", "N0"), refund(0, "3.00"), refund(0, "2.00")]
    await work.process(logged(again, first=MANY + 1))
    order, view = await shown(store)
    assert (count(order), view.refunded_minor) == (MANY + 2, MANY * 100 + 200)
    page = await store.order_page(ACCOUNT.name, "A")
    assert page is not None
    ends = [(each.disposition, each.reason) for each in page.deliveries if each.notification_id == "copy"]
    assert ends == [(Disposition.DUPLICATE, Reason.SAME_FACT)]


async def test_second_payment_of_the_order_counts_the_refunds_that_fit_it(store: AnyStore, time: Time) -> None:
    work = await paid_and_refunded(store, time)
    await work.process(logged([refund(900, "60.00"), form("q", "TRADE_FINISHED", "50.00")], first=MANY + 1))
    order, view = await shown(store)
    assert (view.amount_minor, view.refunded_minor) == (5000, MANY * 100)
    assert order.movement_sums is not None
    assert [minor for _, minor in order.movement_sums.refunds.fitting] == [MANY * 100, MANY * 100 + 6000]


async def test_discarded_refund_leaves_the_rows_and_the_sum(
    store: AnyStore, time: Time, operator: Callable[[str, str], Awaitable[None]]
) -> None:
    work = await paid_and_refunded(store, time)
    await work.process(logged([refund(900, "9990.00"), refund(901, "9980.00")], first=MANY + 1))
    _, view = await shown(store)
    assert (view.status, view.refunded_minor, view.flags) == (Status.CLOSED, 1_000_000, (Flag.OVER_REFUNDED,))
    await operator("discard", f"0-{MANY + 2}")
    await operator("discard", f"0-{MANY + 3}")
    order, view = await shown(store)
    assert (view.status, view.refunded_minor, view.flags, count(order)) == (Status.PAID, MANY * 100, (), MANY)
    await work.process(logged([batch("anew", "T1^9980.00^SUCCESS", "N901")], first=MANY + 3))
    assert (await shown(store))[1].flags == (Flag.OVER_REFUNDED,)
    await operator("accept", f"0-{MANY + 4}")
    order, view = await shown(store)
    assert (view.status, view.flags, order.refund_limit_minor) == (Status.CLOSED, (), MANY * 100 + 998_000)


@pytest.mark.parametrize("refunds", [5, MANY])
async def test_pages_have_each_report_of_a_refund_once(store: AnyStore, time: Time, refunds: int) -> None:
    work = await paid_and_refunded(store, time, refunds)
    await work.process(logged([refund(0, "2.00"), refund(1)], first=refunds + 1))
    found: list[Movement] = []
    after = 0
    while page := await store.movements(ACCOUNT.name, "A", after=after, limit=3):
        assert len(page) <= 3
        after = page[-1][0]
        found += [movement for _, movement in page]
    assert sorted((each.id, each.minor) for each in found) == sorted(
        [*((f"N{number}/T1", 100) for number in range(refunds)), ("N0/T1", 200)]
    )
    assert await store.movements(ACCOUNT.name, "B", after=0, limit=3) is None


@pytest.mark.parametrize("inline_max", [0, movements.INLINE_MAX])
async def test_copy_of_a_refund_that_came_first_stands_on_the_page_of_its_order(
    store: AnyStore, time: Time, monkeypatch: pytest.MonkeyPatch, inline_max: int
) -> None:
    monkeypatch.setattr(movements, "INLINE_MAX", inline_max)
    antom, work = facts.account("antom"), over(store, time)
    refund = facts.antom_refund("R1", "4000")
    delivered = [refund, refund, facts.payment("p")]
    for offset, fact in enumerate(delivered, 1):
        await work.process([LogRecord(Position(0, offset), facts.record(facts.body(fact), antom))])
    registration = Registration(refunds=("R1",))
    await store.register(
        antom.name,
        "A",
        registration.refunds,
        lambda order: decision.register(order, antom.name, "A", registration, now_ms=time()),
        by="tests",
        why="ordered",
    )
    await work.retry(await store.due(now_ms=time(), limit=10))
    page = await store.order_page(antom.name, "A")
    assert page is not None
    assert page.view is not None
    assert page.view.refunded_minor == 4000
    assert [delivery.position.offset for delivery in page.deliveries] == [1, 2, 3]


@pytest.fixture
def operator(store: AnyStore, time: Time) -> Callable[[str, str], Awaitable[None]]:
    decisions = HeldDecisions(
        accounts=facts.ACCOUNTS, read=over(store, time).read, store=store, observer=PlanObserver(), now_ms=time
    )

    async def decide(action: str, id_: str) -> None:
        page = await store.held_page(id_)
        assert page is not None
        assert page.row.reason is Reason.OVER_REFUNDED
        await getattr(decisions, action)(page, by="ana", why="agreed")

    return decide


@pytest.fixture
def old_schema(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let stores be made by the release before: without rows for movements. Return what ends that."""
    with_all, before = embedded_migrations.load, migrations.steps()
    (at,) = [step.number for step in before if step.name.endswith("_movements")]

    def without(folder: str, *, application_id: int) -> embedded_migrations.Schema:
        schema = with_all(folder, application_id=application_id)
        scripts = tuple(itertools.takewhile(lambda script: "CREATE TABLE movements" not in script, schema.scripts))
        return structs.replace(schema, scripts=scripts)

    monkeypatch.setattr(embedded_migrations, "load", without)
    monkeypatch.setattr(migrations, "steps", lambda: before[: at - 1])
    monkeypatch.setattr(movements, "INLINE_MAX", 1_000_000)
    return monkeypatch.undo


async def test_store_of_the_release_before_goes_on_with_its_order_of_many_refunds(
    engine: Engine, time: Time, old_schema: Callable[[], None]
) -> None:
    async with engine.store() as store:
        await paid_and_refunded(store, time, 300)
    old_schema()
    if isinstance(engine, Cluster):
        await run.upgrade(engine.url)
    async with engine.store() as store:
        work = over(store, time)
        order, view = await shown(store)
        assert (len(order.refunds), order.movement_sums, view.refunded_minor) == (300, None, 30_000)
        await work.process(logged([refund(7, "2.00"), form("f", "TRADE_FINISHED", PRICE)], first=301))
        order, view = await shown(store)
        assert (order.refunds, count(order)) == ((), 301)
        assert (view.status, view.refunded_minor) == (Status.FINISHED, 30_100)
        await work.process(logged([refund(number) for number in range(300, 400)], first=303))
        assert (await shown(store))[1].refunded_minor == 40_100


async def test_workers_count_refunds_of_one_order_together(workers: Opener, time: Time) -> None:
    stores = await workers(4)
    await paid_and_refunded(stores[0], time)

    async def all_of(partition: int, store: AnyStore) -> None:
        """Process refunds that the other workers process too, with other amounts, until each has succeeded."""
        work = over(store, time)
        for number in range(15):
            records = logged([refund(500 + number, f"{partition}.00")], first=number, partition=partition)
            while True:
                try:
                    await work.process(records)
                except InfrastructureDown:  # a collision with another worker, or a busy machine
                    await asyncio.sleep(0.01)
                else:
                    break

    await asyncio.gather(*(all_of(partition, store) for partition, store in enumerate(stores, 2)))
    order, view = await shown(stores[0])
    assert (count(order), view.refunded_minor) == (MANY + 4 * 15, MANY * 100 + 15 * 500)


async def test_program_that_does_not_know_the_rows_waits_for_its_upgrade(cluster: Cluster, time: Time) -> None:
    """It would write the order without the sums, and they would be lost."""
    async with cluster.store() as store:
        await paid_and_refunded(store, time)
        order, _ = await shown(store)
        facts_of_old = msgspec.msgpack.encode(structs.replace(order, movement_sums=None))
        connection = await asyncpg.connect(cluster.url)
        try:
            with pytest.raises(asyncpg.LockNotAvailableError, match="upgrade the programs"):
                await connection.execute("UPDATE orders SET facts = $1 WHERE order_number = 'A'", facts_of_old)
        finally:
            await connection.close()
        assert (await shown(store))[0] == order


async def test_worker_of_the_release_before_parks_what_it_does_not_know(
    cluster: Cluster, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads an order without its sums, as its facts have a name that it does not know."""
    async with cluster.store() as store:
        await paid_and_refunded(store, time)
        with monkeypatch.context() as before:
            before.setattr(row_codec, "order", lambda facts: structs.replace(decoded(facts), movement_sums=None))
            other = form("q", "TRADE_SUCCESS", PRICE, order="B", trade="T2")
            await over(store, time).process(logged([refund(900, "5.00"), other], first=MANY + 1))
        assert await store.order_page(ACCOUNT.name, "B") is not None, "other orders go on"
        order, view = await shown(store)
        assert (count(order), view.refunded_minor) == (MANY, MANY * 100)
        time.now_ms += 3_600_000
        due = await store.due(now_ms=time(), limit=10)
        assert [row.position.offset for row in due] == [MANY + 2]
        await over(store, time).retry(due)
        order, view = await shown(store)
        assert (count(order), view.refunded_minor) == (MANY + 1, MANY * 100 + 500)
