"""Long polls: waiters for order changes, and the calls that wake them."""

import pytest
from msgspec import structs

from schemas.orders import Order
from workers.long_poll import OrderChanges, TooManyWaiters
from workers.settlement import drafting, order_view
from workers.settlement.plan import OrderWrite


async def test_change_between_read_and_wait_is_not_missed() -> None:
    changes = OrderChanges()
    with changes.watch("shop", "A1") as waiter:
        changes.changed("shop", "A1")
        assert await waiter.wait(0.01)
        assert not await waiter.wait(0.01)


async def test_change_wakes_the_waiters_for_its_order_and_for_any_order() -> None:
    changes = OrderChanges()
    with changes.watch("shop", "A1") as first, changes.watch("other", "A1") as other, changes.watch_all() as any_:
        changes.changed("shop", "A1")
        assert (await first.wait(0), await other.wait(0), await any_.wait(0)) == (True, False, True)


async def test_limit_of_waiters_counts_only_present_ones() -> None:
    changes = OrderChanges(waiters_max=1)
    for _ in range(3):
        with changes.watch("shop", "A1"), pytest.raises(TooManyWaiters), changes.watch_all():
            pass
        with changes.watch_all(), pytest.raises(TooManyWaiters), changes.watch("shop", "A1"):
            pass


async def test_closing_wakes_all_waiters() -> None:
    changes = OrderChanges()
    with changes.watch("shop", "A1") as first, changes.watch_all() as any_:
        changes.close()
        assert await first.wait(1)
        assert await any_.wait(1)
    assert changes.is_closed


async def test_stored_plan_wakes_the_waiters_for_its_orders() -> None:
    changes, order = OrderChanges(), Order(account="shop", number="A1")
    write = OrderWrite(order=order, view=order_view.view(order), expected_version=None)
    with changes.watch("shop", "A1") as waiter, changes.watch("shop", "B1") as other:
        changes.settled(structs.replace(drafting.empty(), orders=[write]))
        assert (await waiter.wait(0), await other.wait(0), changes.seen) == (True, False, 1)


def test_plan_that_changes_nothing_is_no_change() -> None:
    changes = OrderChanges()
    changes.settled(drafting.empty())
    assert changes.seen == 0
