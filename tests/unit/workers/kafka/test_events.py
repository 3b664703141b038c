"""Publishing events over a producer in memory: order, the state topic, refused events, discarded producers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from msgspec import Struct

from schemas import topics
from schemas.events import Outgoing
from tests.support.waiting import until
from workers.errors import EventRefused, InfrastructureDown
from workers.kafka.events import KafkaEvents

BATCH_RECORDS = 10
LARGE = b"large"  # no broker accepts a value that contains it


class Sent(Struct, frozen=True):
    """A record that has arrived in a topic."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class Cluster:
    """The records that arrived from all producers."""

    def __init__(self) -> None:
        self.arrived: list[Sent] = []
        self.counts = dict.fromkeys(topics.ALL, 4)
        self.errors: dict[str, list[Exception]] = {}  # of the next sends to a topic
        self.batches = 0
        self.batch_bytes_max = 1_000_000  # the largest batch that a topic accepts
        self.holds: asyncio.Event | None = None

    def ids(self, topic: str) -> list[bytes]:
        return [dict(each.headers)["ce_id"] for each in self.arrived if each.topic == topic]


class FakeBatch:
    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes, tuple[tuple[str, bytes], ...]]] = []
        self.closed = False

    def append(
        self, *, timestamp: int | None, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]
    ) -> object | None:
        assert not self.closed
        if not isinstance(headers, list):
            raise TypeError("headers are a list")
        if value == b"misshapen":
            raise ValueError("misshapen")
        if len(self.records) == BATCH_RECORDS:
            return None
        self.records.append((key, value, tuple(headers)))
        return self

    def close(self) -> None:
        self.closed = True


class FakeConnections:
    """The connections of a producer, which a forced stop closes."""

    def __init__(self) -> None:
        self.closed = False

    async def close(self) -> None:
        await asyncio.sleep(0.01)
        self.closed = True


