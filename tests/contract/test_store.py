"""Every order store: one transaction a batch, one disposition a record, versions without gaps, nothing lost.

Most tests use the store through the workers' processing. Refusals are provoked by plans made by hand.
"""

from collections.abc import Sequence
from typing import Any, cast

import pytest
from msgspec import structs

from schemas import topics
from schemas.dispositions import Disposition, Flag, Reason
from schemas.orders import Order, Status
from tests.contract.engines import AnyStore, Engine, all_unsent
from tests.contract.shortcuts import dispositions, parked, register, version
from tests.support import log_records
from tests.support.fakes import MemoryTopics, PlanObserver
from tests.support.log_records import PROVIDER, REGISTERED, Time
from tests.support.plans import always, delivery, event, order_write, plan
from workers.errors import RecordRefused, VersionConflict
from workers.processing import Processing
from workers.queries import HeldQuery
from workers.settlement import drafting
from workers.settlement.plan import LoadRequest, Position, StoreSnapshot, WritePlan

YEAR_MS = 365 * 86_400_000
NOTHING = LoadRequest(
    positions=frozenset(), ids=frozenset(), orders=frozenset(), trades=frozenset(), refunds=frozenset()
)


async def test_settled_batch_is_complete_after_the_store_is_reopened(engine: Engine, time: Time) -> None:
    async with engine.store() as store:
        await log_records.processing(store, time).process(
            log_records.logged([log_records.record(f"N{n}") for n in range(9)])
        )
    async with engine.store() as store:
        for number in range(9):
            page = await store.order_page("shop-sg", f"N{number}")
            assert page is not None
            assert page.view is not None
            assert (page.view.status, page.view.amount_minor, page.view.currency) == (Status.PAID, 1280, "USD")
            assert [each.disposition for each in page.deliveries] == [Disposition.APPLIED]
            assert [each.event.id for each in page.events] == [f"shop-sg:N{number}:1"]


