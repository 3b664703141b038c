"""Replays of many held notifications on every order store: cancelled, resumed, crashed, and nothing applied twice."""

import asyncio
from collections.abc import Sequence

import pytest

from schemas import topics
from schemas.dispositions import Reason
from tests.contract.engines import AnyStore, Engine
from tests.contract.shortcuts import parked, register
from tests.support import log_records
from tests.support.log_records import NOW_MS, REGISTERED, Time
from workers.errors import InfrastructureDown
from workers.processing import Processing
from workers.queries import HeldPlace, HeldQuery
from workers.replays import Replayer, ReplayState, ReplayTask
from workers.settlement.plan import HeldRow

MANY, RATE = 5000, 5000  # a slice of 500
FILTER = HeldQuery(reason=Reason.UNKNOWN_ORDER, before_ms=NOW_MS + 1)


class Unobserved:
    """No observer of backoffs: none is expected."""

    def paused(self, error: InfrastructureDown, *, attempts: int, wait_s: float) -> None:
        raise AssertionError from error


class Died(Exception):
    """The process dies here."""


async def hold(work: Processing, store: AnyStore, count: int, *, registered: int) -> None:
    """Park so many notifications, and make so many of them ready to be applied, without waking them."""
    for first in range(0, count, 500):
        records = [parked(f"P{number}") for number in range(first, min(first + 500, count))]
        await work.process(log_records.logged(records, first=first + 1))
    for number in range(registered):
        await register(store, f"P{number}")


def replayer(work: Processing, store: AnyStore, time: Time) -> Replayer:
    return Replayer(store=store, retry=work.retry, wake_relay=lambda: None, observer=Unobserved(), now_ms=time)


async def start(store: AnyStore, query: HeldQuery = FILTER) -> ReplayTask:
    return await store.start_replay(query, rate=RATE, by="ana", why="registered now", now_ms=NOW_MS)


async def task_of(store: AnyStore, number: int) -> ReplayTask:
    task = await store.replay(number)
    assert task is not None
    return task


async def order_events(store: AnyStore) -> int:
    return sum(emitted.event.topic == topics.ORDER_EVENT for emitted in await store.events_after(0, 100_000))


async def test_replay_of_five_thousand_is_cancelled_resumed_and_survives_a_crash(engine: Engine, time: Time) -> None:
    async with engine.store() as store:
        work = log_records.processing(store, time)
        await hold(work, store, MANY, registered=40)
        task = await start(store)
        assert (task.total, task.state) == (MANY, ReplayState.RUNNING)
        loop = replayer(work, store, time)
        for _ in range(3):
            await loop.run_once()
        assert await store.switch_replay(
            task.number, before=ReplayState.RUNNING, after=ReplayState.CANCELLED, by="bo", why="", now_ms=NOW_MS
        )
        await loop.run_once()
        cancelled = await task_of(store, task.number)
        assert (cancelled.state, cancelled.done, cancelled.applied) == (ReplayState.CANCELLED, 1500, 40)
        assert not await store.switch_replay(
            task.number, before=ReplayState.RUNNING, after=ReplayState.CANCELLED, by="bo", why="", now_ms=NOW_MS
        )
        assert await store.switch_replay(
            task.number, before=ReplayState.CANCELLED, after=ReplayState.RUNNING, by="bo", why="", now_ms=NOW_MS
        )
        for number in range(1500, 1520):
            await register(store, f"P{number}")

        async def dies(rows: Sequence[HeldRow]) -> None:
            await work.retry(rows)
            raise Died

        dying = Replayer(store=store, retry=dies, wake_relay=lambda: None, observer=Unobserved(), now_ms=time)
        with pytest.raises(Died):
            await dying.run_once()
    async with engine.store() as store:
        loop = replayer(log_records.processing(store, time), store, time)
        while (await task_of(store, task.number)).state is ReplayState.RUNNING:
            await loop.run_once()
        ended = await task_of(store, task.number)
        assert (ended.done, ended.applied, ended.held_again, ended.failed) == (MANY, 60, MANY - 60, 0)
        assert (ended.finished_at_ms, ended.total) == (NOW_MS, MANY)
        assert await order_events(store) == 60, "one event for each order, so nothing was applied twice"
        (last,) = await store.held_list(HeldQuery(order=f"P{MANY - 1}"))
        assert (last.row.attempts, last.replays) == (1, 1)
        assert [each.number for each in await store.replays(10)] == [task.number]


async def test_of_two_leaders_one_moves_the_cursor(work: Processing, store: AnyStore, time: Time) -> None:
    await hold(work, store, 20, registered=20)
    task = await start(store)
    both = [replayer(work, store, time), replayer(work, store, time)]
    await asyncio.gather(*(loop.run_once() for loop in both), return_exceptions=True)
    while (await task_of(store, task.number)).state is ReplayState.RUNNING:
        await both[0].run_once()
    ended = await task_of(store, task.number)
    assert (ended.done, ended.applied) == (20, 20)
    assert await order_events(store) == 20


async def test_stale_cursor_is_not_moved(work: Processing, store: AnyStore, time: Time) -> None:
    await hold(work, store, 3, registered=0)
    task = await start(store)
    (first, second, _) = await store.held_list(HeldQuery())
    places = [HeldPlace(first_at_ms=page.row.first_at_ms, position=page.row.position) for page in (first, second)]
    await store.note_replay([first.row.id], by="ana", why="", now_ms=NOW_MS, replay=task.number)
    await store.advance_replay(task, places[0], now_ms=NOW_MS)
    await store.advance_replay(task, places[1], now_ms=NOW_MS)
    await store.advance_replay(task, None, now_ms=NOW_MS)
    present = await task_of(store, task.number)
    assert (present.query.after, present.done, present.state) == (places[0], 1, ReplayState.RUNNING)


async def test_filter_of_a_replay_is_kept(store: AnyStore) -> None:
    query = HeldQuery(
        account=REGISTERED.name, order="P1", reason=Reason.UNKNOWN_ORDER, since_ms=NOW_MS - 5, before_ms=NOW_MS
    )
    task = await start(store, query)
    kept = (await task_of(store, task.number)).query
    assert (kept.account, kept.order, kept.reason, kept.since_ms, kept.before_ms) == (
        REGISTERED.name, "P1", Reason.UNKNOWN_ORDER, NOW_MS - 5, NOW_MS,
    )  # fmt: skip
    assert [each.number for each in await store.replays(1)] == [task.number]
    assert await store.replays(1, task.number) == []
    assert await store.replay(task.number + 1) is None
