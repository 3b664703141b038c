"""What every order store promises: one transaction, one disposition per record, versions without gaps, nothing lost.

Most tests go through the workers' story, since that is who uses a store; the refusals are provoked by hand-made plans.
"""

from collections.abc import Callable, Sequence

import pytest
from msgspec import structs

from schemas import events, topics
from schemas.dispositions import Disposition, Flag, Reason
from schemas.events import Outgoing
from schemas.money import Money
from schemas.orders import Order, Status
from schemas.record_format import Record
from tests.contract.engines import AnyStore, Engine, all_unsent
from tests.support import log_records
from tests.support.fakes import MemoryTopics, PlanObserver
from tests.support.log_records import NOW_MS, REGISTERED, Time
from workers.errors import RecordRefused, RefundTaken, VersionConflict
from workers.processing import Processing
from workers.queries import HeldQuery
from workers.settlement import decision, drafting, order_view
from workers.settlement.plan import Delivery, LoadRequest, OrderWrite, Position, Registration, StoreSnapshot, WritePlan

HOUR_MS = 3_600_000
NOTHING = LoadRequest(
    positions=frozenset(), ids=frozenset(), orders=frozenset(), trades=frozenset(), refunds=frozenset()
)


@pytest.fixture
def observer() -> PlanObserver:
    return PlanObserver()


@pytest.fixture
def topics_() -> MemoryTopics:
    return MemoryTopics()


@pytest.fixture
def work(store: AnyStore, time: Time, topics_: MemoryTopics, observer: PlanObserver) -> Processing:
    return log_records.processing(store, time, topics_, observer)


async def dispositions(store: AnyStore, order: str, account: str = "shop-sg") -> list[str]:
    page = await store.order_page(account, order)
    return [] if page is None else [delivery.disposition.value for delivery in page.deliveries]


async def version(store: AnyStore, order: str, account: str = "shop-sg") -> int:
    page = await store.order_page(account, order)
    return 0 if page is None or page.order is None else page.order.version


async def register(
    store: AnyStore, order: str, *, minor: int = 1280, refunds: Sequence[str] = (), account: str = REGISTERED.name
) -> WritePlan:
    registration = Registration(expected=Money(minor, "USD"), refunds=tuple(refunds))
    return await store.register(
        account,
        order,
        refunds,
        lambda known: decision.register(known, account, order, registration, now_ms=NOW_MS),
        by="tests",
        why="so that it is known",
    )


def plan(**parts: object) -> WritePlan:
    """An empty plan with some parts filled."""
    empty = drafting.empty()
    for name, part in parts.items():
        setattr(empty, name, part)
    return empty


def always(decided: WritePlan) -> Callable[[StoreSnapshot], WritePlan]:
    """A decision that is taken already."""
    return lambda _: decided


def delivery(offset: int, **changes: object) -> Delivery:
    plain = Delivery(
        position=Position(0, offset),
        account="shop-sg",
        order="N1",
        notification_id="n1",
        type="trade_status_sync",
        status="TRADE_SUCCESS",
        news="paid",
        disposition=Disposition.APPLIED,
        reason=Reason.NOTED,
        detail="",
        version=None,
        received_at_ms=NOW_MS,
        decided_at_ms=NOW_MS,
    )
    return structs.replace(plain, **changes)


def event(order: str, version: int) -> Outgoing:
    return Outgoing(
        id=f"shop-sg:{order}:{version}",
        topic=topics.ORDER_EVENT,
        key=f"shop-sg:{order}".encode(),
        value=b"{}",
        headers=(("ce_id", b"x"),),
    )


def order_write(order: Order, expected_version: int | None) -> OrderWrite:
    return OrderWrite(order=order, view=order_view.view(order), expected_version=expected_version)


# What is written together stands together


async def test_a_settled_batch_is_all_there_when_the_store_is_opened_again(engine: Engine, time: Time) -> None:
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


async def test_an_order_comes_back_as_it_was_written(work: Processing, store: AnyStore, observer: PlanObserver) -> None:
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


