"""Publishing events of an order again, in the order store of each engine."""

import pytest

from deploy.embedded.callbacks import SqliteCallbacks
from deploy.embedded.resends import SqliteResends
from deploy.embedded.store import SqliteOrderStore
from schemas import topics
from tests.contract.engines import AnyStore, Cluster
from tests.contract.several_workers import ORPHANED_AFTER_MS, Opener, at, sent
from tests.contract.shortcuts import register
from tests.contract.test_store_callbacks import SHOP as ENDPOINT
from tests.contract.test_store_callbacks import result, step
from tests.support import log_records
from tests.support.log_records import REGISTERED, SHOP, Time
from workers.audit import AuditQuery
from workers.callbacks.deliveries import DeliveriesPort
from workers.postgres.audit_list import PostgresAudit
from workers.postgres.callbacks import PostgresCallbacks
from workers.postgres.database import SqlConnection
from workers.postgres.resends import PostgresResends
from workers.postgres.state_resend import RESEND_AFTER_MS
from workers.postgres.store import PostgresOrderStore
from workers.processing import Processing
from workers.resends import ResendPort, ResendRefusal

STATUSES = ("WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED")
KIM = {"by": "kim", "why": "the consumer lost them"}


@pytest.fixture
def resending(store: AnyStore) -> ResendPort:
    return port(store)


def deliveries_of(store: AnyStore) -> DeliveriesPort:
    if isinstance(store, SqliteOrderStore):
        return SqliteCallbacks(store.database, store.reads)
    assert isinstance(store, PostgresOrderStore)
    return PostgresCallbacks(store.database, store.reads)


def port(store: AnyStore) -> ResendPort:
    if isinstance(store, SqliteOrderStore):
        return SqliteResends(store.database)
    assert isinstance(store, PostgresOrderStore)
    return PostgresResends(store.database)


async def three_versions(work: Processing, order: str = "A1", *, first: int = 1) -> None:
    records = [log_records.record(order, status) for status in STATUSES]
    await work.process(log_records.logged(records, first=first))


async def send_all(store: AnyStore) -> list[str]:
    waiting = await store.unsent(100)
    await store.mark_sent([number for number, _ in waiting])
    return [event.id for _, event in waiting if event.topic == topics.ORDER_EVENT]


async def feed(store: AnyStore) -> list[str]:
    return [each.event.id for each in await store.events_after(0, 100)]


async def test_version_and_the_later_ones_come_again_after_all_others(
    store: AnyStore, work: Processing, resending: ResendPort, time: Time
) -> None:
    await three_versions(work)
    await three_versions(work, "A12", first=4)  # whose ids begin like those of A1
    before = await store.events_after(0, 100)
    await send_all(store)
    newest = await store.newest_event()
    assert newest == before[-1].number
    assert await resending.resend(SHOP.name, "A1", 2, **KIM, now_ms=time.now_ms) == (2, 3)
    again = await store.events_after(newest, 100)
    assert [each.event.id for each in again] == ["shop-sg:A1:2", "shop-sg:A1:3"]
    page = await store.order_page(SHOP.name, "A1")
    assert page is not None
    assert [(act.action, act.subject, act.by) for act in page.acts] == [
        ("resend", "shop-sg:A1:2", "kim"),
        ("resend", "shop-sg:A1:3", "kim"),
    ]
    assert [each.event for each in again] == [each.event for each in before if each.number in (2, 3)]
    assert await feed(store) == [
        "shop-sg:A1:1", "shop-sg:A12:1", "shop-sg:A12:2", "shop-sg:A12:3", "shop-sg:A1:2", "shop-sg:A1:3",
    ]  # fmt: skip


async def test_without_a_version_the_newest_alone_comes_again_and_again(
    store: AnyStore, work: Processing, resending: ResendPort, time: Time
) -> None:
    await three_versions(work)
    await send_all(store)
    for _ in range(2):
        newest = await store.newest_event()
        assert await resending.resend(SHOP.name, "A1", None, **KIM, now_ms=time.now_ms) == (3,)
        assert [each.event.id for each in await store.events_after(newest, 9)] == ["shop-sg:A1:3"]
        sent_again = []
        for _ in range(3):  # a cluster's leader looks, waits for a writer that might be alive, and sends
            sent_again += await send_all(store)
            time.now_ms += ORPHANED_AFTER_MS
        assert sent_again == ["shop-sg:A1:3"]


async def test_order_goes_on_after_its_events_came_again(
    store: AnyStore, work: Processing, resending: ResendPort, time: Time
) -> None:
    records = [log_records.record("A1", status) for status in STATUSES]
    await work.process(log_records.logged(records[:2]))
    await send_all(store)
    assert await resending.resend(SHOP.name, "A1", 1, **KIM, now_ms=time.now_ms) == (1, 2)
    await work.process([at(0, 3, records[2])])
    assert await feed(store) == ["shop-sg:A1:1", "shop-sg:A1:2", "shop-sg:A1:3"]
    await work.process(log_records.logged([log_records.record("B1")], first=4))
    assert (await feed(store))[-1] == "shop-sg:B1:1"


