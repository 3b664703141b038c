"""Queries and registration in every order store: by number, newest first, gauges, refunds."""

import pytest
from msgspec import structs

from schemas.dispositions import Disposition, Reason
from schemas.money import Money
from schemas.notification import NamedNumber, NumberKind
from schemas.orders import Status
from tests.contract.engines import AnyStore
from tests.contract.shortcuts import parked, register
from tests.support import log_records
from tests.support.log_records import NOW_MS, REGISTERED, Time
from tests.support.plans import always, delivery, number_row, plan
from workers import queries
from workers.errors import RefundTaken
from workers.processing import Processing
from workers.queries import HeldQuery, OrderQuery
from workers.settlement import drafting
from workers.settlement.plan import LoadRequest, Position, StoreSnapshot, WritePlan

NOTHING = LoadRequest(
    positions=frozenset(), ids=frozenset(), orders=frozenset(), trades=frozenset(), refunds=frozenset()
)


async def test_unknown_number_is_found_nowhere(store: AnyStore) -> None:
    assert await store.order_page("shop-sg", "N1") is None
    assert await store.find("N1") == []
    assert not (await store.order_list(OrderQuery(limit=10))).pages


async def test_order_with_only_held_notifications_has_a_page(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([parked("P1")]))
    page = await store.order_page(REGISTERED.name, "P1")
    assert page is not None
    assert (page.order, page.view, len(page.deliveries), page.events) == (None, None, 1, ())


async def test_order_is_found_by_its_own_trade_and_notification_numbers(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([log_records.record("N1", id_="n1", trade="2025T"), parked("P1", id_="p1")]))
    assert await store.find("N1") == await store.find("2025T") == await store.find("n1") == [("shop-sg", "N1")]
    assert await store.find("P1") == await store.find("p1") == [(REGISTERED.name, "P1")]
    assert await store.find("N") == []


async def test_notification_that_names_no_order_is_found_by_its_id(work: Processing, store: AnyStore) -> None:
    noted = log_records.record("", notify_type="dut_user_unsign", id_="m1")
    await work.process(log_records.logged([noted, noted, log_records.record("N1", id_="n1")]))
    [found] = await store.notifications("m1")
    assert (found.account, found.order, found.type) == ("shop-sg", "", "dut_user_unsign")
    assert (found.disposition, found.reason, found.position.offset) == (Disposition.APPLIED, Reason.NOTED, 1)
    assert [each.order for each in await store.notifications("n1")] == ["N1"]
    assert await store.notifications("m") == []


async def test_notification_is_found_by_each_number_it_names(store: AnyStore) -> None:
    named = [NamedNumber(NumberKind.AGREEMENT, "A1"), NamedNumber(NumberKind.EXTERNAL_AGREEMENT, "E1")]
    deliveries = [delivery(offset, order="", notification_id=f"m{offset}") for offset in (1, 2)]
    numbers = [number_row(offset, each) for offset in (1, 2) for each in named]
    await store.settle(NOTHING, always(plan(deliveries=deliveries, numbers=numbers)))
    for number in ("A1", "E1"):
        assert [each.notification_id for each in await store.notifications(number)] == ["m2", "m1"]
    assert await store.notifications("A") == []
    assert await store.find("A1") == []


async def test_order_is_found_by_the_numbers_of_its_notifications(store: AnyStore) -> None:
    named = NamedNumber(NumberKind.SUBSCRIPTION, "S1")
    decided = plan(deliveries=[delivery(1), delivery(2, order="N2")], numbers=[number_row(1, named)])
    await store.settle(NOTHING, always(decided))
    assert await store.find("S1") == [("shop-sg", "N1")]


async def test_number_that_is_known_already_is_written_once(store: AnyStore) -> None:
    row = number_row(1, NamedNumber(NumberKind.DISPUTE, "D1"))
    await store.settle(NOTHING, always(plan(deliveries=[delivery(1)], numbers=[row, row])))
    await store.settle(NOTHING, always(plan(deliveries=[delivery(2)], numbers=[row])))
    assert [each.position.offset for each in await store.notifications("D1")] == [1]


@pytest.mark.parametrize("is_first", [True, False], ids=["before its payment", "after its payment"])
async def test_notification_that_names_a_trade_is_on_the_order_page(
    work: Processing, store: AnyStore, is_first: bool
) -> None:
    noted = log_records.record("", notify_type="trade_complaint", id_="m1", trade="T1")
    other = log_records.record("", notify_type="trade_complaint", id_="m2", trade="T2")
    paid = log_records.record("N1", trade="T1", id_="p1")
    await work.process(log_records.logged([noted, other, paid] if is_first else [paid, other, noted]))
    page = await store.order_page("shop-sg", "N1")
    assert page is not None
    assert [each.notification_id for each in page.deliveries] == (["m1", "p1"] if is_first else ["p1", "m1"])


async def test_notification_is_read_by_its_position(work: Processing, store: AnyStore) -> None:
    noted = log_records.record("", notify_type="dut_user_unsign", id_="m1")
    unreadable = log_records.sealed(b"no form at all", "X")
    await work.process(log_records.logged([noted, noted, unreadable]))
    for offset, disposition in ((1, Disposition.APPLIED), (2, Disposition.DUPLICATE)):
        page = await store.notification(f"0-{offset}")
        assert page is not None
        assert (page.delivery.disposition, page.record) == (disposition, noted)
    dead = await store.notification("0-3")
    assert dead is not None
    assert (dead.delivery.disposition, dead.record) == (Disposition.DEAD, None)
    assert await store.notification("0-9") is None
    assert await store.notification("nonsense") is None