async def test_a_batch_delivered_again_changes_nothing(
    work: Processing, store: AnyStore, observer: PlanObserver
) -> None:
    batch = log_records.logged(
        [log_records.record("N1"), log_records.record("N2"), log_records.record("N1", "TRADE_FINISHED")]
    )
    await work.process(batch)
    before = (await store.order_page("shop-sg", "N1"), await all_unsent(store))
    await work.process(batch)
    assert observer.plans[-1] == drafting.empty()
    assert (await store.order_page("shop-sg", "N1"), await all_unsent(store)) == before


async def test_a_batch_of_which_a_part_was_settled_is_completed(work: Processing, store: AnyStore) -> None:
    batch = log_records.logged([log_records.record(f"N{number}") for number in range(6)])
    await work.process(batch[:4])
    await work.process(batch)
    assert [await dispositions(store, f"N{number}") for number in range(6)] == [["applied"]] * 6


async def test_the_same_notification_in_two_records_is_applied_once(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([log_records.record("N1")]))
    await work.process(log_records.logged([log_records.record("N1"), log_records.record("N1")], first=2))
    assert await dispositions(store, "N1") == ["applied", "duplicate", "duplicate"]
    assert await version(store, "N1") == 1


async def test_the_same_id_with_other_content_is_recognised(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([log_records.record("N1", id_="n")]))
    await work.process(log_records.logged([log_records.record("N1", "TRADE_FINISHED", id_="n")], first=2))
    (held,) = await store.held_list(HeldQuery())
    assert held.row.reason is Reason.ID_CONFLICT


async def test_one_id_of_two_accounts_is_two_notifications(work: Processing, store: AnyStore) -> None:
    await register(store, "N1")
    both = [log_records.record("N1", id_="n"), log_records.record("N1", id_="n", account=REGISTERED)]
    await work.process(log_records.logged(both))
    assert await dispositions(store, "N1") == ["applied"]
    assert await dispositions(store, "N1", REGISTERED.name) == ["applied"]


async def test_records_of_two_partitions_with_one_offset_are_two_records(work: Processing, store: AnyStore) -> None:
    first = log_records.logged([log_records.record("N1")])[0]
    other = structs.replace(log_records.logged([log_records.record("N2")])[0], position=Position(7, 1))
    await work.process([first])
    await work.process([other])
    assert (await dispositions(store, "N1"), await dispositions(store, "N2")) == (["applied"], ["applied"])


# Versions


async def test_versions_rise_by_one_with_one_event_each(work: Processing, store: AnyStore) -> None:
    news = ["WAIT_BUYER_PAY", "TRADE_SUCCESS", "TRADE_FINISHED"]
    await work.process(log_records.logged([log_records.record("N1", status) for status in news]))
    assert await version(store, "N1") == 3
    assert [event.id for event in await all_unsent(store)] == [f"shop-sg:N1:{number}" for number in (1, 2, 3)]


async def test_whoever_decided_on_an_older_version_is_fenced(work: Processing, store: AnyStore) -> None:
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


async def test_whoever_thought_an_order_new_that_is_not_is_fenced(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([log_records.record("N1")]))
    fresh = plan(orders=[order_write(Order(account="shop-sg", number="N1", registered=True), None)])
    with pytest.raises(VersionConflict):
        await store.settle(NOTHING, lambda _: fresh)
    assert await version(store, "N1") == 1


@pytest.mark.parametrize("skipped", [2, 9])
async def test_no_event_can_skip_the_one_before_it(store: AnyStore, skipped: int) -> None:
    with pytest.raises(RecordRefused):
        await store.settle(NOTHING, lambda _: plan(events=[event("N1", skipped)]))


async def test_no_order_can_have_a_version_without_its_event(work: Processing, store: AnyStore) -> None:
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


async def test_no_order_falls_in_rank(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([log_records.record("N1")]))
    forgetful = Order(account="shop-sg", number="N1", version=2)
    with pytest.raises(RecordRefused):
        await store.settle(NOTHING, lambda _: plan(orders=[order_write(forgetful, 1)], events=[event("N1", 2)]))
    page = await store.order_page("shop-sg", "N1")
    assert page is not None
    assert page.view is not None
    assert page.view.status is Status.PAID


# What cannot be written holds nothing else up


