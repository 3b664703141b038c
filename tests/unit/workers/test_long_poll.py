"""The meeting point of those who change orders and those who wait."""

import pytest

from workers.long_poll import OrderChanges, TooManyWaiters


async def test_a_change_between_reading_and_waiting_is_not_missed() -> None:
    changes = OrderChanges()
    with changes.watch("shop", "A1") as waiter:
        changes.changed("shop", "A1")
        assert await waiter.wait(0.01)
        assert not await waiter.wait(0.01)


async def test_only_those_who_wait_for_the_order_are_woken_and_those_who_wait_for_any() -> None:
    changes = OrderChanges()
    with changes.watch("shop", "A1") as first, changes.watch("other", "A1") as other, changes.watch_all() as any_:
        changes.changed("shop", "A1")
        assert (await first.wait(0), await other.wait(0), await any_.wait(0)) == (True, False, True)


async def test_a_waiter_makes_room_when_it_leaves() -> None:
    changes = OrderChanges(waiters_max=1)
    for _ in range(3):
        with changes.watch("shop", "A1"), pytest.raises(TooManyWaiters), changes.watch_all():
            pass
        with changes.watch_all(), pytest.raises(TooManyWaiters), changes.watch("shop", "A1"):
            pass


async def test_closing_wakes_everybody() -> None:
    changes = OrderChanges()
    with changes.watch("shop", "A1") as first, changes.watch_all() as any_:
        changes.close()
        assert await first.wait(1)
        assert await any_.wait(1)
    assert changes.is_closed
