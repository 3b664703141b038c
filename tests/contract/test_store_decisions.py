"""Operators' decisions in every order store: accept and discard, with the order, its events and its flags."""

import asyncio

import pytest
from msgspec import structs

from schemas import events
from schemas.dispositions import Flag, Reason
from schemas.orders import Order, Status
from schemas.record_format import Record
from tests.contract.engines import AnyStore, all_unsent
from tests.contract.shortcuts import dispositions, parked, register
from tests.support import log_records
from tests.support.log_records import REGISTERED, Operator, Time
from tests.support.plans import event, order_write, plan
from workers.errors import RecordRefused
from workers.processing import Processing
from workers.queries import HeldQuery, OrderPage, OrderQuery
from workers.settlement.plan import DecisionRow, LoadRequest, Position
from workers.settlement.verdicts import DecisionRefused

SHOP = "shop-sg"
OTHER_TRADE = "2025100922001other"
NOTHING = LoadRequest(
    positions=frozenset(), ids=frozenset(), orders=frozenset(), trades=frozenset(), refunds=frozenset()
)


def decision(*, version: int) -> DecisionRow:
    return DecisionRow(
        position=Position(0, 1),
        account=SHOP,
        order="N1",
        notification_id="n",
        version=version,
        action="discard",
        resolution="discarded",
        by="ana",
        why="wrong",
        at_ms=log_records.NOW_MS,
    )


@pytest.fixture
def operator(store: AnyStore, time: Time) -> Operator:
    return Operator(store, time)


async def page_of(store: AnyStore, order: str, account: str = SHOP) -> OrderPage:
    page = await store.order_page(account, order)
    assert page is not None
    return page


async def shown(store: AnyStore, order: str, account: str = SHOP) -> tuple[object, ...]:
    page = await page_of(store, order, account)
    assert page.view is not None
    assert page.order is not None
    return page.view.status, page.view.amount_minor, page.view.flags, page.order.version


async def test_accepted_amount_is_registered_and_applied_in_one_version(
    work: Processing, store: AnyStore, operator: Operator
) -> None:
    await register(store, "P1", minor=9900)
    await work.process(log_records.logged([parked("P1")]))
    assert await shown(store, "P1", REGISTERED.name) == (Status.WAITING, 9900, (Flag.AMOUNT_MISMATCH,), 1)
    assert (await operator.page("0-1")).row.detail == "said 12.80 USD, registered 99.00 USD"
    await operator.accept("0-1")
    assert await shown(store, "P1", REGISTERED.name) == (Status.PAID, 1280, (), 2)
    page = await operator.page("0-1")
    assert (page.resolution, page.by, page.why) == ("accepted", "ana", "agreed with the buyer")
    assert await dispositions(store, "P1", REGISTERED.name) == ["applied"]
    (decision,) = (await page_of(store, "P1", REGISTERED.name)).decisions
    assert (decision.held_id, decision.version, decision.action, decision.by) == ("0-1", 2, "accept", "ana")
    sent = [events.decoded(each.value) for each in await all_unsent(store)]
    assert [each["type"] for each in sent if "type" in each][-1] == "alipay_notify.order.paid.v1"
    await work.process(log_records.logged([parked("P1", status="TRADE_FINISHED")], first=2))
    assert await shown(store, "P1", REGISTERED.name) == (Status.FINISHED, 1280, (), 3)


async def test_accepting_one_price_applies_the_other_rows_of_the_same_price(
    work: Processing, store: AnyStore, operator: Operator
) -> None:
    await register(store, "P1", minor=9900)
    rows = [
        parked("P1"),
        parked("P1", status="TRADE_FINISHED"),
        parked("P1", id_="wrong", amount="0.01", trade="2026T"),
    ]
    await work.process(log_records.logged(rows))
    await operator.accept("0-1")
    assert await dispositions(store, "P1", REGISTERED.name) == ["applied", "applied", "quarantined"]
    status, _, flags, _ = await shown(store, "P1", REGISTERED.name)
    assert (status, flags) == (Status.FINISHED, (Flag.AMOUNT_MISMATCH,)), "the third amount is not decided"
    await operator.discard("0-3")
    assert (await shown(store, "P1", REGISTERED.name))[2] == ()


