"""The log on Kafka, over a consumer in memory: what is read, what is committed, and when a member is replaced."""

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
    OffsetOutOfRangeError,
    RequestTimedOutError,
)
from aiokafka.structs import TopicPartition

from schemas.record_format import Record
from tests.support.fakes import GroupObserver
from tests.support.kafka_clients import TOPIC, Broker, FakeConsumer
from tests.support.kafka_topics import Settled
from workers.errors import InfrastructureDamaged, InfrastructureDown
from workers.kafka.ports import MemberLimits
from workers.kafka.source import KafkaSource, ReplaceReason
from workers.kafka.start_offset import MARGIN
from workers.settlement.plan import LogRecord, Position

LIMITS = MemberLimits(poll_s=0.01, late_s=0.01, stay_every_s=0.02, stand_max_s=60, rest_s=0, rest_max_s=0)


class World:
    """A source with its broker, and the clients that were made for it. Its time stands until it is moved."""

    def __init__(self, limits: MemberLimits = LIMITS) -> None:
        self.broker = Broker()
        self.settled = Settled()
        self.told = GroupObserver()
        self.clients: list[FakeConsumer] = []
        self.now_s = 1000.0
        self.start_error: Exception | None = None
        self.source = KafkaSource(
            self._build,
            topic=TOPIC,
            last_settled=self.settled,
            all_settled=self.settled.all_settled,
            observer=self.told,
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
        """The next batch that is one."""
        for _ in range(polls):
            if batch := await self.source.poll(500):
                return list(batch)
        raise AssertionError("nothing came")

    async def settle(self, batch: list[LogRecord]) -> None:
        """What the worker does with a batch."""
        last = {each.position.partition: each.position for each in batch}
        self.settled.last.update({partition: position.offset for partition, position in last.items()})
        await self.source.commit(list(last.values()))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.source.stop()


def offsets(batch: list[LogRecord]) -> list[tuple[int, int]]:
    return [(each.position.partition, each.position.offset) for each in batch]


async def test_it_reads_what_the_group_gives_and_commits_behind_the_last(world: World) -> None:
    world.broker.append(0, 2)
    world.broker.append(1, 1)
    await world.join(0, 1)
    batch = await world.read()
    assert offsets(batch) == [(0, 0), (0, 1), (1, 0)]
    await world.settle(batch)
    assert world.broker.committed == {0: 2, 1: 1}
    assert (world.source.joined, world.source.trouble, world.told.rebalances) == (True, None, 1)


async def test_nothing_is_fetched_before_it_is_said_from_where(world: World) -> None:
    await world.join(0, 1)
    assert world.client.paused == {0, 1}
    await world.source.poll(500)
    assert world.client.paused == set()


async def test_what_kafka_lets_be_missing_is_empty(world: World) -> None:
    world.broker.append(0, key=None, value=None, headers=(("account", None), ("path", b"/")))
    await world.join(0)
    (logged,) = await world.read()
    assert logged.record == Record(b"", b"", (("account", b""), ("path", b"/")))


async def test_a_batch_is_never_larger_than_five_hundred(world: World) -> None:
    world.broker.append(0, 1200)
    await world.join(0)
    assert len(await world.source.poll(10_000)) == 500


async def test_before_the_group_has_decided_there_is_nothing_and_that_is_said(world: World) -> None:
    assert await world.source.poll(500) == ()
    assert (world.source.joined, world.source.trouble) == (False, "has not joined the group yet")


async def test_a_topic_that_is_missing_is_waited_for(world: World) -> None:
    world.broker.exists = False
    await world.join()
    with pytest.raises(InfrastructureDown, match=f"no topic {TOPIC} yet"):
        await world.source.poll(500)
    world.broker.exists = True
    world.broker.append(0)
    await world.client.move(0)
    assert offsets(await world.read()) == [(0, 0)]


async def test_a_member_without_partitions_is_well_and_goes_on_asking(world: World) -> None:
    await world.join()
    assert await world.source.poll(500) == ()
    assert (world.source.joined, world.source.trouble) == (True, None)


async def test_a_commit_for_a_batch_of_before_a_rebalance_is_dropped_and_the_batch_comes_again(world: World) -> None:
    world.broker.append(0, 3)
    await world.join(0)
    batch = await world.read()
    await world.client.move(0)
    await world.settle(batch)
    assert world.broker.committed == {}
    assert len(world.told.dropped) == 1
    assert await world.read() == batch


async def test_a_commit_while_the_group_decides_is_dropped(world: World) -> None:
    world.broker.append(0)
    await world.join(0)
    batch = await world.read()
    await world.client.revoke()
    await world.settle(batch)
    assert (world.broker.committed, len(world.told.dropped)) == ({}, 1)


@pytest.mark.parametrize("error", [CommitFailedError(), IllegalStateError("not assigned")])
async def test_a_commit_that_the_group_no_longer_wants_is_dropped(world: World, error: Exception) -> None:
    world.broker.append(0)
    await world.join(0)
    batch = await world.read()
    world.client.commit_errors.append(error)
    await world.settle(batch)
    assert world.told.dropped == [type(error).__name__]


async def test_a_commit_that_is_not_answered_is_tried_again_and_then_the_member_is_replaced(world: World) -> None:
    world.broker.append(0)
    await world.join(0)
    batch = await world.read()
    world.client.commit_errors.extend([RequestTimedOutError()] * LIMITS.commit_tries)
    for _ in range(LIMITS.commit_tries):
        with pytest.raises(InfrastructureDown, match="does not take commits"):
            await world.settle(batch)
    assert world.told.rebuilds == [ReplaceReason.COMMIT]
    await world.settle(batch)
    assert len(world.told.dropped) == 1
    await world.join(0)
    assert await world.read() == batch


async def test_a_commit_that_succeeds_forgets_those_that_failed(world: World) -> None:
    world.broker.append(0)
    await world.join(0)
    batch = await world.read()
    for _ in range(3):
        world.client.commit_errors.extend([RequestTimedOutError()] * (LIMITS.commit_tries - 1))
        for _ in range(LIMITS.commit_tries - 1):
            with pytest.raises(InfrastructureDown):
                await world.settle(batch)
        await world.settle(batch)
    assert world.told.rebuilds == []


async def test_records_read_before_a_rebalance_and_handed_out_behind_it_are_read_again(world: World) -> None:
    await world.join(0)
    await world.source.poll(500)
    world.client.held_up = asyncio.Event()
    assert await world.source.poll(500) == ()  # the read is on its way, and is left to the next poll
    world.broker.append(0, 2)
    await world.client.move(0)
    world.client.positions[0] = 0
    world.client.paused.clear()  # the worst of it: it hands out what was not placed
    world.client.held_up.set()
    world.client.held_up = None
    assert await world.source.poll(500) == ()
    assert offsets(await world.read()) == [(0, 0), (0, 1)]


async def test_a_read_that_a_rebalance_holds_up_ends_in_peace_where_nothing_was_ever_committed(world: World) -> None:
    await world.join(0)
    await world.source.poll(500)
    world.client.held_up = asyncio.Event()
    assert await world.source.poll(500) == ()
    await world.client.move(0, 1)
    world.broker.append(1)
    world.client.held_up.set()
    world.client.held_up = None
    assert offsets(await world.read()) == [(1, 0)]
    assert world.told.rebuilds == []


async def test_a_read_that_a_rebalance_holds_up_does_not_hold_up_the_loop(world: World) -> None:
    await world.join(0)
    await world.source.poll(500)
    world.client.held_up = asyncio.Event()
    for _ in range(3):
        async with asyncio.timeout(1):
            assert await world.source.poll(500) == ()
    world.broker.append(0)
    world.client.held_up.set()
    assert offsets(await world.read()) == [(0, 0)]


async def test_a_poll_that_asks_for_less_than_was_read_leaves_the_rest_to_the_next(world: World) -> None:
    await world.join(0)
    await world.source.poll(500)
    world.client.held_up = asyncio.Event()
    assert await world.source.poll(500) == ()
    world.broker.append(0, 5)
    world.client.held_up.set()
    world.client.held_up = None
    assert [each.position.offset for each in await world.source.poll(2)] == [0, 1]
    assert [each.position.offset for each in await world.source.poll(500)] == [2, 3, 4]


async def test_a_rebalance_while_it_is_asked_where_to_begin_has_it_asked_again(world: World) -> None:
    world.broker.append(0, 2)
    world.broker.committed = {0: 1}
    asked = 0

    async def settled(partition: int, *, below: int | None = None) -> int | None:
        nonlocal asked
        asked += 1
        if asked == 1:
            world.settled.last = {0: 0, 1: 0}
            world.broker.append(1)
            world.broker.committed = {0: 1, 1: 1}
            await world.client.move(0, 1)
        return world.settled.last.get(partition)

    world.source._last_settled = settled
    await world.join(0)
    assert offsets(await world.read()) == [(0, 1)]
    assert asked == 2 * (1 + 2), "of one partition for nothing, then of both: the last of all, and below the committed"


async def test_a_store_that_is_away_is_waited_for_and_costs_no_member(world: World) -> None:
    async def settled(partition: int, *, below: int | None = None) -> int | None:
        raise InfrastructureDown("PostgreSQL is away")

    world.source._last_settled = settled
    await world.join(0)
    for _ in range(3):
        world.now_s += 100
        with pytest.raises(InfrastructureDown, match="PostgreSQL is away"):
            await world.source.poll(500)
    assert world.source.trouble == "PostgreSQL is away"
    assert (len(world.clients), world.told.rebuilds) == (1, [])


async def test_a_store_that_loses_what_it_settled_under_a_living_worker_has_it_read_again(world: World) -> None:
    """A standby took over that had not heard the last commits; the batch in hand was settled in it all the same."""
    world.broker.append(0, 3000)
    await world.join(0)
    for _ in range(5):
        await world.settle(await world.read())
    in_hand = await world.read()
    assert offsets(in_hand)[0] == (0, 2500)
    world.settled.lost = {(0, offset) for offset in range(1700, 2500)}
    await world.settle(in_hand)
    assert (world.broker.committed, world.told.rebuilds) == ({0: 2500}, [ReplaceReason.STORE])
    await world.join(0)
    assert offsets(await world.read())[0] == (0, 1700 - MARGIN)
    assert world.told.rewinds == [(0, 2500, 1700 - MARGIN)]


async def test_what_a_store_has_lost_is_found_missing_also_where_nothing_comes(world: World) -> None:
    world.broker.append(0, 10)
    await world.join(0)
    await world.settle(await world.read())
    world.settled.last = {0: 3}
    world.now_s += LIMITS.look_every_s
    assert await world.source.poll(500) == ()
    assert world.told.rebuilds == [ReplaceReason.STORE]
    await world.join(0)
    assert offsets(await world.read())[0] == (0, 0)


async def test_an_older_store_has_the_log_read_again_and_that_is_told(world: World) -> None:
    world.broker.append(0, 8)
    world.broker.committed = {0: 8}
    world.settled.last = {0: 3}
    await world.join(0)
    assert len(await world.read()) == 8
    assert world.told.rewinds == [(0, 8, 0)]


async def test_a_log_made_anew_stops_the_worker(world: World) -> None:
    world.settled.last = {0: 7}
    await world.join(0)
    for _ in range(2):
        with pytest.raises(InfrastructureDamaged, match="made anew"):
            await world.source.poll(500)
    assert world.told.rebuilds == []


async def test_an_offset_out_of_range_stops_the_worker_and_names_what_there_is(world: World) -> None:
    world.broker.append(0, 4)
    world.broker.first[0] = 10
    await world.join(0)
    await world.source.poll(500)
    world.client.errors.append(OffsetOutOfRangeError({TopicPartition(TOPIC, 0): 2}))
    with pytest.raises(InfrastructureDamaged, match="no offset 2 any more; it holds 10 to 13"):
        await world.source.poll(500)


async def test_where_the_log_does_not_say_what_there_is_the_offset_is_named_all_the_same(world: World) -> None:
    await world.join(0)
    await world.source.poll(500)
    world.client.errors.append(OffsetOutOfRangeError({TopicPartition(TOPIC, 0): 2}))
    world.broker.silent = KafkaConnectionError()
    with pytest.raises(InfrastructureDamaged, match="no offset 2 any more; what it holds it does not say"):
        await world.source.poll(500)


@pytest.mark.parametrize("error", [GroupAuthorizationFailedError("g"), CorruptRecordException("Invalid CRC")])
async def test_a_read_that_fails_has_the_member_replaced_and_nothing_is_skipped(world: World, error: Exception) -> None:
    world.broker.append(0, 3)
    await world.join(0)
    world.client.errors.append(error)
    with pytest.raises(InfrastructureDown, match=type(error).__name__):
        await world.source.poll(500)
    assert world.told.rebuilds == [ReplaceReason.FAILED]
    first = world.client
    await world.join(0)
    assert len(await world.read()) == 3
    await world.source.stop()
    assert first.stopped


async def test_a_record_that_cannot_be_read_is_handed_out_empty_and_its_neighbours_whole(world: World) -> None:
    world.broker.append(0, 5)
    world.broker.append(1, 2)
    found: list[LogRecord] = []
    for _ in range(60):
        try:
            batch = list(await world.source.poll(500))
        except InfrastructureDown:
            continue
        if not world.source.joined:
            world.client.illegible = {(0, 2)}
            await world.client.assign(0, 1)
        if batch:
            await world.settle(batch)
            found += batch
    assert sorted(offsets(found)) == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1)]
    (empty,) = [each.record for each in found if not each.record.key]
    assert [each.position for each in found if each.record is empty] == [Position(0, 2)]
    assert empty == Record(b"", b"", ())
    assert world.told.rebuilds == [ReplaceReason.FAILED, ReplaceReason.FAILED]
    assert world.broker.committed == {0: 5, 1: 2}