async def test_a_second_disposition_of_one_record_is_refused_whole(store: AnyStore) -> None:
    await store.settle(NOTHING, lambda _: plan(deliveries=[delivery(5)]))
    with pytest.raises(RecordRefused):
        await store.settle(NOTHING, lambda _: plan(deliveries=[delivery(6, order="N2"), delivery(5)]))
    assert await dispositions(store, "N2") == []


@pytest.mark.parametrize(
    "impossible", [{"detail": "\ud800"}, {"received_at_ms": 2**63}], ids=["lone surrogate", "65 bits"]
)
async def test_what_no_database_can_hold_is_the_records_own_fault(
    store: AnyStore, impossible: dict[str, object]
) -> None:
    with pytest.raises(RecordRefused):
        await store.settle(NOTHING, lambda _: plan(deliveries=[delivery(1, order="N0"), delivery(2, **impossible)]))
    assert await dispositions(store, "N0") == []
    await store.settle(NOTHING, lambda _: plan(deliveries=[delivery(1)]))
    assert await dispositions(store, "N1") == ["applied"]


async def test_what_deciding_raises_is_raised_and_nothing_is_written(store: AnyStore) -> None:
    def fails(known: StoreSnapshot) -> WritePlan:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.settle(NOTHING, fails)
    await store.settle(NOTHING, lambda _: plan(deliveries=[delivery(1)]))
    assert await dispositions(store, "N1") == ["applied"]