async def test_discard_clears_the_flag_once_no_other_row_raises_it(
    work: Processing, store: AnyStore, operator: Operator
) -> None:
    await register(store, "P1", minor=9900)
    await work.process(log_records.logged([parked("P1"), parked("P1", id_="twice")]))
    await operator.discard("0-1")
    assert await shown(store, "P1", REGISTERED.name) == (Status.WAITING, 9900, (Flag.AMOUNT_MISMATCH,), 1)
    await operator.discard("0-2")
    assert await shown(store, "P1", REGISTERED.name) == (Status.WAITING, 9900, (), 2)
    assert [each.version for each in (await page_of(store, "P1", REGISTERED.name)).decisions] == [None, 2]
    again = [parked("P1"), parked("P1", id_="third")]
    await work.process(log_records.logged(again, first=3))
    assert (await operator.page("0-1")).resolution == "discarded"
    assert await dispositions(store, "P1", REGISTERED.name) == ["quarantined"] * 2 + ["duplicate", "quarantined"]
    assert (await shown(store, "P1", REGISTERED.name))[2] == (Flag.AMOUNT_MISMATCH,)


async def test_discarded_second_trade_leaves_the_order_with_all_that_followed(
    work: Processing, store: AnyStore, operator: Operator
) -> None:
    rows = [log_records.record("N1"), log_records.record("N1", id_="b", trade=OTHER_TRADE)]
    refunded = log_records.record(
        "N1",
        "TRADE_CLOSED",
        id_="c",
        refund_status="REFUND_SUCCESS",
        gmt_refund="2025-10-10 00:00:00",
        trade=OTHER_TRADE,
    )
    await work.process(log_records.logged([*rows, refunded]))
    assert (await shown(store, "N1"))[:1] == (Status.CLOSED,), "the refund of the second payment outranks the first"
    await operator.discard("0-2", why="refunded by hand")
    assert await shown(store, "N1") == (Status.PAID, 1280, (), 4)
    later = log_records.record(
        "N1",
        "TRADE_CLOSED",
        id_="d",
        refund_status="REFUND_SUCCESS",
        gmt_refund="2025-10-11 00:00:00",
        trade=OTHER_TRADE,
    )
    await work.process(log_records.logged([later], first=4))
    assert await shown(store, "N1") == (Status.PAID, 1280, (), 4), "the end of a payment that does not count is noted"
    await work.process(log_records.logged([log_records.record("N1", id_="e", trade=OTHER_TRADE)], first=5))
    assert (await operator.page("0-5")).row.reason is Reason.SECOND_TRADE
    assert await shown(store, "N1") == (Status.PAID, 1280, (Flag.SECOND_TRADE,), 5)


async def test_accepted_second_trade_is_the_payment_that_counts(
    work: Processing, store: AnyStore, operator: Operator
) -> None:
    rows = [log_records.record("N1", "TRADE_FINISHED"), log_records.record("N1", id_="b", trade=OTHER_TRADE)]
    await work.process(log_records.logged(rows))
    await operator.accept("0-2")
    page = await page_of(store, "N1")
    assert page.view is not None
    assert (page.view.trade, page.view.flags) == (OTHER_TRADE, ())
    assert page.view.status is Status.PAID, "it falls in rank, because the operator decided"
    assert await store.held_list(HeldQuery()) == []


async def test_discarded_expiry_and_discarded_payment_each_leave_the_other(
    work: Processing, store: AnyStore, operator: Operator
) -> None:
    await work.process(
        log_records.logged(
            [
                log_records.record("N1"),
                log_records.record("N1", "TRADE_CLOSED", id_="x"),
                log_records.record("N2", "TRADE_CLOSED"),
                log_records.record("N2", "TRADE_SUCCESS"),
            ]
        )
    )
    for id_ in ("0-2", "0-4"):
        assert (await operator.page(id_)).row.reason is Reason.PAID_AND_EXPIRED
        await operator.discard(id_)
    assert (await shown(store, "N1"))[:3] == (Status.PAID, 1280, ())
    assert (await shown(store, "N2"))[:3] == (Status.CLOSED, 1280, ())