async def test_brokers_that_cannot_be_reached_at_the_start_are_tried_again(world: World) -> None:
    world.start_error = KafkaConnectionError("nobody there")
    for _ in range(2):
        with pytest.raises(InfrastructureDown, match="nobody there"):
            await world.source.poll(500)
    assert world.source.trouble == "Kafka: KafkaConnectionError: KafkaConnectionError: nobody there"
    world.start_error = None
    await world.join(0)
    assert (len(world.clients), world.told.rebuilds) == (3, [])


async def test_members_that_do_not_last_are_made_ever_more_slowly() -> None:
    world = World(MemberLimits(poll_s=0.01, late_s=0.01, rest_s=0.5, rest_max_s=2.0))
    world.start_error = KafkaConnectionError("nobody there")
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


async def test_records_that_lie_there_and_do_not_come_have_the_member_replaced(world: World) -> None:
    await world.join(0)
    await world.source.poll(500)
    world.client.dry = True
    world.broker.append(0, 2)
    for _ in range(6):
        world.now_s += 10
        assert await world.source.poll(500) == ()
    assert world.told.rebuilds == [ReplaceReason.STALLED]
    await world.join(0)
    assert len(await world.read()) == 2


async def test_where_nothing_lies_there_nobody_is_replaced(world: World) -> None:
    await world.join(0)
    for _ in range(20):
        world.now_s += 10
        assert await world.source.poll(500) == ()
    assert (world.told.rebuilds, world.source.trouble) == ([], None)


