"""The loop that replays many held notifications, round by round."""

import asyncio

from schemas.money import Money
from tests.support.admin import NOW_MS, World, form
from workers.errors import InfrastructureDown
from workers.queries import HeldQuery
from workers.replays import LOOK_EVERY_S, Replayer, ReplayState
from workers.settlement.plan import Registration


async def parked(world: World, count: int) -> None:
    for number in range(count):
        await world.deliver(form(f"B{number}"), "strict")


async def start(world: World, *, rate: int = 20) -> None:
    await world.store.start_replay(HeldQuery(), rate=rate, by="kim", why="registered", now_ms=NOW_MS)


async def test_round_without_a_replay_waits_for_the_next_look() -> None:
    assert await World().replayer().run_once() == LOOK_EVERY_S


async def test_rounds_keep_the_rate_and_end_the_replay() -> None:
    world = World()
    await parked(world, 5)
    world.store.register_now("strict", "B0", Registration(amounts=(Money(1280, "USD"),)), now_ms=NOW_MS)
    await start(world)
    loop = world.replayer()
    assert [await loop.run_once() for _ in range(4)] == [0.1, 0.1, 0.05, 0.0]
    task = world.store.tasks[1]
    assert (task.state, task.done, task.applied, task.held_again) == (ReplayState.FINISHED, 5, 1, 4)
    assert [action for action, *_ in world.store.decided] == ["replay_start"] + ["replay"] * 5
    assert world.woken == 3


async def test_worker_that_does_not_lead_leaves_the_replay() -> None:
    world = World()
    await parked(world, 1)
    await start(world)

    async def follows() -> bool:
        return False

    loop = Replayer(
        store=world.store, retry=world.processing.retry, wake_relay=lambda: None, observer=Quiet(),
        now_ms=lambda: NOW_MS, leads=follows,
    )  # fmt: skip
    await loop.run_once()
    assert world.store.tasks[1].done == 0


async def test_loop_replays_until_it_is_stopped() -> None:
    world = World()
    await parked(world, 3)
    await start(world, rate=500)
    loop = world.replayer()
    running = asyncio.create_task(loop.run())
    async with asyncio.timeout(10):
        while world.store.tasks[1].state is not ReplayState.FINISHED:  # noqa: ASYNC110
            await asyncio.sleep(0)
    loop.stop()
    await running


class Quiet:
    """Observes no backoff."""

    def paused(self, error: InfrastructureDown, *, attempts: int, wait_s: float) -> None: ...