async def test_refunds_beyond_the_payment_are_accepted_or_discarded(
    work: Processing, store: AnyStore, operator: Operator
) -> None:
    def refund(id_: str) -> Record:
        return log_records.record(
            "",
            notify_type="batch_refund_notify",
            id_=id_,
            batch_no=f"20251009{id_}",
            result_details="2025100922001N1^8.00^SUCCESS",
        )

    rows = [log_records.record("N1"), refund("001"), refund("002"), refund("003")]
    await work.process(log_records.logged(rows))
    assert (await operator.page("0-3")).row.detail == "refunded 16.00 USD, paid 12.80 USD"
    await operator.discard("0-4")
    await operator.accept("0-3")
    assert (await shown(store, "N1"))[:3] == (Status.CLOSED, 1280, ())
    page = await page_of(store, "N1")
    assert page.view is not None
    assert (page.view.refunded_minor, page.view.refund_accepted_minor) == (1280, 1600)
    sent = [events.decoded(each.value) for each in await all_unsent(store)]
    last = [each for each in sent if "version" in each][-1]
    assert (last["type"], last["refund_accepted_minor"]) == ("alipay_notify.order.refunded.v1", 1600)
    assert [each.view for each in (await store.order_list(OrderQuery(limit=1))).pages] == [page.view]
    await work.process(log_records.logged([refund("004")], first=5))
    assert (await shown(store, "N1"))[2] == (Flag.OVER_REFUNDED,), "more than was accepted"
    await operator.discard("0-5")
    assert (await shown(store, "N1"))[:3] == (Status.CLOSED, 1280, ())


async def test_rows_held_for_other_reasons_cannot_be_accepted(
    work: Processing, store: AnyStore, operator: Operator
) -> None:
    await work.process(log_records.logged([parked("P1"), log_records.sealed(b"no form at all", "X")]))
    for id_ in ("0-1", "0-2"):
        with pytest.raises(DecisionRefused, match="accept is for another amount"):
            await operator.accept(id_)
    assert len(await store.held_list(HeldQuery())) == 2


async def test_of_two_decisions_at_once_one_wins_and_the_other_is_refused(
    work: Processing, store: AnyStore, operator: Operator
) -> None:
    await register(store, "P1", minor=9900)
    await work.process(log_records.logged([parked("P1")]))
    page = await operator.page("0-1")
    calls = [
        operator.decisions.accept(page, by="ana", why="right"),
        operator.decisions.discard(page, by="bo", why="wrong"),
        operator.decisions.accept(page, by="cy", why="right"),
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sorted(str(type(each).__name__) for each in results) == ["DecisionRefused", "DecisionRefused", "NoneType"]
    assert len((await page_of(store, "P1", REGISTERED.name)).decisions) == 1


async def test_row_retried_since_it_was_read_is_not_decided(
    work: Processing, store: AnyStore, operator: Operator
) -> None:
    await register(store, "P1", minor=9900)
    await work.process(log_records.logged([parked("P1")]))
    page = await operator.page("0-1")
    await work.retry([page.row])
    with pytest.raises(DecisionRefused, match="retried meanwhile"):
        await operator.decisions.discard(page, by="ana", why="wrong")


async def test_rank_falls_only_in_the_version_that_a_decision_names(work: Processing, store: AnyStore) -> None:
    await work.process(log_records.logged([log_records.record("N1")]))
    forgetful = order_write(Order(account=SHOP, number="N1", version=2), 1)
    decided = decision(version=3)
    with pytest.raises(RecordRefused):
        await store.settle(
            NOTHING, lambda _: structs.replace(plan(orders=[forgetful], events=[event("N1", 2)]), decisions=[decided])
        )
    assert (await shown(store, "N1"))[0] is Status.PAID
    decided = decision(version=2)
    await store.settle(
        NOTHING, lambda _: structs.replace(plan(orders=[forgetful], events=[event("N1", 2)]), decisions=[decided])
    )
    assert (await shown(store, "N1"))[0] is Status.WAITING
