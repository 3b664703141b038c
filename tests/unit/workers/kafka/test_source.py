"""The log on Kafka over a consumer in memory: polls, commits, and when the member is replaced."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from aiokafka.errors import (
    CommitFailedError,
    CorruptRecordException,
    GroupAuthorizationFailedError,
    IllegalStateError,
    KafkaConnectionError,
    RequestTimedOutError,
)

from schemas.record_format import Record
from tests.support.fakes import GroupObserver
from tests.support.kafka_clients import TOPIC, Broker, FakeConsumer, offsets
from tests.support.kafka_topics import Settled
from tests.support.waiting import until
from workers.errors import InfrastructureDamaged, InfrastructureDown
from workers.kafka.ports import MemberLimits
from workers.kafka.source import KafkaSource, ReplaceReason
from workers.kafka.start_offset import MARGIN
from workers.settlement.plan import LogRecord, Position

LIMITS = MemberLimits(poll_s=0.01, late_s=0.01, keep_alive_every_s=0.02, busy_max_s=60, backoff_s=0, backoff_max_s=0)


class World:
    """A source with its broker and the clients that were built for it. Its clock stands until the test moves it."""

    def __init__(self, limits: MemberLimits = LIMITS) -> None:
        self.broker = Broker()
        self.settled = Settled()
        self.observer = GroupObserver()
        self.clients: list[FakeConsumer] = []
        self.now_s = 1000.0
        self.start_error: Exception | None = None
        self.source = KafkaSource(
            self._build,
            topic=TOPIC,
            last_settled=self.settled,
            all_settled=self.settled.all_settled,
            observer=self.observer,
            limits=limits,
            now_s=lambda: self.now_s,
        )

    @property
    def client(self) -> FakeConsumer:
        return self.clients[-1]

    def _build(self) -> FakeConsumer:
        self.clients.append(FakeConsumer(self.broker))
        self.client.start_error = self.start_error
        return self.client

    async def join(self, *partitions: int) -> None:
        assert await self.source.poll(500) == ()
        await self.client.assign(*partitions)

    async def read(self, *, polls: int = 20) -> list[LogRecord]:
        """Poll until a batch comes."""
        for _ in range(polls):
            if batch := await self.source.poll(500):
                return list(batch)
        raise AssertionError("no records came")

    async def settle(self, batch: list[LogRecord]) -> None:
        """Record the dispositions of a batch in the store and commit it, as a worker does."""
        last = {each.position.partition: each.position for each in batch}
        self.settled.last.update({partition: position.offset for partition, position in last.items()})
        await self.source.commit(list(last.values()))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.source.stop()


async def test_source_reads_assigned_partitions_and_commits_after_the_last_record(world: World) -> None:
    world.broker.append(0, 2)
    world.broker.append(1, 1)
    await world.join(0, 1)
    batch = await world.read()
    assert offsets(batch) == [(0, 0), (0, 1), (1, 0)]
    await world.settle(batch)
    assert world.broker.committed == {0: 2, 1: 1}
    assert (world.source.joined, world.source.trouble, world.observer.rebalances) == (True, None, 1)


async def test_batch_has_at_most_500_records(world: World) -> None:
    world.broker.append(0, 1200)
    await world.join(0)
    assert len(await world.source.poll(10_000)) == 500


async def test_before_the_first_assignment_polls_are_empty_and_trouble_is_set(world: World) -> None:
    assert await world.source.poll(500) == ()
    assert (world.source.joined, world.source.trouble) == (False, "has not joined the consumer group yet")


async def test_member_without_partitions_has_no_trouble_and_polls_on(world: World) -> None:
    await world.join()
    assert await world.source.poll(500) == ()
    assert (world.source.joined, world.source.trouble) == (True, None)


async def test_commit_after_a_rebalance_is_dropped_and_the_batch_is_redelivered(world: World) -> None:
    world.broker.append(0, 3)
    await world.join(0)
    batch = await world.read()
    await world.client.move(0)
    await world.settle(batch)
    assert world.broker.committed == {}
    assert len(world.observer.dropped) == 1
    assert await world.read() == batch


async def test_commit_during_a_rebalance_is_dropped(world: World) -> None:
    world.broker.append(0)
    await world.join(0)
    batch = await world.read()
    await world.client.revoke()
    await world.settle(batch)
    assert (world.broker.committed, len(world.observer.dropped)) == ({}, 1)


@pytest.mark.parametrize("error", [CommitFailedError(), IllegalStateError("not assigned")])
async def test_commit_that_the_group_rejects_is_dropped(world: World, error: Exception) -> None:
    world.broker.append(0)
    await world.join(0)
    batch = await world.read()
    world.client.commit_errors.append(error)
    await world.settle(batch)
    assert world.observer.dropped == [type(error).__name__]


async def test_member_is_replaced_after_commit_tries_without_an_answer(world: World) -> None:
    world.broker.append(0)
    await world.join(0)
    batch = await world.read()
    world.client.commit_errors.extend([RequestTimedOutError()] * LIMITS.commit_tries)
    for _ in range(LIMITS.commit_tries):
        with pytest.raises(InfrastructureDown, match="offset commit failed"):
            await world.settle(batch)
    assert world.observer.rebuilds == [ReplaceReason.COMMIT]
    await world.settle(batch)
    assert len(world.observer.dropped) == 1
    await world.join(0)
    assert await world.read() == batch


async def test_successful_commit_resets_the_count_of_failed_commits(world: World) -> None:
    world.broker.append(0)
    await world.join(0)
    batch = await world.read()
    for _ in range(3):
        world.client.commit_errors.extend([RequestTimedOutError()] * (LIMITS.commit_tries - 1))
        for _ in range(LIMITS.commit_tries - 1):
            with pytest.raises(InfrastructureDown):
                await world.settle(batch)
        await world.settle(batch)
    assert world.observer.rebuilds == []


async def test_unreachable_store_is_trouble_but_replaces_no_member(world: World) -> None:
    async def settled(partition: int, *, below: int | None = None) -> int | None:
        raise InfrastructureDown("PostgreSQL is away")

    world.source._last_settled = settled
    await world.join(0)
    for _ in range(3):
        world.now_s += 100
        with pytest.raises(InfrastructureDown, match="PostgreSQL is away"):
            await world.source.poll(500)
    assert world.source.trouble == "PostgreSQL is away"
    assert (len(world.clients), world.observer.rebuilds) == (1, [])


async def test_store_that_loses_dispositions_while_a_worker_runs_rewinds_the_log(world: World) -> None:
    """A standby took over that had not received the last transactions; the batch in hand is settled there."""
    world.broker.append(0, 3000)
    await world.join(0)
    for _ in range(5):
        await world.settle(await world.read())
    in_hand = await world.read()
    assert offsets(in_hand)[0] == (0, 2500)
    world.settled.lost = {(0, offset) for offset in range(1700, 2500)}
    await world.settle(in_hand)
    assert (world.broker.committed, world.observer.rebuilds) == ({0: 2500}, [ReplaceReason.STORE])
    await world.join(0)
    assert offsets(await world.read())[0] == (0, 1700 - MARGIN)
    assert world.observer.rewinds == [(0, 2500, 1700 - MARGIN)]


async def test_lost_dispositions_are_found_even_if_no_records_come(world: World) -> None:
    world.broker.append(0, 10)
    await world.join(0)
    await world.settle(await world.read())
    world.settled.last = {0: 3}
    world.now_s += LIMITS.check_every_s
    assert await world.source.poll(500) == ()
    assert world.observer.rebuilds == [ReplaceReason.STORE]
    await world.join(0)
    assert offsets(await world.read())[0] == (0, 0)


async def test_recreated_topic_is_damage_and_replaces_no_member(world: World) -> None:
    world.settled.last = {0: 7}
    await world.join(0)
    for _ in range(2):
        with pytest.raises(InfrastructureDamaged, match="created anew"):
            await world.source.poll(500)
    assert world.observer.rebuilds == []


@pytest.mark.parametrize("error", [GroupAuthorizationFailedError("g"), CorruptRecordException("Invalid CRC")])
async def test_failed_fetch_replaces_the_member_and_skips_no_record(world: World, error: Exception) -> None:
    world.broker.append(0, 3)
    await world.join(0)
    world.client.errors.append(error)
    with pytest.raises(InfrastructureDown, match=type(error).__name__):
        await world.source.poll(500)
    assert world.observer.rebuilds == [ReplaceReason.FAILED]
    first = world.client
    await world.join(0)
    assert len(await world.read()) == 3
    await world.source.stop()
    assert first.stopped


async def test_undecodable_record_is_delivered_empty_and_its_neighbours_complete(world: World) -> None:
    world.broker.append(0, 5)
    world.broker.append(1, 2)
    found: list[LogRecord] = []
    for _ in range(60):
        try:
            batch = list(await world.source.poll(500))
        except InfrastructureDown:
            continue
        if not world.source.joined:
            world.client.undecodable = {(0, 2)}
            await world.client.assign(0, 1)
        if batch:
            await world.settle(batch)
            found += batch
    assert sorted(offsets(found)) == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1)]
    (empty,) = [each.record for each in found if not each.record.key]
    assert [each.position for each in found if each.record is empty] == [Position(0, 2)]
    assert empty == Record(b"", b"", ())
    assert world.observer.rebuilds == [ReplaceReason.FAILED, ReplaceReason.FAILED]
    assert world.broker.committed == {0: 5, 1: 2}


async def test_unreachable_brokers_at_the_start_are_tried_again(world: World) -> None:
    world.start_error = KafkaConnectionError("connection refused")
    for _ in range(2):
        with pytest.raises(InfrastructureDown, match="connection refused"):
            await world.source.poll(500)
    assert world.source.trouble == "Kafka: KafkaConnectionError: KafkaConnectionError: connection refused"
    world.start_error = None
    await world.join(0)
    assert (len(world.clients), world.observer.rebuilds) == (3, [])


async def test_short_lived_members_are_followed_by_a_growing_backoff() -> None:
    world = World(MemberLimits(poll_s=0.01, late_s=0.01, backoff_s=0.5, backoff_max_s=2.0))
    world.start_error = KafkaConnectionError("connection refused")
    made_at: list[float] = []
    for _ in range(80):
        before = len(world.clients)
        with pytest.raises(InfrastructureDown):
            await world.source.poll(500)
        made_at += [world.now_s] * (len(world.clients) - before)
        world.now_s += 0.25
    waits = [later - earlier for earlier, later in pairwise(made_at)]
    assert waits[:5] == [0.5, 1.0, 2.0, 2.0, 2.0]
    await world.source.stop()


async def test_records_that_are_not_delivered_replace_the_member(world: World) -> None:
    await world.join(0)
    await world.source.poll(500)
    world.client.is_stuck = True
    world.broker.append(0, 2)
    for _ in range(6):
        world.now_s += 10
        assert await world.source.poll(500) == ()
    assert world.observer.rebuilds == [ReplaceReason.STALLED]
    await world.join(0)
    assert len(await world.read()) == 2


async def test_empty_log_replaces_no_member(world: World) -> None:
    await world.join(0)
    for _ in range(20):
        world.now_s += 10
        assert await world.source.poll(500) == ()
    assert (world.observer.rebuilds, world.source.trouble) == ([], None)


async def test_rebalance_that_does_not_end_replaces_the_member(world: World) -> None:
    await world.join(0)
    await world.client.revoke()
    world.now_s += 59
    assert await world.source.poll(500) == ()
    assert world.observer.rebuilds == []
    world.now_s += 2
    assert await world.source.poll(500) == ()
    assert world.observer.rebuilds == [ReplaceReason.UNASSIGNED]


async def test_brokers_that_do_not_answer_for_a_minute_replace_the_member(world: World) -> None:
    await world.join(0)
    await world.source.poll(500)
    world.broker.silent = KafkaConnectionError()
    for _ in range(6):
        world.now_s += 10
        assert await world.source.poll(500) == ()
        assert world.source.trouble == "Kafka does not answer"
        assert world.observer.rebuilds == []
    world.now_s += 10
    assert await world.source.poll(500) == ()
    assert world.observer.rebuilds == [ReplaceReason.UNREACHABLE]


async def test_unknown_start_offsets_for_a_minute_replace_the_member(world: World) -> None:
    await world.join(0)
    world.broker.silent = KafkaConnectionError()
    for _ in range(2):
        with pytest.raises(InfrastructureDown, match="cannot find the start offsets"):
            await world.source.poll(500)
        world.now_s += 61
    assert world.observer.rebuilds == [ReplaceReason.UNREACHABLE]


async def test_trouble_ends_when_the_brokers_answer(world: World) -> None:
    await world.join(0)
    await world.source.poll(500)
    world.broker.silent = KafkaConnectionError()
    world.now_s += 10
    await world.source.poll(500)
    world.broker.silent = None
    await world.source.poll(500)
    assert world.source.trouble is None


async def test_failed_keep_alive_replaces_the_member_at_the_next_poll(world: World) -> None:
    await world.join(0)
    await world.source.poll(500)
    world.client.errors.append(GroupAuthorizationFailedError("g"))
    world.now_s += 1
    await until(lambda: not world.client.errors)
    with pytest.raises(InfrastructureDown, match="GroupAuthorizationFailedError"):
        await world.source.poll(500)
    assert world.observer.rebuilds == [ReplaceReason.FAILED]


async def test_lag_is_zero_after_a_commit_and_unknown_during_a_rebalance(world: World) -> None:
    assert world.source.lag() == []
    world.broker.append(0, 2)
    await world.join(0)
    assert world.source.lag() == []
    await world.settle(await world.read())
    assert [(each.messages, each.seconds) for each in world.source.lag()] == [(0, 0.0)]
    await world.client.revoke()
    assert world.source.lag() == []


async def test_stop_leaves_the_group_and_no_task(world: World) -> None:
    before = asyncio.all_tasks()
    await world.join(0)
    world.client.held_up = asyncio.Event()
    await world.source.poll(500)
    await world.source.stop()
    assert world.client.stopped
    assert asyncio.all_tasks() == before
    await world.source.stop()