async def test_a_group_that_does_not_decide_has_the_member_replaced(world: World) -> None:
    await world.join(0)
    await world.client.revoke()
    world.now_s += 59
    assert await world.source.poll(500) == ()
    assert world.told.rebuilds == []
    world.now_s += 2
    assert await world.source.poll(500) == ()
    assert world.told.rebuilds == [ReplaceReason.UNASSIGNED]


async def test_brokers_that_do_not_answer_for_a_minute_have_the_member_replaced(world: World) -> None:
    await world.join(0)
    await world.source.poll(500)
    world.broker.silent = KafkaConnectionError()
    for _ in range(6):
        world.now_s += 10
        assert await world.source.poll(500) == ()
        assert world.source.trouble == "Kafka does not answer"
        assert world.told.rebuilds == []
    world.now_s += 10
    assert await world.source.poll(500) == ()
    assert world.told.rebuilds == [ReplaceReason.UNREACHABLE]


async def test_brokers_that_do_not_say_where_to_begin_for_a_minute_have_the_member_replaced(world: World) -> None:
    await world.join(0)
    world.broker.silent = KafkaConnectionError()
    for _ in range(2):
        with pytest.raises(InfrastructureDown, match="where to begin is not known"):
            await world.source.poll(500)
        world.now_s += 61
    assert world.told.rebuilds == [ReplaceReason.UNREACHABLE]