async def test_number_in_two_accounts_is_found_in_both(work: Processing, store: AnyStore) -> None:
    await register(store, "N1")
    await work.process(log_records.logged([log_records.record("N1")]))
    assert await store.find("N1") == [(REGISTERED.name, "N1"), ("shop-sg", "N1")]


async def test_recent_orders_come_newest_first(work: Processing, store: AnyStore, time: Time) -> None:
    for offset, order in enumerate(("N1", "N2", "N1"), 1):
        time.now_ms += 1000
        status = "TRADE_FINISHED" if offset == 3 else "TRADE_SUCCESS"
        await work.process(log_records.logged([log_records.record(order, status)], first=offset))
    assert [page.number for page in (await store.order_list(OrderQuery(limit=10))).pages] == ["N1", "N2"]
    assert [page.number for page in (await store.order_list(OrderQuery(limit=1))).pages] == ["N1"]


async def test_gauges_count_held_rows_and_unsent_events(work: Processing, store: AnyStore, time: Time) -> None:
    await work.process(log_records.logged([parked("P1"), parked("P2"), log_records.sealed(b"no form at all", "X")]))
    time.now_ms += 1000
    await work.process(log_records.logged([parked("P3"), log_records.record("N1")], first=4))
    counts = await store.counts()
    assert {each.disposition: (each.count, each.oldest_ms) for each in counts.held} == {
        Disposition.PARKED: (3, NOW_MS),
        Disposition.DEAD: (1, NOW_MS),
    }
    assert [(each.attempts, each.count) for each in counts.parked] == [(0, 3)]
    assert (counts.outbox_pending, counts.outbox_oldest_ms) == (5, NOW_MS)
    await work.retry(await store.due(now_ms=NOW_MS + 34_000, limit=2))
    assert sorted((each.attempts, each.count) for each in (await store.counts()).parked) == [(0, 1), (1, 2)]
    await work.emit()
    counts = await store.counts()
    assert (counts.outbox_pending, counts.outbox_oldest_ms) == (0, None)


async def test_events_of_a_long_outage_are_counted_up_to_a_limit(
    work: Processing, store: AnyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await work.process(log_records.logged([log_records.record(f"N{number}") for number in range(5)]))
    assert (await store.counts()).outbox_pending == 5
    monkeypatch.setattr(queries, "PENDING_COUNTED_MAX", 3)
    counts = await store.counts()
    assert (counts.outbox_pending, counts.outbox_oldest_ms) == (3, NOW_MS)
    await work.emit()
    assert (await store.counts()).outbox_pending == 0


async def test_registered_order_exists_before_its_first_notification(store: AnyStore) -> None:
    await register(store, "N1")
    page = await store.order_page(REGISTERED.name, "N1")
    assert page is not None
    assert page.order is not None
    assert (page.order.registered, page.order.version, page.order.expected) == (True, 0, Money(1280, "USD"))


async def test_paid_amount_is_compared_with_the_registered_one(work: Processing, store: AnyStore) -> None:
    await register(store, "N1", minor=9900)
    await work.process(log_records.logged([log_records.record("N1", account=REGISTERED)]))
    (held,) = await store.held_list(HeldQuery())
    assert held.row.reason is Reason.AMOUNT_MISMATCH
    await register(store, "N1", minor=1280)
    await work.retry([held.row])
    page = await store.order_page(REGISTERED.name, "N1")
    assert page is not None
    assert page.view is not None
    assert (page.view.status, page.view.flags) == (Status.PAID, ())


async def test_registered_refund_is_loaded_with_its_order(store: AnyStore) -> None:
    await register(store, "N1", refunds=["R1", "R2"])
    seen: list[StoreSnapshot] = []

    def look(known: StoreSnapshot) -> WritePlan:
        seen.append(known)
        return drafting.empty()

    await store.settle(structs.replace(NOTHING, refunds=frozenset({(REGISTERED.name, "R2"), ("shop-sg", "R2")})), look)
    assert seen[0].order_by_refund == {(REGISTERED.name, "R2"): "N1"}
    assert (REGISTERED.name, "N1") in seen[0].orders


async def test_refund_number_belongs_to_one_order(store: AnyStore) -> None:
    await register(store, "N1", refunds=["R1"])
    await register(store, "N1", refunds=["R1"])
    with pytest.raises(RefundTaken, match="refund R1 is registered with order N1 already"):
        await register(store, "N2", refunds=["R1"])
    assert await store.order_page(REGISTERED.name, "N2") is None


async def test_newest_notification_is_found_in_whatever_partition_it_lies(store: AnyStore) -> None:
    assert (await store.counts()).received_newest_ms is None
    deliveries = [
        delivery(offset, position=Position(partition, offset), received_at_ms=NOW_MS + at_ms)
        for partition, offset, at_ms in ((0, 1, 0), (0, 2, 1000), (3, 1, 5000), (7, 1, 2000), (7, 9, 3000))
    ]
    await store.settle(NOTHING, always(plan(deliveries=deliveries)))
    assert (await store.counts()).received_newest_ms == NOW_MS + 5000