async def test_trade_finished_a_year_after_its_payment_is_applied(
    work: Processing, store: AnyStore, time: Time, topics_: MemoryTopics
) -> None:
    await register(store, "R1")
    await work.process(log_records.logged([log_records.record("N1"), parked("R1")]))
    await work.emit()
    time.now_ms += YEAR_MS
    while await cast(Any, store).prune_sent(older_than_ms=time.now_ms - YEAR_MS // 12):
        pass
    late = [
        log_records.record("N1", "TRADE_FINISHED"),
        log_records.record("N2", "TRADE_FINISHED"),
        parked("R1", status="TRADE_FINISHED"),
        parked("R2", status="TRADE_FINISHED"),
    ]
    await work.process(log_records.logged(late, first=3))
    await work.emit()
    ends = [await dispositions(store, order) for order in ("N1", "N2")]
    ends += [await dispositions(store, order, REGISTERED.name) for order in ("R1", "R2")]
    assert ends == [["applied", "applied"], ["applied"], ["applied", "applied"], ["parked"]]
    told = [event.id for event in topics_.events if event.topic == topics.ORDER_EVENT]
    assert {"shop-sg:N1:2", "shop-sg:N2:1", "shop-reg:R1:2"} <= set(told)
    await register(store, "R2")
    await work.retry(await store.due(now_ms=time.now_ms, limit=10))
    page = await store.order_page(REGISTERED.name, "R2")
    assert page is not None
    assert page.view is not None
    assert page.view.status is Status.FINISHED


async def test_order_is_read_back_as_it_was_written(work: Processing, store: AnyStore, observer: PlanObserver) -> None:
    await register(store, "N1", account="shop-sg", refunds=["R1"])
    contradicting = [
        log_records.record("N1", "TRADE_CLOSED"),
        log_records.record("N1"),
        log_records.record("N1", id_="other", amount="99.00"),
        log_records.record("N1", id_="second", trade="2025100922001other"),
    ]
    await work.process(log_records.logged(contradicting))
    written = observer.plans[-1].orders[-1]
    page = await store.order_page("shop-sg", "N1")
    assert page is not None
    assert (page.order, page.view) == (written.order, written.view)
    assert Flag.AMOUNT_MISMATCH in written.view.flags


async def test_redelivered_batch_changes_nothing(work: Processing, store: AnyStore, observer: PlanObserver) -> None:
    batch = log_records.logged(
        [log_records.record("N1"), log_records.record("N2"), log_records.record("N1", "TRADE_FINISHED")]
    )
    await work.process(batch)
    before = (await store.order_page("shop-sg", "N1"), await all_unsent(store))
    await work.process(batch)
    assert observer.plans[-1] == drafting.empty()
    assert (await store.order_page("shop-sg", "N1"), await all_unsent(store)) == before


async def test_partly_processed_batch_is_completed(work: Processing, store: AnyStore) -> None:
    batch = log_records.logged([log_records.record(f"N{number}") for number in range(6)])
    await work.process(batch[:4])
    await work.process(batch)
    assert [await dispositions(store, f"N{number}") for number in range(6)] == [["applied"]] * 6


async def test_same_notification_in_several_records_is_applied_once(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([log_records.record("N1")]))
    await work.process(log_records.logged([log_records.record("N1"), log_records.record("N1")], first=2))
    assert await dispositions(store, "N1") == ["applied", "duplicate", "duplicate"]
    assert await version(store, "N1") == 1


async def test_noted_notification_has_one_notice_and_its_numbers(work: Processing, store: AnyStore) -> None:
    noted = log_records.record("", notify_type="dut_user_unsign", id_="m1", agreement_no="A1")
    await work.process(log_records.logged([noted, noted]))
    await work.process(log_records.logged([noted], first=3))
    [notice] = await all_unsent(store)
    assert (notice.topic, notice.id, notice.key) == (topics.NOTED, "noted:shop-sg:m1", b"shop-sg:A1")
    assert [each.position.offset for each in await store.notifications("A1")] == [1]


async def test_same_id_with_other_content_is_held_as_a_conflict(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([log_records.record("N1", id_="n")]))
    await work.process(log_records.logged([log_records.record("N1", "TRADE_FINISHED", id_="n")], first=2))
    (held,) = await store.held_list(HeldQuery())
    assert held.row.reason is Reason.ID_CONFLICT


async def test_same_id_in_two_accounts_is_two_notifications(work: Processing, store: AnyStore) -> None:
    await register(store, "N1")
    both = [log_records.record("N1", id_="n"), log_records.record("N1", id_="n", account=REGISTERED)]
    await work.process(log_records.logged(both))
    assert await dispositions(store, "N1") == ["applied"]
    assert await dispositions(store, "N1", REGISTERED.name) == ["applied"]


async def test_same_offset_in_two_partitions_is_two_records(work: Processing, store: AnyStore) -> None:
    first = log_records.logged([log_records.record("N1")])[0]
    other = structs.replace(log_records.logged([log_records.record("N2")])[0], position=Position(7, 1))
    await work.process([first])
    await work.process([other])
    assert (await dispositions(store, "N1"), await dispositions(store, "N2")) == (["applied"], ["applied"])


async def test_versions_rise_by_one_with_one_event_each(work: Processing, store: AnyStore) -> None:
    statuses = ["WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED"]
    await work.process(log_records.logged([log_records.record("N1", status) for status in statuses]))
    assert await version(store, "N1") == 3
    assert [event.id for event in await all_unsent(store)] == [f"shop-sg:N1:{number}" for number in (1, 2, 3)]


async def test_decision_on_another_version_is_a_version_conflict(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([log_records.record("N1")]))
    page = await store.order_page("shop-sg", "N1")
    assert page is not None
    assert page.order is not None
    late = structs.replace(page.order, version=2)
    for stale in (0, 7):
        writes = plan(orders=[order_write(late, stale)], events=[event("N1", 2)], deliveries=[delivery(2)])
        with pytest.raises(VersionConflict):
            await store.settle(NOTHING, always(writes))
    assert await version(store, "N1") == 1
    assert len(await dispositions(store, "N1")) == 1
    assert len(await all_unsent(store)) == 1


async def test_existing_order_written_as_new_is_a_version_conflict(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([log_records.record("N1")]))
    as_new = plan(orders=[order_write(Order(account="shop-sg", number="N1", registered=True), None)])
    with pytest.raises(VersionConflict):
        await store.settle(NOTHING, lambda _: as_new)
    assert await version(store, "N1") == 1


@pytest.mark.parametrize("skipped", [2, 9])
async def test_event_without_its_predecessor_is_refused(store: AnyStore, skipped: int) -> None:
    with pytest.raises(RecordRefused):
        await store.settle(NOTHING, lambda _: plan(events=[event("N1", skipped)]))


async def test_order_version_without_its_event_is_refused(work: Processing, store: AnyStore) -> None:
    unannounced = Order(account="shop-sg", number="N9", version=1)
    with pytest.raises(RecordRefused):
        await store.settle(NOTHING, lambda _: plan(orders=[order_write(unannounced, None)]))
    await work.process(log_records.logged([log_records.record("N1")]))
    page = await store.order_page("shop-sg", "N1")
    assert page is not None
    assert page.order is not None
    risen = structs.replace(page.order, version=2)
    with pytest.raises(RecordRefused):
        await store.settle(NOTHING, lambda _: plan(orders=[order_write(risen, 1)]))


async def test_order_that_falls_in_rank_is_refused(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([log_records.record("N1")]))
    forgetful = Order(account="shop-sg", number="N1", version=2)
    with pytest.raises(RecordRefused):
        await store.settle(NOTHING, lambda _: plan(orders=[order_write(forgetful, 1)], events=[event("N1", 2)]))
    page = await store.order_page("shop-sg", "N1")
    assert page is not None
    assert page.view is not None
    assert page.view.status is Status.PAID


async def test_second_disposition_of_a_record_refuses_the_whole_plan(store: AnyStore) -> None:
    await store.settle(NOTHING, lambda _: plan(deliveries=[delivery(5)]))
    with pytest.raises(RecordRefused):
        await store.settle(NOTHING, lambda _: plan(deliveries=[delivery(6, order="N2"), delivery(5)]))
    assert await dispositions(store, "N2") == []


@pytest.mark.parametrize(
    "impossible", [{"detail": "\ud800"}, {"received_at_ms": 2**63}], ids=["lone surrogate", "65 bits"]
)
async def test_value_that_no_database_can_hold_is_the_records_fault(
    store: AnyStore, impossible: dict[str, object]
) -> None:
    with pytest.raises(RecordRefused):
        await store.settle(NOTHING, lambda _: plan(deliveries=[delivery(1, order="N0"), delivery(2, **impossible)]))
    assert await dispositions(store, "N0") == []
    await store.settle(NOTHING, lambda _: plan(deliveries=[delivery(1)]))
    assert await dispositions(store, "N1") == ["applied"]


async def test_exception_while_deciding_is_raised_and_nothing_is_written(store: AnyStore) -> None:
    def fails(known: StoreSnapshot) -> WritePlan:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.settle(NOTHING, fails)
    await store.settle(NOTHING, lambda _: plan(deliveries=[delivery(1)]))
    assert await dispositions(store, "N1") == ["applied"]


async def test_bad_record_is_held_and_the_rest_of_its_batch_is_applied(
    store: AnyStore, time: Time, observer: PlanObserver
) -> None:
    work = log_records.processing(Picky(store, bad=Position(0, 4)), time, observer=observer)
    await work.process(log_records.logged([log_records.record(f"N{number}") for number in range(1, 9)]))
    (held,) = await store.held_list(HeldQuery())
    assert (held.row.position, held.row.disposition) == (Position(0, 4), Disposition.DEAD)
    assert held.row.record == log_records.record("N4")
    for number in (1, 2, 3, 5, 6, 7, 8):
        assert await dispositions(store, f"N{number}") == ["applied"]


class Picky:
    """A store that cannot hold the delivery of one record, unless it is dead."""

    def __init__(self, store: AnyStore, bad: Position) -> None:
        self._store = store
        self._bad = bad
        self.unsent, self.mark_sent, self.set_aside = store.unsent, store.mark_sent, store.set_aside

    async def settle(self, needs: LoadRequest, decide: object) -> WritePlan:
        def spoil(known: StoreSnapshot) -> WritePlan:
            decided: WritePlan = decide(known)  # type: ignore[operator]
            decided.deliveries = [
                structs.replace(each, detail="\ud800")
                if each.position == self._bad and each.disposition is not Disposition.DEAD
                else each
                for each in decided.deliveries
            ]
            return decided

        return await self._store.settle(needs, spoil)


async def test_events_stay_unsent_in_order_until_they_are_marked(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([log_records.record(f"N{number}") for number in range(5)]))
    waiting = await store.unsent(3)
    assert [event.id for _, event in waiting] == [f"shop-sg:N{number}:1" for number in range(3)]
    await store.mark_sent([number for number, _ in waiting])
    assert [event.id for event in await all_unsent(store)] == ["shop-sg:N3:1", "shop-sg:N4:1"]


async def test_unmarked_event_is_sent_again_with_the_same_id_and_bytes(
    work: Processing, store: AnyStore, topics_: MemoryTopics, time: Time
) -> None:
    await work.process(log_records.logged([log_records.record("N1")]))
    forgetful = log_records.processing(Forgetful(store), time, topics_)
    await forgetful.emit()
    await work.emit()
    assert len(topics_.events) == 2
    assert topics_.events[0] == topics_.events[1]
    assert await work.emit() == 0


class Forgetful:
    """A store whose process dies between acknowledgement and mark."""

    def __init__(self, store: AnyStore) -> None:
        self.settle = store.settle
        self.unsent, self.set_aside = store.unsent, store.set_aside

    async def mark_sent(self, numbers: Sequence[int]) -> None:
        return


async def test_held_notification_has_a_notice_in_the_outbox(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([parked("P1")]))
    (notice,) = await all_unsent(store)
    assert (notice.topic, notice.id) == (topics.HELD, "held:0-1:0:parked")


async def test_feed_of_events_and_notices_can_be_read_from_any_number(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([log_records.record("N1"), parked("P1"), log_records.record("N2")]))
    feed = await store.events_after(0, 10)
    assert {each.event.id for each in feed} == {"shop-sg:N1:1", "held:0-2:0:parked", "shop-sg:N2:1"}
    assert [each.number for each in feed] == sorted(each.number for each in feed)
    assert await store.events_after(feed[0].number, 10) == feed[1:]
    assert await store.events_after(0, 1) == feed[:1]


async def test_equal_order_numbers_of_two_merchants_are_two_orders(work: Processing, store: AnyStore) -> None:
    first, second = ({"app_id": "2021000000000001", "auth_app_id": f"202100000000000{n}"} for n in (8, 9))
    paid = [
        log_records.record("N1", id_=f"n{n}", trade=f"T{n}", account=PROVIDER, total_amount=f"{n}.00", **merchant)
        for n, merchant in ((1, first), (2, second))
    ]
    unreadable = log_records.record("N1", "TRADE_ODD", id_="odd", account=PROVIDER, total_amount="1.00", **second)
    await work.process(log_records.logged([*paid, paid[0], unreadable]))
    for minor, merchant, ends in ((100, first, ["applied", "duplicate"]), (200, second, ["applied", "quarantined"])):
        scope = f"isv/{merchant['auth_app_id']}"
        page = await store.order_page(scope, "N1")
        assert page is not None
        assert page.view is not None
        assert (page.view.amount_minor, page.view.status) == (minor, Status.PAID)
        assert [each.event.id for each in page.events] == [f"{scope}:N1:1"]
        assert await dispositions(store, "N1", scope) == ends
    assert await store.order_page("isv", "N1") is None
    assert await store.find("N1") == [(f"isv/{each['auth_app_id']}", "N1") for each in (first, second)]
    scope = f"isv/{second['auth_app_id']}"
    for query, count in (
        (HeldQuery(account="isv"), 1),
        (HeldQuery(scope=scope), 1),
        (HeldQuery(scope="isv"), 0),
        (HeldQuery(account="is"), 0),
    ):
        assert len(await store.held_list(query)) == count
    (group,) = await store.held_groups(HeldQuery())
    assert (group.account, group.count) == ("isv", 1)