async def test_trouble_is_over_when_the_brokers_answer(world: World) -> None:
    await world.join(0)
    await world.source.poll(500)
    world.broker.silent = KafkaConnectionError()
    world.now_s += 10
    await world.source.poll(500)
    world.broker.silent = None
    await world.source.poll(500)
    assert world.source.trouble is None


async def test_while_the_loop_stands_at_a_batch_the_group_hears_of_us_and_nothing_is_taken(world: World) -> None:
    world.broker.append(0, 2)
    await world.join(0)
    batch = await world.read()
    world.broker.append(0, 3)
    world.now_s += 1
    async with asyncio.timeout(5):
        while world.client.kept_alive < 2:
            await asyncio.sleep(0.01)
            world.now_s += 1
    (lag,) = world.source.lag()
    assert (lag.partition, lag.messages) == (0, 5)
    assert lag.seconds > 0
    await world.settle(batch)
    assert world.broker.committed == {0: 2}
    assert [each.position.offset for each in await world.read()] == [2, 3, 4]


async def test_one_that_has_not_come_back_for_too_long_is_no_longer_kept_alive(world: World) -> None:
    await world.join(0)
    await world.source.poll(500)
    world.now_s += LIMITS.stand_max_s + 1
    await asyncio.sleep(0.1)
    assert world.client.kept_alive == 0


async def test_a_failure_while_the_loop_stands_is_told_at_the_next_poll(world: World) -> None:
    await world.join(0)
    await world.source.poll(500)
    world.client.errors.append(GroupAuthorizationFailedError("g"))
    world.now_s += 1
    await asyncio.sleep(0.1)
    with pytest.raises(InfrastructureDown, match="GroupAuthorizationFailedError"):
        await world.source.poll(500)
    assert world.told.rebuilds == [ReplaceReason.FAILED]


async def test_lag_is_nothing_where_all_is_committed_and_unknown_while_the_group_decides(world: World) -> None:
    assert world.source.lag() == []
    world.broker.append(0, 2)
    await world.join(0)
    assert world.source.lag() == []
    await world.settle(await world.read())
    assert [(each.messages, each.seconds) for each in world.source.lag()] == [(0, 0.0)]
    await world.client.revoke()
    assert world.source.lag() == []


async def test_stopping_leaves_the_group_and_no_task(world: World) -> None:
    before = asyncio.all_tasks()
    await world.join(0)
    world.client.held_up = asyncio.Event()
    await world.source.poll(500)
    await world.source.stop()
    assert world.client.stopped
    assert asyncio.all_tasks() == before
    await world.source.stop()