class FakeProducer:
    """One producer. Like aiokafka's, its `stop` waits until the records that it holds are sent."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.client = FakeConnections()
        self.started = self.stopped = False
        self.sending: set[tuple[str, int]] = set()

    @property
    def is_gone(self) -> bool:
        return self.stopped or self.client.closed

    async def start(self) -> None:
        if (errors := self._cluster.errors.get("start")) is not None and errors:
            raise errors.pop(0)
        self.started = True

    async def stop(self) -> None:
        while self.sending:  # noqa: ASYNC110 - as aiokafka polls
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        self.stopped = True

    async def partitions_for(self, topic: str) -> set[int]:
        if topic not in self._cluster.counts:
            raise UnknownTopicOrPartitionError
        return {*range(self._cluster.counts[topic])}

    def create_batch(self) -> FakeBatch:
        return FakeBatch()

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> "asyncio.Task[None]":
        assert batch.closed, "aiokafka would add records of other senders to it"
        assert self.started
        assert not self.is_gone
        return asyncio.create_task(self._arrive(batch, topic, partition))

    async def _arrive(self, batch: FakeBatch, topic: str, partition: int) -> None:
        assert (topic, partition) not in self.sending, "a partition has one batch at a time"
        self.sending.add((topic, partition))
        if self._cluster.holds is not None:
            await self._cluster.holds.wait()
        await asyncio.sleep(0)
        self.sending.remove((topic, partition))
        if errors := self._cluster.errors.get(topic):
            raise errors.pop(0)
        size = sum(len(value) for _, value, _ in batch.records)
        if size > self._cluster.batch_bytes_max or any(LARGE in value for _, value, _ in batch.records):
            raise MessageSizeTooLargeError
        self._cluster.batches += 1
        self._cluster.arrived += [Sent(topic, partition, *each) for each in batch.records]


class World:
    def __init__(self) -> None:
        self.cluster = Cluster()
        self.producers: list[FakeProducer] = []
        self.events = KafkaEvents(self._build, publish_s=5)

    def _build(self) -> FakeProducer:
        assert all(each.is_gone for each in self.producers), "a producer that still sends would send old versions late"
        self.producers.append(FakeProducer(self.cluster))
        return self.producers[-1]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.events.stop()
    assert all(each.is_gone for each in world.producers)


def event(order: str, version: int = 1, value: bytes = b"{}", topic: str = topics.ORDER_EVENT) -> Outgoing:
    id_ = f"{order}:{version}"
    return Outgoing(id=id_, topic=topic, key=order.encode(), value=value, headers=(("ce_id", id_.encode()),))


async def test_event_goes_to_event_topic_and_state_topic_with_the_same_bytes(world: World) -> None:
    await world.events.publish([event("N1", value=b'{"a":1}')])
    state, sent = world.cluster.arrived
    assert (state.topic, sent.topic) == (topics.ORDER_STATE, topics.ORDER_EVENT)
    assert (state.key, state.value, state.headers) == (sent.key, sent.value, sent.headers)
    assert (sent.key, sent.value, sent.headers) == (b"N1", b'{"a":1}', (("ce_id", b"N1:1"),))


@pytest.mark.parametrize("topic", [topics.HELD, topics.NOTED])
async def test_notice_goes_to_its_own_topic_only(world: World, topic: str) -> None:
    await world.events.publish([event("N1", topic=topic)])
    assert [each.topic for each in world.cluster.arrived] == [topic]


async def test_resent_state_goes_to_the_state_topic_only(world: World) -> None:
    await world.events.publish([event("N1", topic=topics.ORDER_STATE), event("N2")])
    assert world.cluster.ids(topics.ORDER_STATE) == [b"N1:1", b"N2:1"]
    assert world.cluster.ids(topics.ORDER_EVENT) == [b"N2:1"]


async def test_refused_state_is_reported_and_all_other_events_are_acknowledged(world: World) -> None:
    sent = [event("N1", topic=topics.ORDER_STATE, value=LARGE), event("N2", topic=topics.ORDER_STATE), event("N3")]
    with pytest.raises(EventRefused) as refused:
        await world.events.publish(sent)
    assert refused.value.acknowledged == (1, 2)


async def test_topics_have_the_prefix_of_the_cluster() -> None:
    world = World()
    world.events = KafkaEvents(world._build, named=lambda topic: topics.named(topic, "shop"))
    world.cluster.counts = {topics.named(topic, "shop"): 4 for topic in topics.ALL}
    await world.events.publish([event("N1"), event("N1", topic=topics.HELD)])
    assert {each.topic.split(".")[0] for each in world.cluster.arrived} == {"shop"}
    await world.events.stop()


async def test_partition_of_a_key_follows_the_partitioner_of_the_clients(world: World) -> None:
    world.cluster.counts[topics.ORDER_STATE] = 7
    await world.events.publish([event(f"N{number}") for number in range(40)])
    for sent in world.cluster.arrived:
        assert sent.partition == topics.partition_of(sent.key, world.cluster.counts[sent.topic])


async def test_versions_stay_in_order_over_batches_and_the_state_topic_gets_the_last(world: World) -> None:
    sent = [event(f"N{order}", version) for version in range(1, 8) for order in range(20)]
    await world.events.publish(sent)
    for order in range(20):
        own = [id_ for id_ in world.cluster.ids(topics.ORDER_EVENT) if id_.startswith(b"N%d:" % order)]
        assert own == [b"N%d:%d" % (order, version) for version in range(1, 8)]
    assert sorted(world.cluster.ids(topics.ORDER_STATE)) == sorted(b"N%d:7" % order for order in range(20))
    assert world.cluster.batches < 40


async def test_publish_without_events_builds_no_producer(world: World) -> None:
    await world.events.publish([])
    assert world.producers == []


async def test_missing_topic_prevents_all_sends(world: World) -> None:
    del world.cluster.counts[topics.ORDER_STATE]
    with pytest.raises(InfrastructureDown, match="UnknownTopicOrPartition"):
        await world.events.publish([event("N1"), event("N2", topic=topics.HELD)])
    assert world.cluster.arrived == []


@pytest.mark.parametrize(
    "error", [KafkaTimeoutError(), KafkaConnectionError(), TopicAuthorizationFailedError(), OSError("no route")]
)
async def test_after_a_failure_a_new_producer_sends_all_events_again(world: World, error: Exception) -> None:
    await world.events.publish([event("N0")])
    world.cluster.errors[topics.ORDER_EVENT] = [error]
    with pytest.raises(InfrastructureDown, match=type(error).__name__):
        await world.events.publish([event("N1"), event("N2")])
    assert type(error).__name__ in (world.events.trouble or "")
    await world.events.publish([event("N1"), event("N2")])
    assert not world.events.trouble
    assert {*world.cluster.ids(topics.ORDER_EVENT)} == {b"N0:1", b"N1:1", b"N2:1"}
    assert len(world.producers) == 2


async def test_failed_publish_to_state_topic_keeps_events_in_outbox(world: World) -> None:
    world.cluster.errors[topics.ORDER_STATE] = [KafkaTimeoutError()]
    with pytest.raises(InfrastructureDown):
        await world.events.publish([event("N1")])
    assert world.cluster.ids(topics.ORDER_EVENT) == []


async def test_unreachable_brokers_at_the_start_are_tried_again(world: World) -> None:
    world.cluster.errors["start"] = [KafkaConnectionError("connection refused")]
    with pytest.raises(InfrastructureDown, match="connection refused"):
        await world.events.publish([event("N1")])
    await world.events.publish([event("N1")])
    assert len(world.producers) == 2


async def test_missing_acknowledgement_fails_the_publish_after_its_deadline() -> None:
    world = World()
    world.events = KafkaEvents(world._build, publish_s=0.05)
    world.cluster.holds = asyncio.Event()
    with pytest.raises(InfrastructureDown, match="TimeoutError"):
        await world.events.publish([event("N1")])
    world.cluster.holds.set()
    world.cluster.holds = None
    await world.events.publish([event("N1")])
    assert len(world.producers) == 2
    await world.events.stop()


async def test_records_of_a_failed_publish_are_not_sent_during_the_next() -> None:
    world = World()
    world.events = KafkaEvents(world._build, publish_s=0.05)
    world.cluster.holds = asyncio.Event()
    with pytest.raises(InfrastructureDown):
        await world.events.publish([event("N1", 1)])
    world.cluster.holds = None
    await world.events.publish([event("N1", 2)])
    given_up, _ = world.producers
    assert given_up.client.closed
    assert not given_up.stopped, "its stop would have waited until its records were sent"
    await world.events.stop()


async def test_cancelled_publish_discards_its_producer(world: World) -> None:
    world.cluster.holds = asyncio.Event()
    publishing = asyncio.create_task(world.events.publish([event("N1")]))
    await until(lambda: world.producers and world.producers[0].sending)
    publishing.cancel()
    await asyncio.wait({publishing})
    assert publishing.cancelled()
    world.cluster.holds.set()
    world.cluster.holds = None
    await world.events.publish([event("N2")])
    assert len(world.producers) == 2


async def test_concurrent_publishes_run_one_after_the_other(world: World) -> None:
    await asyncio.gather(
        world.events.publish([event("N1", version) for version in (1, 2)]),
        world.events.publish([event("N1", version) for version in (3, 4)]),
    )
    assert world.cluster.ids(topics.ORDER_EVENT) == [b"N1:1", b"N1:2", b"N1:3", b"N1:4"]


async def test_batch_that_is_too_large_for_the_topic_is_split(world: World) -> None:
    world.cluster.batch_bytes_max = 30
    sent = [event("N1", version, b"x" * 9) for version in range(1, 11)]
    await world.events.publish(sent)
    assert world.cluster.ids(topics.ORDER_EVENT) == [b"N1:%d" % version for version in range(1, 11)]
    assert world.events.trouble is None


@pytest.mark.parametrize("value", [LARGE, b"misshapen"])
async def test_refused_event_blocks_later_events_of_its_key_and_no_others(world: World, value: bytes) -> None:
    sent = [
        *(event(f"N{number}") for number in range(30)),
        event("N5", 2, value),
        event("N5", 3),
        event("N6", 2),
        event("N5", topic=topics.HELD),
    ]
    for _ in range(2):
        with pytest.raises(EventRefused, match=r"never take 1 of the events.*'N5:2'") as refused:
            await world.events.publish(sent)
        assert [sent[index].id for index in refused.value.acknowledged] == [
            each.id for each in sent if each.id not in ("N5:2", "N5:3")
        ]
    assert sorted({*world.cluster.ids(topics.ORDER_EVENT)}) == sorted(
        {each.id.encode() for each in sent if each.id not in ("N5:2", "N5:3") and each.topic == topics.ORDER_EVENT}
    )
    assert len(world.producers) == 1, "a refused event does not replace the producer"
    assert world.events.trouble is not None
    await world.events.publish([event("N7", 2)])
    assert world.events.trouble is None


async def test_refused_event_blocks_later_events_in_the_next_batch(world: World) -> None:
    sent = [event("N1", version, LARGE if version == BATCH_RECORDS else b"{}") for version in range(1, 16)]
    with pytest.raises(EventRefused) as refused:
        await world.events.publish(sent)
    assert refused.value.acknowledged == tuple(range(BATCH_RECORDS - 1))


async def test_event_that_the_state_topic_refuses_is_not_sent_to_the_event_topic(world: World) -> None:
    sent = [event("N5", 1), event("N5", 2, LARGE), event("N6", 1)]
    with pytest.raises(EventRefused) as refused:
        await world.events.publish(sent)
    assert refused.value.acknowledged == (2,)
    assert world.cluster.ids(topics.ORDER_EVENT) == [b"N6:1"]
