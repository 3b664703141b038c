"""A console wakes those who wait for what a worker elsewhere has changed."""

import asyncio
from collections.abc import Sequence

from deploy.cluster import housekeeping
from schemas import topics
from schemas.events import Outgoing
from workers.errors import InfrastructureDown
from workers.long_poll import OrderChanges
from workers.queries import Emitted


class Outbox:
    def __init__(self) -> None:
        self.rows: list[Emitted] = []
        self.fails: list[Exception] = []

    def write(self, key: str) -> None:
        number = len(self.rows) + 1
        event = Outgoing(topic=topics.ORDER_EVENT, id=f"{key}:{number}", key=key.encode(), value=b"", headers=())
        self.rows.append(Emitted(number=number, event=event, sent_at_ms=None))

    async def newest_event(self) -> int:
        if self.fails:
            raise self.fails.pop(0)
        return len(self.rows)

    async def events_after(self, number: int, limit: int) -> Sequence[Emitted]:
        if self.fails:
            raise self.fails.pop(0)
        return self.rows[number : number + limit]


async def test_who_waits_for_an_order_is_woken_by_its_event_and_by_no_other() -> None:
    outbox, changes = Outbox(), OrderChanges()
    outbox.write("shop:OLD")
    following_ = asyncio.create_task(housekeeping.follow(outbox, changes, look_every_s=0.001))
    with changes.watch("shop", "N:1") as waiter, changes.watch("shop", "OLD") as other:
        await asyncio.sleep(0.02)
        outbox.write("shop:N:1")
        assert await waiter.wait(5)
        assert not await other.wait(0.02), "what was there before the start is no news"
    following_.cancel()


async def test_trouble_with_the_store_is_waited_for_and_nothing_is_missed() -> None:
    outbox, changes = Outbox(), OrderChanges()
    outbox.fails = [InfrastructureDown("gone")]
    following_ = asyncio.create_task(housekeeping.follow(outbox, changes, look_every_s=0.001))
    with changes.watch("shop", "N1") as waiter:
        await asyncio.sleep(0.02)
        outbox.fails = [InfrastructureDown("gone")] * 3
        outbox.write("shop:N1")
        assert await waiter.wait(5)
    following_.cancel()


async def test_more_than_one_look_gives_are_all_read() -> None:
    outbox, changes = Outbox(), OrderChanges()
    following_ = asyncio.create_task(housekeeping.follow(outbox, changes, look_every_s=0.001))
    await asyncio.sleep(0.02)
    with changes.watch("shop", "LAST") as waiter:
        for number in range(housekeeping.EVENTS_MAX + 10):
            outbox.write(f"shop:{number}")
        outbox.write("shop:LAST")
        assert await waiter.wait(5)
    following_.cancel()
