"""One group member over a consumer in memory: start offsets, rebalances, slow fetches, keep-alive, bad records."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest
from aiokafka.errors import (
    CorruptRecordException,
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import TopicPartition

from schemas.record_format import Record
from tests.support.fakes import GroupObserver
from tests.support.kafka_clients import TOPIC, Broker, FakeConsumer, offsets
from tests.support.kafka_topics import Settled
from tests.support.waiting import until
from workers.errors import InfrastructureDamaged
from workers.kafka.member import Member
from workers.kafka.ports import ClientFailed, KafkaUnreachable, MemberLimits
from workers.settlement.plan import LogRecord, Position

LIMITS = MemberLimits(poll_s=0.01, late_s=0.01, keep_alive_every_s=0.02, busy_max_s=60)


class World:
    """A member with its client and its broker. Its clock stands until the test moves it."""

    def __init__(self, *, one_record_at_a_time: bool = False) -> None:
        self.broker = Broker()
        self.settled = Settled()
        self.observer = GroupObserver()
        self.client = FakeConsumer(self.broker)
        self.now_s = 1000.0
        self.clock_reads = 0
        self.on_lookup: Callable[[], Awaitable[None]] | None = None
        self.member = Member(
            self.client,
            topic=TOPIC,
            last_settled=self.last_settled,
            observer=self.observer,
            limits=LIMITS,
            one_record_at_a_time=one_record_at_a_time,
            now_s=self.clock,
            clock_s=lambda: 1_760_000_100.0,
        )

    def clock(self) -> float:
        self.clock_reads += 1
        return self.now_s

    async def last_settled(self, partition: int, *, below: int | None = None) -> int | None:
        if self.on_lookup is not None:
            await self.on_lookup()
        return await self.settled(partition, below=below)

    async def begin(self, *partitions: int) -> None:
        """Join, be assigned these partitions, and poll once, which finds their start offsets."""
        await self.member.join()
        await self.client.assign(*partitions)
        await self.member.poll(500)

    async def hold_a_fetch(self) -> None:
        """Leave a fetch unfinished, as a rebalance does; the poll returns without it."""
        self.client.held_up = asyncio.Event()
        assert await self.member.poll(500) == []

    def release_the_fetch(self) -> None:
        assert self.client.held_up is not None
        self.client.held_up.set()
        self.client.held_up = None

    async def read(self) -> list[LogRecord]:
        """Poll until a batch comes."""
        for _ in range(20):
            if batch := await self.member.poll(500):
                return batch
        raise AssertionError("no records came")

    async def keep_alive_rounds(self, count: int) -> None:
        """Wait until the keep-alive task has read the clock, which it does once a round, so many times."""
        end = self.clock_reads + count
        await until(lambda: self.clock_reads >= end)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.member.leave()


async def test_join_without_a_broker_is_unreachable(world: World) -> None:
    world.client.start_error = KafkaConnectionError("connection refused")
    with pytest.raises(KafkaUnreachable, match="connection refused"):
        await world.member.join()


async def test_poll_without_an_assignment_returns_nothing(world: World) -> None:
    await world.member.join()
    assert await world.member.poll(500) == []
    assert world.member.assigned is None


async def test_assigned_partitions_stay_paused_until_their_start_offsets_are_known(world: World) -> None:
    await world.member.join()
    await world.client.assign(0, 1)
    assert world.client.paused == {0, 1}
    await world.member.poll(500)
    assert world.client.paused == set()


async def test_member_reads_from_the_committed_offset_and_commits_the_next_one(world: World) -> None:
    world.broker.append(0, 3)
    world.broker.committed = {0: 1}
    world.settled.last = {0: 0}
    await world.member.join()
    await world.client.assign(0)
    batch = await world.read()
    assert offsets(batch) == [(0, 1), (0, 2)]
    assert world.member.settled_before() == [Position(0, 0)]
    await world.member.commit([batch[-1].position])
    assert world.broker.committed == {0: 3}
    assert world.member.settled_before() == [Position(0, 2)]


async def test_records_that_came_during_a_batch_are_one_batch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """aiokafka has fetched one of them ahead, and gets the others when that one is taken."""
    getmany = world.client.getmany

    async def fetching_ahead(
        *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Mapping[TopicPartition, Sequence[Any]]:
        return await getmany(
            *partitions, timeout_ms=timeout_ms, max_records=max_records if timeout_ms else min(1, max_records or 1)
        )

    await world.begin(0, 1)
    monkeypatch.setattr(world.client, "getmany", fetching_ahead)
    world.broker.append(0, 3)
    world.broker.append(1, 2)
    assert offsets(await world.member.poll(500)) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


async def test_error_behind_records_that_were_fetched_ahead_comes_after_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    getmany = world.client.getmany

    async def failing_behind(*_: TopicPartition, **how: Any) -> Mapping[TopicPartition, Sequence[Any]]:
        found = await getmany(**how)
        world.client.errors.append(CorruptRecordException("behind"))
        return found

    await world.begin(0, 1)
    world.broker.append(0, 2)
    monkeypatch.setattr(world.client, "getmany", failing_behind)
    assert offsets(await world.member.poll(500)) == [(0, 0), (0, 1)]
    with pytest.raises(ClientFailed, match="behind"):
        await world.member.poll(500)


async def test_batch_with_more_of_the_log_is_not_larger_than_asked_for(world: World) -> None:
    await world.begin(0, 1)
    world.broker.append(0, 3)
    world.broker.append(1, 3)
    assert offsets(await world.member.poll(4)) == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert offsets(await world.member.poll(4)) == [(1, 1), (1, 2)]


async def test_missing_key_value_and_header_values_become_empty(world: World) -> None:
    world.broker.append(0, key=None, value=None, headers=(("account", None), ("path", b"/")))
    await world.member.join()
    await world.client.assign(0)
    (log_record,) = await world.read()
    assert log_record.record == Record(b"", b"", (("account", b""), ("path", b"/")))


async def test_missing_topic_is_unreachable_until_it_exists(world: World) -> None:
    world.broker.exists = False
    await world.member.join()
    await world.client.assign()
    with pytest.raises(KafkaUnreachable, match=f"no topic {TOPIC} yet"):
        await world.member.poll(500)
    world.broker.exists = True
    world.broker.append(0)
    await world.client.move(0)
    assert offsets(await world.read()) == [(0, 0)]


async def test_unanswered_lookup_of_start_offsets_is_unreachable(world: World) -> None:
    await world.member.join()
    await world.client.assign(0)
    world.broker.silent = KafkaConnectionError()
    with pytest.raises(KafkaUnreachable, match="cannot find the start offsets"):
        await world.member.poll(500)


async def test_rebalance_during_the_lookup_of_start_offsets_repeats_the_lookup(world: World) -> None:
    world.broker.append(0, 2)
    world.broker.committed = {0: 1}
    lookups = 0

    async def rebalance_at_the_first() -> None:
        nonlocal lookups
        lookups += 1
        if lookups == 1:
            world.settled.last = {0: 0, 1: 0}
            world.broker.append(1)
            world.broker.committed = {0: 1, 1: 1}
            await world.client.move(0, 1)

    world.on_lookup = rebalance_at_the_first
    await world.member.join()
    await world.client.assign(0)
    assert offsets(await world.read()) == [(0, 1)]
    assert lookups == 2 * (1 + 2), "for one partition in vain, then for both: the last of all, and below the committed"


async def test_store_behind_the_group_rewinds_and_reports_it(world: World) -> None:
    world.broker.append(0, 8)
    world.broker.committed = {0: 8}
    world.settled.last = {0: 3}
    await world.member.join()
    await world.client.assign(0)
    assert len(await world.read()) == 8
    assert world.observer.rewinds == [(0, 8, 0)]


async def test_each_rebalance_raises_the_epoch_twice_and_is_reported_once(world: World) -> None:
    await world.begin(0)
    epoch = world.member.epoch
    world.now_s += 7
    await world.client.revoke()
    assert (world.member.epoch, world.member.assigned, world.member.rebalanced_at) == (epoch + 1, None, world.now_s)
    await world.client.assign(0, 1)
    assert (world.member.epoch, world.member.assigned) == (epoch + 2, frozenset({0, 1}))
    assert world.observer.rebalances == 2


async def test_records_fetched_before_a_rebalance_are_dropped_and_fetched_again(world: World) -> None:
    await world.begin(0)
    await world.hold_a_fetch()
    world.broker.append(0, 2)
    await world.client.move(0)
    world.client.offsets[0] = 0
    world.client.paused.clear()  # the worst case: aiokafka returns records of a partition without a start offset
    world.release_the_fetch()
    assert await world.member.poll(500) == []
    assert offsets(await world.read()) == [(0, 0), (0, 1)]


async def test_fetch_delayed_by_a_first_assignment_ends_without_an_error(world: World) -> None:
    await world.begin(0)
    await world.hold_a_fetch()
    await world.client.move(0, 1)
    world.broker.append(1)
    world.release_the_fetch()
    assert offsets(await world.read()) == [(1, 0)]


async def test_delayed_fetch_does_not_block_polls_and_its_records_come_later(world: World) -> None:
    await world.begin(0)
    await world.hold_a_fetch()
    for _ in range(3):
        async with asyncio.timeout(1):
            assert await world.member.poll(500) == []
    world.broker.append(0)
    world.release_the_fetch()
    assert offsets(await world.read()) == [(0, 0)]


async def test_poll_with_a_lower_limit_leaves_the_rest_to_the_next_poll(world: World) -> None:
    await world.begin(0)
    await world.hold_a_fetch()
    world.broker.append(0, 5)
    world.release_the_fetch()
    assert offsets(await world.member.poll(2)) == [(0, 0), (0, 1)]
    assert offsets(await world.member.poll(500)) == [(0, 2), (0, 3), (0, 4)]


async def test_offset_out_of_range_is_damage_and_names_the_offsets_held(world: World) -> None:
    world.broker.append(0, 4)
    world.broker.first[0] = 10
    await world.begin(0)
    world.client.errors.append(OffsetOutOfRangeError({TopicPartition(TOPIC, 0): 2}))
    with pytest.raises(InfrastructureDamaged, match="no offset 2 any more; it holds 10 to 13"):
        await world.member.poll(500)


async def test_offset_out_of_range_is_reported_even_if_the_brokers_do_not_answer(world: World) -> None:
    await world.begin(0)
    world.client.errors.append(OffsetOutOfRangeError({TopicPartition(TOPIC, 0): 2}))
    world.broker.silent = KafkaConnectionError()
    with pytest.raises(InfrastructureDamaged, match="no offset 2 any more; the brokers do not answer"):
        await world.member.poll(500)


@pytest.mark.parametrize(
    ("error", "is_records"),
    [
        (GroupAuthorizationFailedError("g"), False),
        (CorruptRecordException("Invalid CRC"), False),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), True),
    ],
)
async def test_failed_fetch_fails_the_client_and_flags_undecodable_records(
    world: World, error: Exception, is_records: bool
) -> None:
    await world.begin(0)
    world.client.errors.append(error)
    with pytest.raises(ClientFailed, match=type(error).__name__) as failed:
        await world.member.poll(500)
    assert failed.value.is_records is is_records


async def test_one_record_at_a_time_delivers_the_undecodable_record_empty() -> None:
    world = World(one_record_at_a_time=True)
    world.broker.append(0, 3)
    world.broker.append(1, 1)
    world.client.undecodable = {(0, 1)}
    await world.member.join()
    await world.client.assign(0, 1)
    assert offsets(await world.read()) == [(0, 0), (1, 0)]
    before = world.member.needs_replacement
    batch = await world.read()
    assert offsets(batch) == [(0, 1)]
    assert batch[0].record == Record(b"", b"", ())
    assert (before, world.member.needs_replacement) == (False, True)
    await world.member.leave()


async def test_keep_alive_while_the_consumer_is_busy_moves_no_offset_and_refreshes_the_lag(world: World) -> None:
    world.broker.append(0, 2)
    await world.member.join()
    await world.client.assign(0)
    batch = await world.read()
    world.broker.append(0, 3)
    async with asyncio.timeout(5):
        while world.client.kept_alive < 2:
            world.now_s += 1
            await asyncio.sleep(0.01)
    (lag,) = world.member.lag()
    assert (lag.partition, lag.messages, lag.seconds) == (0, 5, 100.0)
    await world.member.commit([batch[-1].position])
    assert world.broker.committed == {0: 2}
    assert offsets(await world.read()) == [(0, 2), (0, 3), (0, 4)]


async def test_consumer_that_is_busy_for_too_long_is_not_kept_alive(world: World) -> None:
    await world.begin(0)
    world.now_s += LIMITS.busy_max_s + 1
    await world.keep_alive_rounds(4)
    assert world.client.kept_alive == 0


async def test_failed_keep_alive_is_raised_by_the_next_poll(world: World) -> None:
    await world.begin(0)
    world.client.errors.append(GroupAuthorizationFailedError("g"))
    world.now_s += 1
    await until(lambda: not world.client.errors)
    with pytest.raises(ClientFailed, match="GroupAuthorizationFailedError"):
        await world.member.poll(500)


async def test_is_behind_only_if_the_log_has_records_that_were_not_fetched(world: World) -> None:
    await world.begin(0)
    assert await world.member.is_behind() is False
    world.broker.append(0)
    assert await world.member.is_behind() is True
    await world.read()
    assert await world.member.is_behind() is False
    world.broker.silent = KafkaConnectionError()
    assert await world.member.is_behind() is None


async def test_lag_is_empty_before_the_start_offsets_are_known_and_during_a_rebalance(world: World) -> None:
    world.broker.append(0, 2)
    await world.member.join()
    assert world.member.lag() == []
    await world.client.assign(0)
    assert world.member.lag() == []
    await world.read()
    assert [each.messages for each in world.member.lag()] == [2]
    await world.client.revoke()
    assert world.member.lag() == []


async def test_leave_closes_the_client_and_ends_all_tasks(world: World) -> None:
    before = asyncio.all_tasks()
    await world.begin(0)
    await world.hold_a_fetch()
    await world.member.leave()
    assert world.client.stopped
    assert asyncio.all_tasks() == before
