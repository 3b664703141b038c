"""The lag of a member's partitions, and whether the log has records that were not fetched."""

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import TopicPartition

from tests.support.kafka_clients import TOPIC, Broker, FakeConsumer
from workers.kafka.lag import Lag, LagTracker


class Client(FakeConsumer):
    """A consumer with high watermarks that the test sets, and that can leave requests unanswered."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self.highwaters: dict[int, int] = {}
        self.never_answers = False

    def highwater(self, partition: TopicPartition) -> int | None:
        return self.highwaters.get(partition.partition)

    async def end_offsets(self, partitions: object) -> dict[TopicPartition, int]:
        if self.never_answers:
            await asyncio.Event().wait()
        return {**await super().end_offsets(partitions)}  # type: ignore[arg-type]


class World:
    """A tracker at Unix time 1000, which the test moves."""

    def __init__(self) -> None:
        self.broker = Broker()
        self.client = Client(self.broker)
        self.clock_s = 1000.0
        self.tracker = LagTracker(self.client, topic=TOPIC, ask_s=0.05, clock_s=lambda: self.clock_s)


@pytest.fixture
def world() -> World:
    world = World()
    world.tracker.restart(committed={0: 5, 1: 0}, ends={0: 5, 1: 0})
    return world


def test_partition_whose_records_are_all_committed_has_no_lag(world: World) -> None:
    assert world.tracker.lag(0) == Lag(partition=0, messages=0, seconds=0.0)


def test_lag_counts_from_the_committed_offset_to_the_later_of_highwater_and_end(world: World) -> None:
    world.client.highwaters[0] = 8
    assert world.tracker.lag(0).messages == 3
    world.tracker.restart(committed={0: 5}, ends={0: 12})
    assert world.tracker.lag(0).messages == 7


def test_age_counts_from_the_first_fetched_record_that_is_not_committed(world: World) -> None:
    world.client.highwaters[0] = 8
    world.tracker.fetched(0, written_s=940.0)
    world.tracker.fetched(0, written_s=970.0)
    assert world.tracker.lag(0).seconds == 60.0


def test_age_of_records_that_are_not_fetched_counts_from_when_they_were_seen(world: World) -> None:
    world.client.highwaters[0] = 8
    assert world.tracker.lag(0).seconds == 0.0
    world.clock_s += 30
    assert world.tracker.lag(0).seconds == 30.0


def test_record_written_by_a_faster_clock_has_age_zero(world: World) -> None:
    world.client.highwaters[0] = 8
    world.tracker.fetched(0, written_s=2000.0)
    assert world.tracker.lag(0).seconds == 0.0


def test_commit_lowers_the_lag_and_restarts_the_age(world: World) -> None:
    world.client.highwaters[0] = 8
    world.tracker.fetched(0, written_s=940.0)
    world.tracker.committed(0, 7)
    assert world.tracker.lag(0) == Lag(partition=0, messages=1, seconds=0.0)
    world.clock_s += 10
    assert world.tracker.lag(0).seconds == 10.0


def test_age_starts_anew_after_the_lag_was_zero(world: World) -> None:
    world.tracker.fetched(0, written_s=940.0)
    assert world.tracker.lag(0).messages == 0
    world.client.highwaters[0] = 8
    assert world.tracker.lag(0) == Lag(partition=0, messages=3, seconds=0.0)


def test_restart_forgets_the_ages_of_the_epoch_before(world: World) -> None:
    world.tracker.fetched(0, written_s=940.0)
    world.tracker.restart(committed={0: 5}, ends={0: 6})
    assert world.tracker.lag(0) == Lag(partition=0, messages=1, seconds=0.0)


async def test_refreshed_end_offsets_show_records_that_were_not_fetched(world: World) -> None:
    next_offsets = {0: 5, 1: 0}
    assert not world.tracker.has_unread(next_offsets)
    world.broker.append(0, 8)
    assert await world.tracker.refresh_ends([0, 1])
    assert world.tracker.has_unread(next_offsets)
    assert not world.tracker.has_unread({0: 8, 1: 0})
    assert world.tracker.lag(0).messages == 3


async def test_refresh_without_partitions_makes_no_request(world: World) -> None:
    world.broker.silent = KafkaConnectionError()
    assert await world.tracker.refresh_ends([])


@pytest.mark.parametrize("error", [KafkaConnectionError(), OSError("no route")])
async def test_failed_refresh_keeps_the_end_offsets_of_before(world: World, error: Exception) -> None:
    world.tracker.restart(committed={0: 5}, ends={0: 6})
    world.broker.silent = error
    assert not await world.tracker.refresh_ends([0])
    assert world.tracker.lag(0).messages == 1


async def test_refresh_without_an_answer_ends_after_the_limit(world: World) -> None:
    world.client.never_answers = True
    async with asyncio.timeout(5):
        assert not await world.tracker.refresh_ends([0])
