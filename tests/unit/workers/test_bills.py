"""What the store tells a comparison: the trades of an order, and when it was paid and refunded."""

from datetime import datetime

import pytest
from msgspec import structs

from schemas import times
from tests.support.admin import World, form
from tests.support.log_records import NOW_MS
from workers import bills
from workers.bills import BillReport, OrderHistory, OrderPayment
from workers.queries import OrderPage

PAID_MS = times.to_epoch_ms(datetime(2025, 10, 9, 16, 53, 18, tzinfo=times.BEIJING))
REFUND = {"refund_status": "REFUND_SUCCESS", "gmt_refund": "2025-10-10 10:00:00", "trade_status": "TRADE_SUCCESS"}
REFUNDED_MS = times.to_epoch_ms(datetime(2025, 10, 10, 10, tzinfo=times.BEIJING))


async def page_of(world: World, order: str) -> OrderPage:
    page = await world.store.order_page("shop", order)
    assert page is not None
    return page


async def history(world: World, order: str) -> OrderHistory:
    return bills.history(await page_of(world, order))


async def test_history_has_the_times_of_alipay() -> None:
    world = World()
    await world.deliver(form("A1", "WAIT_BUYER_PAY"))
    await world.deliver(form("A1"))
    await world.deliver(form("A1", "TRADE_FINISHED"))
    found = await history(world, "A1")
    assert (found.paid_at_ms, found.received_at_ms, found.refunds) == (PAID_MS, NOW_MS, ())


async def test_history_has_each_refund_with_its_time() -> None:
    world = World()
    await world.deliver(form("A1"))
    await world.deliver(form("A1", refund_fee="5.00", notify_id="r1", **REFUND))
    await world.deliver(form("A1", refund_fee="6.00", notify_id="r2", **REFUND | {"gmt_refund": "2025-10-11 10:00:00"}))
    found = await history(world, "A1")
    assert found.paid_at_ms == PAID_MS
    assert found.refunds == ((REFUNDED_MS, 500), (REFUNDED_MS + times.DAY_MS, 100))
    order = (await page_of(world, "A1")).order
    assert order is not None
    assert bills.payments(order) == [
        OrderPayment(trade="20251009A1", minor=1280, currency="USD", is_paid=True, refunded_minor=600)
    ]


async def test_history_without_the_old_events_knows_the_time_of_receipt_only() -> None:
    world = World()
    await world.deliver(form("A1", "WAIT_BUYER_PAY"))
    await world.deliver(form("A1"))
    await world.deliver(form("A1", refund_fee="5.00", notify_id="r1", **REFUND))
    page = await page_of(world, "A1")
    found = bills.history(structs.replace(page, events=page.events[-1:]))
    assert (found.paid_at_ms, found.received_at_ms, found.refunds) == (None, NOW_MS, ())


async def test_order_that_is_not_paid_has_no_history() -> None:
    world = World()
    await world.deliver(form("A1", "WAIT_BUYER_PAY"))
    assert await history(world, "A1") == OrderHistory(paid_at_ms=None, received_at_ms=None, refunds=())


@pytest.mark.parametrize(
    ("fields", "is_agreed", "differences"),
    [
        ({}, True, 0),
        ({"counts": {"uncertain": 3}}, True, 0),
        ({"counts": {"uncertain": 3, "payment_amount": 2}}, False, 2),
        ({"unreadable": 1}, False, 0),
        ({"disagreements": ("cut off",)}, False, 0),
    ],
)
def test_report_agrees_if_every_row_was_read_and_none_differs(
    fields: dict[str, object], is_agreed: bool, differences: int
) -> None:
    report = structs.replace(BillReport(file="f", layout="l", since_ms=0, until_ms=1, by="kim"), **fields)
    assert (report.is_agreed, report.differences) == (is_agreed, differences)
