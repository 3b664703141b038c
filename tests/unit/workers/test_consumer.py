"""The worker's loop: the order of its steps, and what each failure leaves."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import pytest

from schemas.record_format import Record
from workers.consumer import Consumer
from workers.errors import InfrastructureDamaged, InfrastructureDown, TooManyDeadLetters
from workers.locks import LockResult
from workers.settlement.plan import LogRecord, Position


def logged(offset: int, order: str = "", partition: int = 0) -> LogRecord:
    return LogRecord(Position(partition, offset), Record(f"shop:{order or offset}".encode(), b"", ()))


class World:
    """Everything the loop calls, writing down what was called; `fails` raises at the next calls of a step."""

    def __init__(self, *batches: Sequence[LogRecord]) -> None:
        self.batches = list(batches)
        self.steps: list[str] = []
        self.fails: dict[str, list[Exception]] = {}
        self.held_by_others: list[set[bytes]] = []
        self.done_markers: Mapping[bytes, Position] = {}
        self.has_settled = True
        self.left: Mapping[bytes, Position] | None = None
        self.lock_outcomes: list[tuple[str, int]] = []
        self.timed: list[str] = []
        self.pauses = 0
        self.meanwhile: Callable[[], None] = lambda: None

    def _step(self, name: str, shown: str = "") -> None:
        self.steps.append(f"{name} {shown}".strip())
        if self.fails.get(name):
            raise self.fails[name].pop(0)

    async def poll(self, max_records: int) -> Sequence[LogRecord]:
        await asyncio.sleep(0)
        if not self.batches:
            return ()
        self._step("poll")
        return self.batches.pop(0)

    async def acquire(self, keys: Sequence[bytes], token: bytes) -> LockResult:
        self._step("acquire", str(len(keys)))
        return LockResult(set(keys) - (self.held_by_others.pop(0) if self.held_by_others else set()), self.done_markers)

    async def are_settled(self, records: Sequence[LogRecord]) -> bool:
        self._step("ask", " ".join(str(each.position) for each in records))
        return self.has_settled

    async def process(self, batch: Sequence[LogRecord]) -> None:
        self._step("process", " ".join(str(each.position) for each in batch))
        self.meanwhile()

    def settled(self) -> None:
        self._step("wake")

    async def commit(self, upto: Sequence[Position]) -> None:
        self._step("commit", " ".join(map(str, upto)))

    async def release(self, keys: Sequence[bytes], token: bytes, done: Mapping[bytes, Position]) -> None:
        self._step("release", str(len(keys)))
        self.left = done

    def paused(self, error: InfrastructureDown, *, attempts: int, wait_s: float) -> None:
        self.pauses += 1

    def lock_outcome(self, outcome: str, count: int) -> None:
        self.lock_outcomes.append((outcome, count))

    def step(self, name: str, seconds: float) -> None:
        self.timed.append(name)


def consumer(world: World) -> Consumer:
    return Consumer(
        source=world,
        locks=world,
        process=world.process,
        wake_relay=world.settled,
        observer=world,
        token=b"w",
        are_settled=world.are_settled,
        lock_wait_s=0,
    )


async def test_a_batch_goes_through_its_steps_in_order_and_the_commit_is_the_last_thing_said() -> None:
    world = World([logged(1), logged(2)])
    assert await consumer(world).run_once() == 2
    assert world.steps == ["poll", "acquire 2", "process 0-1 0-2", "wake", "commit 0-2", "release 2"]


async def test_the_time_of_the_loops_own_steps_is_told_as_they_end() -> None:
    world = World([logged(1)])
    await consumer(world).run_once()
    assert world.timed == ["claim", "commit", "release"]


async def test_nothing_polled_is_nothing_done() -> None:
    world = World()
    assert await consumer(world).run_once() == 0
    assert world.steps == []


async def test_each_partition_is_committed_to_its_own_end() -> None:
    world = World([logged(5, partition=0), logged(9, partition=3), logged(8, partition=3)])
    await consumer(world).run_once()
    assert "commit 0-5 3-9" in world.steps


async def test_an_order_is_claimed_once_however_many_records_it_has() -> None:
    world = World([logged(1, "N1"), logged(2, "N1"), logged(3, "N2")])
    await consumer(world).run_once()
    assert world.steps[1] == "acquire 2"
    assert world.lock_outcomes == [("acquired", 2)]


@pytest.mark.parametrize("step", ["process", "commit"])
async def test_trouble_pauses_and_the_same_step_is_tried_again(step: str) -> None:
    world = World([logged(1)])
    world.fails[step] = [InfrastructureDown("locked")]
    await consumer(world).run_once()
    done = [each.split()[0] for each in world.steps]
    assert done.count(step) == 2
    assert done.count("poll") == 1, "nothing new is taken meanwhile"
    assert world.pauses == 1


async def test_what_another_worker_holds_is_done_last() -> None:
    world = World([logged(1, "N1"), logged(2, "N2"), logged(3, "N3")])
    world.held_by_others = [{b"shop:N2"}, {b"shop:N2"}, set()]
    await consumer(world).run_once()
    assert world.steps[2:] == [
        "process 0-1 0-3", "wake", "acquire 1", "acquire 1", "process 0-2", "wake", "commit 0-3", "release 3",
    ]  # fmt: skip
    assert world.lock_outcomes == [("acquired", 2), ("contended_then_acquired", 1)]


async def test_what_another_worker_keeps_is_done_all_the_same() -> None:
    world = World([logged(1, "N1")])
    world.held_by_others = [{b"shop:N1"}] * 10
    await consumer(world).run_once()
    assert world.steps[-4:] == ["process 0-1", "wake", "commit 0-1", "release 1"]
    assert world.lock_outcomes == [("timeout", 1)]


async def test_how_far_each_order_is_settled_is_left_with_its_claim() -> None:
    world = World([logged(1, "N1"), logged(2, "N2"), logged(3, "N1")])
    await consumer(world).run_once()
    assert world.left == {b"shop:N1": Position(0, 3), b"shop:N2": Position(0, 2)}


async def test_what_is_settled_is_left_where_only_the_commit_failed_and_what_is_not_is_not() -> None:
    for step, left in {"commit": {b"shop:1": Position(0, 1)}, "process": {}}.items():
        world = World([logged(1)])
        world.fails[step] = [InfrastructureDamaged("page 7")]
        with pytest.raises(InfrastructureDamaged):
            await consumer(world).run_once()
        assert world.left == left


async def test_what_claims_and_store_know_to_be_done_is_passed_over() -> None:
    world = World([logged(1, "N1"), logged(2, "N2"), logged(3, "N1")])
    world.done_markers = {b"shop:N1": Position(0, 1)}
    await consumer(world).run_once()
    assert world.steps[2:] == ["ask 0-1", "process 0-2 0-3", "wake", "commit 0-3", "release 2"]
    assert world.lock_outcomes == [("acquired", 2), ("done", 1)]


async def test_a_batch_that_is_done_is_only_committed() -> None:
    world = World([logged(1, "N1"), logged(2, "N1")])
    world.done_markers = {b"shop:N1": Position(0, 2)}
    await consumer(world).run_once()
    assert world.steps == ["poll", "acquire 1", "ask 0-1 0-2", "commit 0-2", "release 1"]


@pytest.mark.parametrize("outage", [[], [InfrastructureDown("locked")]])
async def test_a_mark_alone_proves_nothing(outage: list[Exception]) -> None:
    """The store may have been restored to what it was before; or not say."""
    world = World([logged(1, "N1")])
    world.done_markers, world.has_settled = {b"shop:N1": Position(0, 1)}, bool(outage)
    world.fails["ask"] = outage
    await consumer(world).run_once()
    assert world.steps[2:5] == ["ask 0-1", "process 0-1", "wake"]


async def test_a_mark_of_another_partition_says_nothing_here() -> None:
    world = World([logged(1, "N1")])
    world.done_markers = {b"shop:N1": Position(7, 1)}
    await consumer(world).run_once()
    assert world.steps[2] == "process 0-1"


async def test_without_claims_it_goes_on() -> None:
    world = World([logged(1)])
    world.fails = {"acquire": [InfrastructureDown("unreachable")], "release": [InfrastructureDown("unreachable")]}
    assert await consumer(world).run_once() == 1
    assert "commit 0-1" in world.steps
    assert world.lock_outcomes == [("error", 1), ("error", 1)]


@pytest.mark.parametrize("error", [TooManyDeadLetters("twenty"), InfrastructureDamaged("page 7")])
async def test_what_no_waiting_mends_stops_the_loop_uncommitted(error: Exception) -> None:
    world = World([logged(1)], [logged(2)])
    world.fails["process"] = [error]
    with pytest.raises(type(error)):
        await consumer(world).run()
    assert not [step for step in world.steps if step.startswith("commit")]
    assert world.steps[-1] == "release 1"


async def test_a_stop_finishes_the_batch_in_hand_and_takes_no_other() -> None:
    world = World([logged(1)], [logged(2)])
    loop = consumer(world)
    world.meanwhile = loop.stop
    await loop.run()
    assert world.steps == ["poll", "acquire 1", "process 0-1", "wake", "commit 0-1", "release 1"]


async def test_a_stop_during_an_outage_leaves_the_batch_for_the_next_start() -> None:
    world = World([logged(1)])
    world.fails["process"] = [InfrastructureDown("gone")] * 1000
    loop = consumer(world)
    running = asyncio.create_task(loop.run())
    while not world.pauses:  # noqa: ASYNC110 - what is watched is a plain value
        await asyncio.sleep(0)
    loop.stop()
    await asyncio.wait_for(running, 1)
    assert not [step for step in world.steps if step.startswith("commit")]