async def test_refusals_change_nothing(store: AnyStore, work: Processing, resending: ResendPort, time: Time) -> None:
    await three_versions(work)
    await register(store, "R1")

    async def refused(account: str, order: str, version: int | None) -> object:
        return await resending.resend(account, order, version, **KIM, now_ms=time.now_ms)

    assert await refused(SHOP.name, "A1", 1) is ResendRefusal.NOT_SENT_YET
    await send_all(store)
    before = await store.events_after(0, 100)
    assert await refused(SHOP.name, "none", None) is ResendRefusal.UNKNOWN_ORDER
    assert await refused("other", "A1", None) is ResendRefusal.UNKNOWN_ORDER
    assert await refused(REGISTERED.name, "R1", None) is ResendRefusal.UNKNOWN_VERSION
    assert await refused(SHOP.name, "A1", 4) is ResendRefusal.UNKNOWN_VERSION
    assert await store.events_after(0, 100) == before


async def test_pending_callbacks_go_on_with_the_new_numbers(
    store: AnyStore, work: Processing, resending: ResendPort, time: Time
) -> None:
    """Of three versions the first was delivered, the second is in flight, and the third waits behind it."""
    callbacks = deliveries_of(store)
    await callbacks.configure([ENDPOINT], now_ms=time.now_ms)
    await three_versions(work)
    await send_all(store)
    (first,) = (await step(callbacks)).due
    (second,) = (await step(callbacks, result(first))).due
    assert second.event.id == "shop-sg:A1:2"
    assert await resending.resend(SHOP.name, "A1", 2, **KIM, now_ms=time.now_ms) == (2, 3)
    (again,) = (await step(callbacks, result(second))).due
    assert (again.event.id, again.number > second.number, again.attempts) == ("shop-sg:A1:2", True, 0)
    (last,) = (await step(callbacks, result(again))).due
    assert last.event.id == "shop-sg:A1:3"
    assert (await step(callbacks, result(last))).due == []
    (page,) = await callbacks.endpoints()
    assert page.pending == 0


async def test_delivered_callbacks_are_made_again(
    store: AnyStore, work: Processing, resending: ResendPort, time: Time
) -> None:
    callbacks = deliveries_of(store)
    await callbacks.configure([ENDPOINT], now_ms=time.now_ms)
    await work.process([at(0, 1, log_records.record("A1"))])
    await send_all(store)
    (first,) = (await step(callbacks)).due
    await step(callbacks, result(first))
    await resending.resend(SHOP.name, "A1", None, **KIM, now_ms=time.now_ms)
    assert [due.event.id for due in (await step(callbacks)).due] == ["shop-sg:A1:1"]


async def test_event_that_moves_while_an_endpoint_takes_it_is_taken_once(
    cluster: Cluster, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint has read it under its old number, outside of the transaction that writes the delivery."""
    async with cluster.store() as store:
        callbacks = PostgresCallbacks(store.database, store.reads)
        await callbacks.configure([ENDPOINT], now_ms=time.now_ms)
        await log_records.processing(store, time).process([at(0, 1, log_records.record("A1"))])
        await send_all(store)
        look = callbacks._look

        async def then_resend(connection: SqlConnection, *, name: str, now_ms: int) -> object:
            seen = await look(connection, name=name, now_ms=now_ms)
            assert seen is not None
            assert len(seen.events) == 1
            monkeypatch.undo()
            await PostgresResends(store.database).resend(SHOP.name, "A1", None, **KIM, now_ms=time.now_ms)
            return seen

        monkeypatch.setattr(callbacks, "_look", then_resend)
        assert (await step(callbacks)).due == []
        (due,) = (await step(callbacks)).due
        assert due.event.id == "shop-sg:A1:1"
        assert (await step(callbacks, result(due))).due == []
        (page,) = await callbacks.endpoints()
        assert page.pending == 0


async def test_leader_of_a_cluster_sends_them_again_in_order_and_the_state_last(workers: Opener, time: Time) -> None:
    leader, other = await workers(2)
    assert await leader.sending.leads()
    await log_records.processing(other, time).process(
        [at(0, offset, log_records.record("N1", status)) for offset, status in enumerate(STATUSES, 1)]
    )
    assert await sent(other) == ["shop-sg:N1:1", "shop-sg:N1:2", "shop-sg:N1:3"]
    assert await PostgresResends(leader.database).resend("shop-sg", "N1", 2, **KIM, now_ms=time.now_ms) == (2, 3)
    assert await sent(leader) == await sent(other) == []
    time.now_ms += ORPHANED_AFTER_MS
    assert await sent(leader) == ["shop-sg:N1:2", "shop-sg:N1:3"]
    time.now_ms += 2 * RESEND_AFTER_MS
    assert await sent(leader) == ["state of shop-sg:N1:3"]
    time.now_ms += 2 * RESEND_AFTER_MS
    assert await sent(leader) == []
    entries = (await PostgresAudit(leader.database, leader.reads).audit_list(AuditQuery(action="resend"))).entries
    assert sorted(each.subject for each in entries) == ["shop-sg:N1:2", "shop-sg:N1:3"]
