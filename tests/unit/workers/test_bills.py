"""What the store tells a comparison: the trades of an order, and when it was paid and refunded."""

from datetime import datetime

import msgspec
import pytest
from msgspec import structs

from schemas import times, topics
from schemas.dispositions import Disposition
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
    assert found.refunds == ((REFUNDED_MS, 500, NOW_MS), (REFUNDED_MS + times.DAY_MS, 100, NOW_MS))
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
    assert (found.paid_at_ms, found.received_at_ms, found.refunds) == (None, NOW_MS, ((None, 500, NOW_MS),))


@pytest.mark.parametrize("status", ["TRADE_FINISHED", "TRADE_PENDING"])
async def test_payment_first_reported_as_finished_or_frozen_has_its_time(status: str) -> None:
    world = World()
    await world.deliver(form("A1", status))
    found = await history(world, "A1")
    assert (found.paid_at_ms, found.received_at_ms) == (PAID_MS, NOW_MS)


async def test_payment_first_reported_as_a_refund_has_the_time_of_receipt_only() -> None:
    world = World()
    await world.deliver(form("A1", refund_fee="5.00", notify_id="r1", **REFUND))
    assert await history(world, "A1") == OrderHistory(
        paid_at_ms=None, received_at_ms=NOW_MS, refunds=((REFUNDED_MS, 500, NOW_MS),)
    )


async def test_payment_that_an_operator_accepted_has_the_time_of_what_is_known() -> None:
    world = World()
    await world.deliver(form("A1"))
    page = await page_of(world, "A1")
    (event,) = (each for each in page.events if each.event.topic == topics.ORDER_EVENT)
    value = msgspec.json.decode(event.event.value) | {"cause": None}
    decided = structs.replace(event, event=structs.replace(event.event, value=msgspec.json.encode(value)))
    held = [
        structs.replace(each, disposition=Disposition.QUARANTINED, received_at_ms=NOW_MS - 5)
        for each in page.deliveries
    ]
    for deliveries, received_ms in (
        (held, NOW_MS - 5),
        ([], times.to_epoch_ms(datetime.fromisoformat(value["occurred_at"]))),
    ):
        found = bills.history(structs.replace(page, events=[decided], deliveries=deliveries))
        assert (found.paid_at_ms, found.received_at_ms) == (None, received_ms)


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
        ({"left_out": ("other.csv",)}, False, 0),
        ({"outside": 4}, True, 0),
        ({"disagreements": ("cut off",)}, False, 0),
    ],
)
def test_report_agrees_if_every_row_was_read_and_none_differs(
    fields: dict[str, object], is_agreed: bool, differences: int
) -> None:
    report = structs.replace(BillReport(file="f", layout="l", since_ms=0, until_ms=1, by="kim"), **fields)
    assert (report.is_agreed, report.differences) == (is_agreed, differences)
