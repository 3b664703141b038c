"""The loop that replays many held notifications, round by round."""

import asyncio
from collections.abc import Sequence

import pytest

from schemas.money import Money
from schemas.telemetry import Field
from tests.support.admin import NOW_MS, World, form
from tests.support.fakes import Unobserved
from workers import replays
from workers.errors import InfrastructureDown, ReadTooSlow, RowsLocked
from workers.queries import HeldPage, HeldQuery
from workers.replays import FAILURES_MAX, LOOK_EVERY_S, OTHER_FAILURES, NewTask, Replayer, ReplayState, TaskAction
from workers.settlement.plan import Registration


async def parked(world: World, count: int) -> None:
    for number in range(count):
        await world.deliver(form(f"B{number}"), "strict")


async def start(world: World, *, rate: int = 20) -> None:
    await world.store.start_replay(NewTask(query=HeldQuery(), rate=rate, by="kim", why="registered"), now_ms=NOW_MS)


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
        store=world.store, retry=world.processing.retry, decisions=world.decisions, wake_relay=lambda: None,
        observer=Unobserved(), now_ms=lambda: NOW_MS, leads=follows,
    )  # fmt: skip
    await loop.run_once()
    assert world.store.tasks[1].done == 0


async def test_task_goes_on_after_a_row_on_which_our_code_fails() -> None:
    world = World()
    await parked(world, 3)
    new = NewTask(action=TaskAction.DISCARD, query=HeldQuery(), rate=20, by="kim", why="tests")
    await world.store.start_replay(new, now_ms=NOW_MS)

    class Failing:
        accept = world.decisions.accept

        async def discard(self, page: HeldPage, *, by: str, why: str, task: int | None = None) -> None:
            if page.row.order == "B1":
                raise ZeroDivisionError
            await world.decisions.discard(page, by=by, why=why, task=task)

    loop = world.replayer(Failing())
    for _ in range(3):
        await loop.run_once()
    task = world.store.tasks[1]
    assert (task.state, task.decided, task.handled) == (ReplayState.FINISHED, 2, 3)
    assert task.failures == {"this program failed: ZeroDivisionError": 1}


@pytest.mark.parametrize(
    ("failure", "times"),
    [(KeyError("ours"), 1), (ReadTooSlow("the list of its rows"), 1), (RowsLocked("its row"), replays.LOCKED_MAX)],
)
async def test_task_that_fails_delays_no_other(failure: Exception, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    await parked(world, 3)
    for rate in (10, 20):
        await start(world, rate=rate)
    list_, fails = world.store.held_list, True

    async def failing(query: HeldQuery) -> Sequence[HeldPage]:
        if fails and query.limit == 1 and not query.ids:  # of the first task
            raise failure
        return await list_(query)

    monkeypatch.setattr(world.store, "held_list", failing)
    loop = world.replayer()
    for _ in range(times):
        assert loop._aside == {}, "a row is locked for moments by another worker"
        with pytest.raises(type(failure)):
            await loop.run_once()
    while world.store.tasks[2].state is ReplayState.RUNNING:
        await loop.run_once()
    assert world.store.tasks[1].done == 0
    assert await loop.run_once() == LOOK_EVERY_S
    fails = False
    monkeypatch.setattr(loop, "_aside", dict.fromkeys(loop._aside, 0.0))  # as after half a minute
    await loop.run_once()
    assert world.store.tasks[1].done == 1


async def test_outage_sets_no_task_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    await parked(world, 1)
    await start(world)

    async def away(query: HeldQuery) -> Sequence[HeldPage]:
        raise InfrastructureDown("away")

    loop = world.replayer()
    with monkeypatch.context() as patch:
        patch.setattr(world.store, "held_list", away)
        with pytest.raises(InfrastructureDown):
            await loop.run_once()
    await loop.run_once()
    assert world.store.tasks[1].done == 1


async def test_stop_logs_how_far_the_task_has_come() -> None:
    world = World()
    await parked(world, 3)
    await start(world, rate=10)
    loop = world.replayer()
    await loop.run_once()
    loop.stop()
    await loop.run()
    ((_, line),) = [each for each in world.log.lines if each[0] == "held task waits for another worker"]
    assert (line[Field.TASK], line[Field.ACTION], line[Field.DONE], line[Field.TOTAL]) == (1, "replay", 1, 3)
    assert world.store.tasks[1].failures == {"unknown_order": 1}


def test_rare_reasons_of_failures_are_counted_together() -> None:
    many = replays.with_failures({}, [str(number) for number in range(FAILURES_MAX + 5)] + ["0"])
    assert len(many) == FAILURES_MAX + 1
    assert (many["0"], many[OTHER_FAILURES]) == (2, 5)


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
