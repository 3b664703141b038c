"""The consumer's loop: the order of its steps, and the state after each failure."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import pytest

from schemas.record_format import Record
from tests.support import begun
from tests.support.waiting import until
from workers import fatal_records
from workers.consumer import Consumer
from workers.errors import InfrastructureDamaged, InfrastructureDown, TooManyDeadLetters
from workers.fatal_records import FatalRecords, OneInHand
from workers.locks import LockResult
from workers.settlement.plan import LogRecord, Position


def log_record(offset: int, order: str = "", partition: int = 0) -> LogRecord:
    return LogRecord(Position(partition, offset), Record(f"shop:{order or offset}".encode(), b"", ()))


class World:
    """Everything that the loop calls. `steps` has the calls; `fails` has errors for the next calls of a step."""

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
        self.lock_spans: list[str] = []
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

    def lock_span(self, span: str, seconds: float) -> None:
        self.lock_spans.append(span)

    def step(self, name: str, seconds: float) -> None:
        self.timed.append(name)


def consumer(world: World, fatal: FatalRecords[LogRecord] | None = None) -> Consumer:
    return Consumer(
        source=world,
        locks=world,
        process=world.process,
        wake_relay=world.settled,
        observer=world,
        token=b"w",
        are_settled=world.are_settled,
        lock_wait_s=0,
        fatal=fatal or begun.without_notes(),
    )


async def test_batch_goes_through_poll_lock_process_commit_release() -> None:
    world = World([log_record(1), log_record(2)])
    assert await consumer(world).run_once() == 2
    assert world.steps == ["poll", "acquire 2", "process 0-1 0-2", "wake", "commit 0-2", "release 2"]


async def test_durations_of_the_loops_own_steps_are_observed() -> None:
    world = World([log_record(1)])
    await consumer(world).run_once()
    assert world.timed == ["claim", "commit", "release"]


async def test_empty_poll_does_nothing() -> None:
    world = World()
    assert await consumer(world).run_once() == 0
    assert world.steps == []


async def test_each_partition_is_committed_up_to_its_own_last_record() -> None:
    world = World([log_record(5, partition=0), log_record(9, partition=3), log_record(8, partition=3)])
    await consumer(world).run_once()
    assert "commit 0-5 3-9" in world.steps


async def test_order_with_several_records_is_locked_once() -> None:
    world = World([log_record(1, "N1"), log_record(2, "N1"), log_record(3, "N2")])
    await consumer(world).run_once()
    assert world.steps[1] == "acquire 2"
    assert world.lock_outcomes == [("acquired", 2)]
    assert world.lock_spans == ["wait", "hold"]


@pytest.mark.parametrize("step", ["process", "commit"])
async def test_step_that_fails_is_retried_with_backoff(step: str) -> None:
    world = World([log_record(1)])
    world.fails[step] = [InfrastructureDown("locked")]
    await consumer(world).run_once()
    done = [each.split()[0] for each in world.steps]
    assert done.count(step) == 2
    assert done.count("poll") == 1, "no new batch is polled meanwhile"
    assert world.pauses == 1


async def test_orders_locked_by_another_worker_are_processed_last() -> None:
    world = World([log_record(1, "N1"), log_record(2, "N2"), log_record(3, "N3")])
    world.held_by_others = [{b"shop:N2"}, {b"shop:N2"}, set()]
    await consumer(world).run_once()
    assert world.steps[2:] == [
        "process 0-1 0-3", "wake", "acquire 1", "acquire 1", "process 0-2", "wake", "commit 0-3", "release 3",
    ]  # fmt: skip
    assert world.lock_outcomes == [("acquired", 2), ("contended_then_acquired", 1)]
    assert world.lock_spans == ["wait", "wait", "hold"]


async def test_orders_that_stay_locked_are_processed_all_the_same() -> None:
    world = World([log_record(1, "N1")])
    world.held_by_others = [{b"shop:N1"}] * 10
    await consumer(world).run_once()
    assert world.steps[-4:] == ["process 0-1", "wake", "commit 0-1", "release 1"]
    assert world.lock_outcomes == [("timeout", 1)]


async def test_release_leaves_the_last_position_of_each_order_as_done_marker() -> None:
    world = World([log_record(1, "N1"), log_record(2, "N2"), log_record(3, "N1")])
    await consumer(world).run_once()
    assert world.left == {b"shop:N1": Position(0, 3), b"shop:N2": Position(0, 2)}


async def test_done_markers_are_left_if_only_the_commit_failed() -> None:
    for step, left in {"commit": {b"shop:1": Position(0, 1)}, "process": {}}.items():
        world = World([log_record(1)])
        world.fails[step] = [InfrastructureDamaged("page 7")]
        with pytest.raises(InfrastructureDamaged):
            await consumer(world).run_once()
        assert world.left == left


async def test_records_done_by_marker_and_store_are_skipped() -> None:
    world = World([log_record(1, "N1"), log_record(2, "N2"), log_record(3, "N1")])
    world.done_markers = {b"shop:N1": Position(0, 1)}
    await consumer(world).run_once()
    assert world.steps[2:] == ["ask 0-1", "process 0-2 0-3", "wake", "commit 0-3", "release 2"]
    assert world.lock_outcomes == [("acquired", 2), ("done", 1)]


async def test_batch_that_is_done_already_is_only_committed() -> None:
    world = World([log_record(1, "N1"), log_record(2, "N1")])
    world.done_markers = {b"shop:N1": Position(0, 2)}
    await consumer(world).run_once()
    assert world.steps == ["poll", "acquire 1", "ask 0-1 0-2", "commit 0-2", "release 1"]


@pytest.mark.parametrize("outage", [[], [InfrastructureDown("locked")]])
async def test_done_marker_without_the_stores_confirmation_skips_nothing(outage: list[Exception]) -> None:
    """The store may have lost the record in a failover, or it may not answer."""
    world = World([log_record(1, "N1")])
    world.done_markers, world.has_settled = {b"shop:N1": Position(0, 1)}, bool(outage)
    world.fails["ask"] = outage
    await consumer(world).run_once()
    assert world.steps[2:5] == ["ask 0-1", "process 0-1", "wake"]


async def test_done_marker_of_another_partition_skips_nothing() -> None:
    world = World([log_record(1, "N1")])
    world.done_markers = {b"shop:N1": Position(7, 1)}
    await consumer(world).run_once()
    assert world.steps[2] == "process 0-1"


async def test_unreachable_locks_do_not_stop_a_batch() -> None:
    world = World([log_record(1)])
    world.fails = {"acquire": [InfrastructureDown("unreachable")], "release": [InfrastructureDown("unreachable")]}
    assert await consumer(world).run_once() == 1
    assert "commit 0-1" in world.steps
    assert world.lock_outcomes == [("error", 1), ("error", 1)]
    assert world.lock_spans == ["wait"]  # nothing is known to have been held


@pytest.mark.parametrize("error", [TooManyDeadLetters("twenty"), InfrastructureDamaged("page 7")])
async def test_error_that_no_retry_mends_stops_the_loop_without_a_commit(error: Exception) -> None:
    world = World([log_record(1)], [log_record(2)])
    world.fails["process"] = [error]
    with pytest.raises(type(error)):
        await consumer(world).run()
    assert not [step for step in world.steps if step.startswith("commit")]
    assert world.steps[-1] == "release 1"


async def test_stop_finishes_the_batch_in_hand_and_polls_no_other() -> None:
    world = World([log_record(1)], [log_record(2)])
    loop = consumer(world)
    world.meanwhile = loop.stop
    await loop.run()
    assert world.steps == ["poll", "acquire 1", "process 0-1", "wake", "commit 0-1", "release 1"]


async def test_stop_during_an_outage_leaves_the_batch_uncommitted() -> None:
    world = World([log_record(1)])
    world.fails["process"] = [InfrastructureDown("gone")] * 1000
    loop = consumer(world)
    running = asyncio.create_task(loop.run())
    await until(lambda: world.pauses)
    loop.stop()
    await asyncio.wait_for(running, 1)
    assert not [step for step in world.steps if step.startswith("commit")]


class Begun:
    """Notes in which two other processes have ended at offset 1, and one of them with offset 2 alone in hand."""

    async def begin(self, positions: Sequence[Position], *, is_alone: bool) -> Sequence[fatal_records.Begun]:
        return [
            fatal_records.Begun(position=Position(0, 1), is_alone=False, processes=2, ended=2),
            fatal_records.Begun(position=Position(0, 2), is_alone=True, processes=2, ended=2),
        ]

    async def end(self, positions: Sequence[Position], *, only_own: bool = False) -> None: ...


def careful(world: World) -> Consumer:
    async def set_aside(each: LogRecord) -> None:
        world.steps.append(f"set aside {each.position}")

    world.has_settled = False
    return consumer(world, FatalRecords(Begun(), OneInHand(), set_aside))


async def test_suspect_batch_is_processed_and_committed_record_by_record() -> None:
    world = World([log_record(1), log_record(2), log_record(3)])
    await careful(world).run_once()
    assert [step for step in world.steps if step.split()[0] in ("process", "set", "commit")] == [
        "process 0-1", "commit 0-1", "set aside 0-2", "commit 0-2", "process 0-3", "commit 0-3", "commit 0-3",
    ]  # fmt: skip


async def test_suspect_record_that_another_process_has_settled_is_not_read() -> None:
    world = World([log_record(1)])
    loop = careful(world)
    world.has_settled = True
    await loop.run_once()
    assert [step for step in world.steps if step.split()[0] in ("ask", "process", "commit")] == [
        "ask 0-1", "commit 0-1", "commit 0-1",
    ]  # fmt: skip


async def test_stop_comes_between_two_records_of_a_suspect_batch() -> None:
    world = World([log_record(1), log_record(3)])
    loop = careful(world)
    world.meanwhile = loop.stop
    await loop.run()
    assert [step for step in world.steps if step.startswith(("process", "commit"))] == ["process 0-1", "commit 0-1"]
    assert world.left == {}
