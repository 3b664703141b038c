"""Tasks over many held notifications on every order store: cancelled, resumed, crashed, and nothing done twice."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from schemas import topics
from schemas.dispositions import Reason
from tests.contract.engines import AnyStore, Cluster, Engine
from tests.contract.shortcuts import parked, register
from tests.support import log_records
from tests.support.fakes import Unobserved
from tests.support.log_records import NOW_MS, REGISTERED, Operator, Time
from workers.postgres.database import SqlConnection
from workers.processing import Processing
from workers.queries import HeldPage, HeldPlace, HeldQuery
from workers.replays import Decisions, NewTask, Replayer, ReplayState, ReplayTask, Retry, TaskAction, TaskList
from workers.settlement.plan import HeldRow

MANY, RATE = 5000, 5000  # a slice of 500
FILTER = HeldQuery(reason=Reason.UNKNOWN_ORDER, before_ms=NOW_MS + 1)


class Died(Exception):
    """The process dies here."""


async def hold(work: Processing, store: AnyStore, count: int, *, registered: int) -> None:
    """Park so many notifications, and make so many of them ready to be applied, without waking them."""
    for first in range(0, count, 500):
        records = [parked(f"P{number}") for number in range(first, min(first + 500, count))]
        await work.process(log_records.logged(records, first=first + 1))
    for number in range(registered):
        await register(store, f"P{number}")


def replayer(
    work: Processing,
    store: AnyStore,
    time: Time,
    *,
    retry: Retry | None = None,
    decisions: Decisions | None = None,
) -> Replayer:
    return Replayer(
        store=store,
        retry=retry or work.retry,
        decisions=decisions or Operator(store, time).decisions,
        wake_relay=lambda: None,
        observer=Unobserved(),
        now_ms=time,
    )


async def start(store: AnyStore, query: HeldQuery = FILTER) -> ReplayTask:
    return await store.start_replay(NewTask(query=query, rate=RATE, by="ana", why="registered now"), now_ms=NOW_MS)


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

        dying = replayer(work, store, time, retry=dies)
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
        assert [each.number for each in (await store.replays(10)).tasks] == [task.number]


async def test_of_two_leaders_one_moves_the_cursor(work: Processing, store: AnyStore, time: Time) -> None:
    await hold(work, store, 20, registered=20)
    task = await start(store)
    both = [replayer(work, store, time), replayer(work, store, time)]
    await asyncio.gather(*(loop.run_once() for loop in both), return_exceptions=True)
    third = replayer(work, store, time)  # one of both may have failed over the other's rows, and lets the task rest
    while (await task_of(store, task.number)).state is ReplayState.RUNNING:
        await third.run_once()
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
    assert [each.number for each in (await store.replays(1)).tasks] == [task.number]
    assert await store.replays(1, task.number) == TaskList(tasks=[], more=0)
    assert await store.replay(task.number + 1) is None


async def test_list_of_tasks_counts_the_older_ones(store: AnyStore) -> None:
    numbers = [(await start(store)).number for _ in range(3)]
    for limit, before, shown, more in ((2, None, numbers[:0:-1], 1), (1, numbers[1], numbers[:1], 0), (0, None, [], 3)):
        found = await store.replays(limit, before)
        assert ([task.number for task in found.tasks], found.more) == (shown, more)


async def mismatched(work: Processing, store: AnyStore, orders: Sequence[str]) -> tuple[str, ...]:
    """Hold a payment of each order for its amount; return their ids."""
    for order in orders:
        await register(store, order, minor=9900)
    first = 1 + len(await store.held_list(HeldQuery(limit=1000)))
    await work.process(log_records.logged([parked(order) for order in orders], first=first))
    found = await store.held_list(HeldQuery(limit=1000))
    return tuple(page.row.id for page in found if page.row.order in orders)


def decide(action: TaskAction, ids: Sequence[str]) -> NewTask:
    return NewTask(
        action=action, query=HeldQuery(ids=tuple(ids), before_ms=NOW_MS + 1), rate=20, by="ana", why="agreed"
    )


@pytest.mark.parametrize(("action", "outcome"), [(TaskAction.ACCEPT, "accepted"), (TaskAction.DISCARD, "discarded")])
async def test_selection_is_decided_once_by_a_task_that_crashes_is_cancelled_and_resumed(
    engine: Engine, time: Time, action: TaskAction, outcome: str
) -> None:
    orders = [f"M{number}" for number in range(9)]
    async with engine.store() as store:
        work = log_records.processing(store, time)
        ids = await mismatched(work, store, orders)
        task = await store.start_replay(decide(action, ids[:8]), now_ms=NOW_MS)
        assert task.total == 8
        real = Operator(store, time).decisions

        class Dying:
            """Dies after it has decided on the second row, before anything is counted."""

            async def accept(self, page: HeldPage, *, by: str, why: str, task: int | None = None) -> None:
                await self._do(real.accept, page, by=by, why=why, task=task)

            async def discard(self, page: HeldPage, *, by: str, why: str, task: int | None = None) -> None:
                await self._do(real.discard, page, by=by, why=why, task=task)

            async def _do(self, verb: Any, page: HeldPage, **given: Any) -> None:
                await verb(page, **given)
                if page.row.order == "M1":
                    raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await replayer(work, store, time, decisions=Dying()).run_once()
        await real.discard(await Operator(store, time).page(ids[5]), by="bo", why="meanwhile")
    async with engine.store() as store:
        loop = replayer(log_records.processing(store, time), store, time)
        await loop.run_once()
        states = {"before": ReplayState.RUNNING, "after": ReplayState.CANCELLED}
        assert await store.switch_replay(task.number, **states, by="bo", why="", now_ms=NOW_MS)
        await loop.run_once()
        cancelled = await task_of(store, task.number)
        assert (cancelled.state, cancelled.decided, cancelled.failures) == (ReplayState.CANCELLED, 4, {})
        states = {"before": ReplayState.CANCELLED, "after": ReplayState.RUNNING}
        assert await store.switch_replay(task.number, **states, by="bo", why="", now_ms=NOW_MS)
        while (await task_of(store, task.number)).state is ReplayState.RUNNING:
            await loop.run_once()
        ended = await task_of(store, task.number)
        assert (ended.decided, ended.handled, ended.total, ended.failures) == (7, 7, 8, {})
        assert [page.row.id for page in await store.held_list(HeldQuery())] == [ids[8]]
        resolved = await store.held_list(HeldQuery(resolved=True))
        assert [(page.row.id, page.resolution, page.by) for page in resolved if page.row.id != ids[5]] == [
            (id_, outcome, "ana") for id_ in ids[:8] if id_ != ids[5]
        ]
        decided = [
            each
            for order in orders
            if (page := await store.order_page(REGISTERED.name, order))
            for each in page.decisions
        ]
        assert len(decided) == 8, "one decision for each row"


async def test_rows_that_cannot_be_accepted_are_counted_by_the_reason(
    work: Processing, store: AnyStore, time: Time
) -> None:
    await hold(work, store, 3, registered=0)
    ids = [page.row.id for page in await store.held_list(HeldQuery())]
    accepted = await mismatched(work, store, ["M1"])
    task = await store.start_replay(decide(TaskAction.ACCEPT, [*ids, *accepted]), now_ms=NOW_MS)
    loop = replayer(work, store, time)
    while (await task_of(store, task.number)).state is ReplayState.RUNNING:
        await loop.run_once()
    ended = await task_of(store, task.number)
    assert (ended.total, ended.handled, ended.decided) == (4, 4, 1)
    ((reason, count),) = ended.failures.items()
    assert (count, "held as unknown_order" in reason) == (3, True)
    again = await store.start_replay(decide(TaskAction.ACCEPT, accepted), now_ms=NOW_MS)
    assert again.total == 0, "a task that is started twice finds nothing to do"


async def test_release_before_neither_does_nor_resumes_a_task_that_it_does_not_know(
    cluster: Cluster, time: Time
) -> None:
    """It would replay the rows that an operator wants accepted, and all rows instead of a selection."""
    async with cluster.store() as store:
        for number, new in enumerate(
            [decide(TaskAction.ACCEPT, ["0-1"]), decide(TaskAction.REPLAY, ["0-1"]), decide(TaskAction.REPLAY, [])], 1
        ):
            task = await store.start_replay(new, now_ms=NOW_MS)
            assert (task.number, task.state) == (number, ReplayState.RUNNING)

        async def old_view(connection: SqlConnection) -> list[Any]:
            return list(await connection.fetch("SELECT number FROM replays WHERE state = 'running'"))

        assert [number for (number,) in await store.database.read(old_view)] == [3]
        old_resume = "UPDATE replays SET state = 'running' WHERE number = 1 AND state = 'cancelled'"
        with pytest.raises(Exception, match="task_of_a_newer_release"):
            await store.database.write(lambda connection: connection.execute(old_resume))
        running = await store.running_replay()
        assert running is not None
        assert running.number == 1
        next_ = await store.running_replay(aside=[1])
        assert next_ is not None
        assert next_.number > 1
        assert await store.running_replay(aside=range(1, next_.number + 100)) is None
