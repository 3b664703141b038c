"""The sweeper: which rows it retries, when it looks again, and when it stands by."""

import asyncio
from collections.abc import Sequence

from schemas.dispositions import Disposition, Reason
from schemas.record_format import Record
from tests.support.waiting import until
from workers.errors import InfrastructureDown
from workers.settlement.plan import HeldRow, Position
from workers.sweeper import Sweeper

NOW_MS = 1_000_000


def row(offset: int, due_at_ms: int) -> HeldRow:
    return HeldRow(
        position=Position(0, offset),
        account="shop",
        order="N1",
        notification_id="n",
        disposition=Disposition.PARKED,
        reason=Reason.UNKNOWN_ORDER,
        detail="",
        record=Record(b"", b"", ()),
        first_at_ms=NOW_MS,
        due_at_ms=due_at_ms,
    )


class World:
    """Parked rows, and what the sweeper does to them."""

    def __init__(self, *rows: HeldRow) -> None:
        self.rows = list(rows)
        self.noted: list[HeldRow] = []  # made due one by one
        self.retried: list[list[int]] = []
        self.rounds = 0
        self.pauses = 0
        self.fails: list[Exception] = []
        self.woken = asyncio.Event()
        self.is_leading = True

    async def leads(self) -> bool:
        return self.is_leading

    async def wake_more(self) -> bool:
        self.rows += self.noted[:1]
        del self.noted[:1]
        return bool(self.noted)

    async def due(self, *, now_ms: int, limit: int) -> Sequence[HeldRow]:
        if self.fails:
            raise self.fails.pop(0)
        return [each for each in self.rows if each.due_at_ms is not None and each.due_at_ms <= now_ms][:limit]

    async def next_due_ms(self) -> int | None:
        return min((each.due_at_ms for each in self.rows if each.due_at_ms is not None), default=None)

    async def retry(self, rows: Sequence[HeldRow]) -> None:
        self.retried.append([each.position.offset for each in rows])
        self.rows = [each for each in self.rows if each not in rows]

    def settled(self) -> None:
        self.rounds += 1

    def paused(self, error: InfrastructureDown, *, attempts: int, wait_s: float) -> None:
        self.pauses += 1

    def sweeper(self, *, rows_max: int = 100, look_every_s: float = 60) -> Sweeper:
        return Sweeper(
            parked=self,
            retry=self.retry,
            wake_relay=self.settled,
            woken=self.woken,
            observer=self,
            now_ms=lambda: NOW_MS,
            leads=self.leads,
            rows_max=rows_max,
            look_every_s=look_every_s,
        )


async def test_only_rows_that_are_due_are_retried_and_the_relay_is_woken() -> None:
    world = World(row(1, NOW_MS - 5), row(2, NOW_MS), row(3, NOW_MS + 1))
    assert await world.sweeper().run_once() == 2
    assert (world.retried, world.rounds) == ([[1, 2]], 1)


async def test_without_due_rows_nothing_is_retried() -> None:
    world = World(row(3, NOW_MS + 1))
    assert await world.sweeper().run_once() == 0
    assert (world.retried, world.rounds) == ([], 1)


async def test_rows_whose_wake_is_not_finished_are_made_due_and_retried() -> None:
    world = World(row(1, NOW_MS))
    world.noted = [row(2, NOW_MS), row(3, NOW_MS)]
    sweeper = world.sweeper()
    assert [await sweeper.run_once() for _ in range(3)] == [2, 1, 0]
    assert world.retried == [[1, 2], [3]]


async def test_full_round_is_followed_by_the_next_without_a_wait() -> None:
    world = World(*(row(number, NOW_MS) for number in range(1, 6)))
    sweeper = world.sweeper(rows_max=2)
    running = asyncio.create_task(sweeper.run())
    await until(lambda: not world.rows)
    sweeper.stop()
    await asyncio.wait_for(running, 1)
    assert world.retried == [[1, 2], [3, 4], [5]]


async def test_sweeper_looks_when_it_is_woken() -> None:
    world = World()
    sweeper = world.sweeper()
    running = asyncio.create_task(sweeper.run())
    await until(lambda: world.rounds == 1)
    world.rows.append(row(1, NOW_MS))
    world.woken.set()
    await until(lambda: world.retried)
    sweeper.stop()
    await asyncio.wait_for(running, 1)


async def test_sweeper_looks_when_the_next_row_comes_due() -> None:
    world = World(row(1, NOW_MS + 20))
    sweeper = world.sweeper()
    running = asyncio.create_task(sweeper.run())
    await until(lambda: world.rounds >= 2)
    sweeper.stop()
    await asyncio.wait_for(running, 1)


async def test_sweeper_looks_from_time_to_time_without_a_wake() -> None:
    world = World()
    sweeper = world.sweeper(look_every_s=0.01)
    running = asyncio.create_task(sweeper.run())
    await until(lambda: world.rounds >= 3)
    sweeper.stop()
    await asyncio.wait_for(running, 1)


async def test_unavailable_store_is_retried() -> None:
    world = World(row(1, NOW_MS))
    world.fails = [InfrastructureDown("locked")]
    sweeper = world.sweeper()
    running = asyncio.create_task(sweeper.run())
    await until(lambda: world.retried)
    sweeper.stop()
    await asyncio.wait_for(running, 1)
    assert world.pauses == 1


async def test_worker_that_does_not_lead_retries_nothing_and_waits() -> None:
    world = World(row(1, NOW_MS - 5))
    world.is_leading = False
    sweeper = world.sweeper()
    running = asyncio.create_task(sweeper.run())
    await until(lambda: world.rounds == 1)
    for _ in range(20):
        await asyncio.sleep(0)
    assert (world.retried, world.rounds) == ([], 1)
    sweeper.stop()
    await asyncio.wait_for(running, 1)


async def test_worker_that_comes_to_lead_retries_due_rows() -> None:
    world = World(row(1, NOW_MS - 5))
    world.is_leading = False
    sweeper = world.sweeper(look_every_s=0.01)
    running = asyncio.create_task(sweeper.run())
    await until(lambda: world.rounds >= 2)
    world.is_leading = True
    await until(lambda: world.retried)
    sweeper.stop()
    await asyncio.wait_for(running, 1)


async def test_row_made_due_by_another_process_is_retried_within_a_second() -> None:
    world = World()
    sweeper = Sweeper(
        parked=world,
        retry=world.retry,
        wake_relay=world.settled,
        woken=world.woken,
        observer=world,
        now_ms=lambda: NOW_MS,
    )
    running = asyncio.create_task(sweeper.run())
    await until(lambda: world.rounds)
    world.rows = [row(1, NOW_MS)]
    await until(lambda: world.retried, within_s=1)
    sweeper.stop()
    await running