async def test_one_bad_record_of_a_batch_is_held_and_its_neighbours_are_applied(
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

    async def unsent(self, limit: int) -> Sequence[tuple[int, Outgoing]]:
        return await self._store.unsent(limit)

    async def mark_sent(self, numbers: Sequence[int]) -> None:
        await self._store.mark_sent(numbers)


# Held notifications


def parked(order: str, **more: str) -> Record:
    return log_records.record(order, account=REGISTERED, **more)


async def test_what_is_parked_keeps_its_bytes_and_comes_due(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([parked("P1")]))
    assert await store.due(now_ms=NOW_MS, limit=10) == []
    next_ms = await store.next_due_ms()
    assert next_ms is not None
    assert next_ms > NOW_MS
    (row,) = await store.due(now_ms=next_ms, limit=10)
    assert row.record == parked("P1")
    assert (row.disposition, row.waits_for, row.attempts) == (Disposition.PARKED, "order:P1", 0)


async def test_a_registration_wakes_what_was_parked_for_it_and_nothing_else(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([parked("P1"), parked("P2"), parked("P1", id_="again")]))
    await register(store, "P1")
    due = await store.due(now_ms=NOW_MS, limit=10)
    assert [row.order for row in due] == ["P1", "P1"]
    await work.retry(due)
    assert await dispositions(store, "P1", REGISTERED.name) == ["applied", "duplicate"]
    assert await dispositions(store, "P2", REGISTERED.name) == ["parked"]
    assert [page.row.order for page in await store.held_list(HeldQuery())] == ["P2"]


async def test_a_resolved_row_says_what_became_of_it(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([parked("P1")]))
    await register(store, "P1")
    await work.retry(await store.due(now_ms=NOW_MS, limit=10))
    page = await store.held_page("0-1")
    assert page is not None
    assert (page.resolution, page.resolved_at_ms) == ("applied", NOW_MS)
    assert [each.row.id for each in await store.held_list(HeldQuery(resolved=True))] == ["0-1"]
    assert await store.next_due_ms() is None


async def test_what_is_tried_in_vain_waits_longer(work: Processing, store: AnyStore, time: Time) -> None:
    await work.process(log_records.logged([parked("P1")]))
    first_ms = await store.next_due_ms()
    assert first_ms is not None
    time.now_ms = first_ms
    await work.retry(await store.due(now_ms=first_ms, limit=10))
    second_ms = await store.next_due_ms()
    assert second_ms is not None
    assert second_ms - first_ms > first_ms - NOW_MS
    page = await store.held_page("0-1")
    assert page is not None
    assert (page.row.attempts, page.row.first_at_ms) == (1, NOW_MS)


async def test_what_waited_a_day_and_an_hour_is_for_a_person(work: Processing, store: AnyStore, time: Time) -> None:
    await work.process(log_records.logged([parked("P1")]))
    time.now_ms += 25 * HOUR_MS
    await work.retry(await store.due(now_ms=time.now_ms, limit=10))
    page = await store.held_page("0-1")
    assert page is not None
    assert (page.row.disposition, page.row.reason) == (Disposition.QUARANTINED, Reason.WAITED_TOO_LONG)
    assert page.resolved_at_ms is None
    assert await store.next_due_ms() is None
    assert await dispositions(store, "P1", REGISTERED.name) == ["quarantined"]


async def test_what_is_held_a_second_time_for_the_same_reason_is_told_of_again(store: AnyStore, time: Time) -> None:
    keyed = log_records.processing(store, time)
    keyless = log_records.processing(store, time, authenticate=log_records.nobody_signed_this)
    await keyless.process(log_records.logged([parked("P1")]))
    for work in (keyed, keyless):
        (page,) = await store.held_list(HeldQuery())
        await work.retry([page.row])
    (page,) = await store.held_list(HeldQuery())
    assert (page.row.disposition, page.row.reason) == (Disposition.DEAD, Reason.UNAUTHENTICATED)
    told = [events.decoded(notice.value)["disposition"] for notice in await all_unsent(store)]
    assert told == ["dead", "parked", "dead"]


async def test_a_row_that_two_read_and_both_try_is_told_of_once(work: Processing, store: AnyStore, time: Time) -> None:
    await work.process(log_records.logged([parked("P1")]))
    time.now_ms += 25 * HOUR_MS
    due = await store.due(now_ms=time.now_ms, limit=10)
    await work.retry(due)
    await work.retry(due)
    (page,) = await store.held_list(HeldQuery())
    assert (page.row.disposition, page.row.reason) == (Disposition.QUARANTINED, Reason.WAITED_TOO_LONG)
    assert len(await all_unsent(store)) == 2


async def test_what_somebody_tried_meanwhile_is_left_as_it_came_out(work: Processing, store: AnyStore) -> None:
    second = parked("P1", id_="second", trade="2025100922001other")
    await work.process(log_records.logged([parked("P1"), second]))
    await register(store, "P1")
    due = await store.due(now_ms=NOW_MS, limit=10)
    await work.retry(due)
    await work.retry(due)
    (page,) = await store.held_list(HeldQuery())
    assert (page.row.id, page.row.reason) == ("0-2", Reason.SECOND_TRADE), "a person has to look at it"
    await work.retry([page.row])
    assert await store.held_list(HeldQuery()) == []


async def test_a_row_that_was_resolved_meanwhile_is_not_settled_again(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([parked("P1")]))
    await register(store, "P1")
    due = await store.due(now_ms=NOW_MS, limit=10)
    await work.retry(due)
    before = await all_unsent(store)
    await work.retry(due)
    assert await version(store, "P1", REGISTERED.name) == 1
    assert await all_unsent(store) == before


async def test_news_of_a_trade_wakes_the_refund_that_waited_for_it(work: Processing, store: AnyStore) -> None:
    refund = log_records.record(
        "",
        notify_type="batch_refund_notify",
        id_="b1",
        batch_no="20251009001",
        result_details="2025100922001N1^2.80^SUCCESS",
    )
    await work.process(log_records.logged([refund]))
    assert await store.due(now_ms=NOW_MS, limit=10) == []
    await work.process(log_records.logged([log_records.record("N1")], first=2))
    await work.retry(await store.due(now_ms=NOW_MS, limit=10))
    page = await store.order_page("shop-sg", "N1")
    assert page is not None
    assert page.view is not None
    assert page.view.refunded_minor == 280


async def test_what_one_batch_parks_and_makes_come_true_is_due_at_once(work: Processing, store: AnyStore) -> None:
    refund = log_records.record(
        "",
        notify_type="batch_refund_notify",
        id_="b1",
        batch_no="20251009001",
        result_details="2025100922001N1^2.80^SUCCESS",
    )
    await work.process(log_records.logged([refund, log_records.record("N1")]))
    assert len(await store.due(now_ms=NOW_MS, limit=10)) == 1


async def test_a_replayed_row_keeps_the_version_that_it_gave_when_it_was_held(
    work: Processing, store: AnyStore
) -> None:
    contradiction = log_records.record("N1", id_="second", trade="2025100922001other")
    await work.process(log_records.logged([log_records.record("N1"), contradiction]))
    page = await store.held_page("0-2")
    assert page is not None
    assert page.row.disposition is Disposition.QUARANTINED
    await work.retry([page.row])
    shown = await store.order_page("shop-sg", "N1")
    assert shown is not None
    assert shown.deliveries[1].version == 2


async def test_the_longest_due_comes_first_and_no_more_than_asked_for(
    work: Processing, store: AnyStore, time: Time
) -> None:
    for offset, order in enumerate(("P1", "P2", "P3"), 1):
        await work.process(log_records.logged([parked(order)], first=offset))
        time.now_ms += 1000
    due = await store.due(now_ms=NOW_MS + HOUR_MS, limit=2)
    assert [row.order for row in due] == ["P1", "P2"]


async def test_a_discarded_row_is_resolved_once_by_whom_and_why(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([parked("P1")]))
    assert await store.discard("0-1", by="ana", why="a test order", now_ms=NOW_MS + 5)
    assert not await store.discard("0-1", by="bo", why="again", now_ms=NOW_MS + 6)
    page = await store.held_page("0-1")
    assert page is not None
    assert (page.resolution, page.by, page.why, page.resolved_at_ms) == ("discarded", "ana", "a test order", NOW_MS + 5)
    assert await store.next_due_ms() is None


@pytest.mark.parametrize("unknown", ["0-2", "", "nonsense", "0-", "-1", "0-\u0661", "1-1", "0-99999999999999999999"])
async def test_an_id_that_stands_for_nothing_is_answered_so(work: Processing, store: AnyStore, unknown: str) -> None:
    await work.process(log_records.logged([parked("P1")]))
    assert await store.held_page(unknown) is None
    assert not await store.discard(unknown, by="ana", why="", now_ms=NOW_MS)


async def test_a_replay_is_counted_before_it_is_tried(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([parked("P1"), parked("P2")]))
    await store.note_replay(["0-1", "0-2"], by="ana", why="fixed", now_ms=NOW_MS)
    await store.note_replay(["0-1"], by="ana", why="fixed again", now_ms=NOW_MS)
    assert [page.replays for page in await store.held_list(HeldQuery())] == [2, 1]


async def test_held_notifications_are_found_by_what_they_are(work: Processing, store: AnyStore, time: Time) -> None:
    await work.process(log_records.logged([parked("P1"), log_records.sealed(b"no form at all", "X")]))
    time.now_ms += 1000
    await work.process(log_records.logged([parked("P2")], first=3))

    async def found(query: HeldQuery) -> list[str]:
        return [page.row.id for page in await store.held_list(query)]

    assert await found(HeldQuery()) == ["0-1", "0-2", "0-3"]
    assert await found(HeldQuery(limit=1)) == ["0-1"]
    assert await found(HeldQuery(account=REGISTERED.name)) == ["0-1", "0-3"]
    assert await found(HeldQuery(order="P2")) == ["0-3"]
    assert await found(HeldQuery(disposition=Disposition.DEAD)) == ["0-2"]
    assert await found(HeldQuery(reason=Reason.UNKNOWN_ORDER, since_ms=NOW_MS + 1000)) == ["0-3"]
    assert await found(HeldQuery(resolved=True)) == []


# The outbox


async def test_events_wait_in_their_order_until_they_are_marked(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([log_records.record(f"N{number}") for number in range(5)]))
    waiting = await store.unsent(3)
    assert [event.id for _, event in waiting] == [f"shop-sg:N{number}:1" for number in range(3)]
    await store.mark_sent([number for number, _ in waiting])
    assert [event.id for event in await all_unsent(store)] == ["shop-sg:N3:1", "shop-sg:N4:1"]


async def test_what_was_not_marked_is_sent_again_with_the_same_id_and_bytes(
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
        self.unsent = store.unsent

    async def mark_sent(self, numbers: Sequence[int]) -> None:
        return


async def test_each_held_notification_has_a_notice_in_the_outbox(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([parked("P1")]))
    (notice,) = await all_unsent(store)
    assert (notice.topic, notice.id) == (topics.HELD, "held:0-1:0:parked")


async def test_the_feed_of_events_and_notices_can_be_read_from_anywhere(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([log_records.record("N1"), parked("P1"), log_records.record("N2")]))
    feed = await store.events_after(0, 10)
    assert {each.event.id for each in feed} == {"shop-sg:N1:1", "held:0-2:0:parked", "shop-sg:N2:1"}
    assert [each.number for each in feed] == sorted(each.number for each in feed)
    assert await store.events_after(feed[0].number, 10) == feed[1:]
    assert await store.events_after(0, 1) == feed[:1]


# What people ask


async def test_nothing_is_known_of_a_number_that_never_occurred(store: AnyStore) -> None:
    assert await store.order_page("shop-sg", "N1") is None
    assert await store.find("N1") == []
    assert await store.recent(10) == []


async def test_an_order_with_only_held_notifications_has_a_page(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([parked("P1")]))
    page = await store.order_page(REGISTERED.name, "P1")
    assert page is not None
    assert (page.order, page.view, len(page.deliveries), page.events) == (None, None, 1, ())


async def test_an_order_is_found_by_its_own_its_trades_and_its_notifications_number(
    work: Processing, store: AnyStore
) -> None:
    await work.process(log_records.logged([log_records.record("N1", id_="n1", trade="2025T"), parked("P1", id_="p1")]))
    assert await store.find("N1") == await store.find("2025T") == await store.find("n1") == [("shop-sg", "N1")]
    assert await store.find("P1") == await store.find("p1") == [(REGISTERED.name, "P1")]
    assert await store.find("N") == []


async def test_one_number_in_two_accounts_is_found_in_both(work: Processing, store: AnyStore) -> None:
    await register(store, "N1")
    await work.process(log_records.logged([log_records.record("N1")]))
    assert await store.find("N1") == [(REGISTERED.name, "N1"), ("shop-sg", "N1")]


async def test_what_changed_last_is_shown_first(work: Processing, store: AnyStore, time: Time) -> None:
    for offset, order in enumerate(("N1", "N2", "N1"), 1):
        time.now_ms += 1000
        status = "TRADE_FINISHED" if offset == 3 else "TRADE_SUCCESS"
        await work.process(log_records.logged([log_records.record(order, status)], first=offset))
    assert [page.number for page in await store.recent(10)] == ["N1", "N2"]
    assert [page.number for page in await store.recent(1)] == ["N1"]


async def test_the_gauges_count_what_waits(work: Processing, store: AnyStore, time: Time) -> None:
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


# Registration


async def test_a_registered_order_is_there_before_it_is_heard_of(store: AnyStore) -> None:
    await register(store, "N1")
    page = await store.order_page(REGISTERED.name, "N1")
    assert page is not None
    assert page.order is not None
    assert (page.order.registered, page.order.version, page.order.expected) == (True, 0, Money(1280, "USD"))


async def test_what_is_paid_is_compared_with_what_was_registered(work: Processing, store: AnyStore) -> None:
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


async def test_a_registered_refund_leads_to_its_order(store: AnyStore) -> None:
    await register(store, "N1", refunds=["R1", "R2"])
    seen: list[StoreSnapshot] = []

    def look(known: StoreSnapshot) -> WritePlan:
        seen.append(known)
        return drafting.empty()

    await store.settle(structs.replace(NOTHING, refunds=frozenset({(REGISTERED.name, "R2"), ("shop-sg", "R2")})), look)
    assert seen[0].order_by_refund == {(REGISTERED.name, "R2"): "N1"}
    assert (REGISTERED.name, "N1") in seen[0].orders


async def test_a_refund_number_belongs_to_one_order(store: AnyStore) -> None:
    await register(store, "N1", refunds=["R1"])
    await register(store, "N1", refunds=["R1"])
    with pytest.raises(RefundTaken, match="refund R1 is registered with order N1 already"):
        await register(store, "N2", refunds=["R1"])
    assert await store.order_page(REGISTERED.name, "N2") is None
