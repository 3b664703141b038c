"""Publishing events over a producer in memory: order, the state topic, refused events, discarded producers."""

import asyncio
import re
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
from schemas.event_names import SCHEMA_BASE, EventNames
from schemas.events import Outgoing
from tests.support.waiting import until
from workers.errors import InfrastructureDown
from workers.kafka.destinations import FORGOTTEN_AFTER_S, PAUSE_MAX_S, Destinations
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
        self.built = 0  # batches that a producer was asked for
        self.looked_up: list[str] = []
        self.denied: dict[str, Exception] = {}
        self.silent: set[str] = set()  # topics whose look-up never ends
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
        self._cluster.looked_up.append(topic)
        if topic in self._cluster.silent:
            await asyncio.Event().wait()
        if error := self._cluster.denied.get(topic):
            raise error
        if topic not in self._cluster.counts:
            raise UnknownTopicOrPartitionError
        return {*range(self._cluster.counts[topic])}

    def create_batch(self) -> FakeBatch:
        self._cluster.built += 1
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
        self.now_s = 1000.0
        self.events = self.build()

    def build(self, *, publish_s: float = 5, look_up_s: float = 5) -> KafkaEvents:
        return KafkaEvents(
            self._build,
            publish_s=publish_s,
            look_up_s=look_up_s,
            destinations=Destinations(lambda: self.now_s),
        )

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
    schema = ("ce_dataschema", f"{SCHEMA_BASE}order_event.v1.json".encode())
    assert (sent.key, sent.value, sent.headers) == (b"N1", b'{"a":1}', (("ce_id", b"N1:1"), schema))


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
    published = await world.events.publish(sent)
    assert (published.acknowledged, published.refused) == ([1, 2], [0])


async def test_topics_and_events_have_the_names_of_the_deployment() -> None:
    world = World()
    names = EventNames(type_prefix="com.example.pay", schema_base="https://example.com/")
    world.events = KafkaEvents(world._build, named=lambda topic: topics.named(topic, "shop"), names=names)
    world.cluster.counts = {topics.named(topic, "shop"): 4 for topic in topics.ALL}
    await world.events.publish([event("N1"), event("N1", topic=topics.HELD)])
    assert {each.topic.split(".")[0] for each in world.cluster.arrived} == {"shop"}
    schemas = {dict(each.headers)["ce_dataschema"] for each in world.cluster.arrived}
    assert schemas == {b"https://example.com/order_event.v1.json", b"https://example.com/held_notice.v1.json"}
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


async def test_both_topics_of_order_events_get_one_batch(world: World) -> None:
    sent = [event(f"A{number}") for number in range(40)]
    assert (await world.events.publish(sent)).acknowledged == [*range(40)]
    assert len(world.cluster.ids(topics.ORDER_STATE)) == len(world.cluster.ids(topics.ORDER_EVENT)) == 40
    assert world.cluster.built == world.cluster.batches / 2
    world.cluster.counts[topics.ORDER_EVENT] = 3
    await world.events.publish([event(f"B{number}") for number in range(40)])
    assert all(each.partition == topics.partition_of(each.key, 3) for each in world.cluster.arrived[-40:])


async def test_publish_without_events_builds_no_producer(world: World) -> None:
    await world.events.publish([])
    assert world.producers == []


@pytest.mark.parametrize("topic", [topics.HELD, topics.NOTED])
async def test_missing_topic_of_notices_delays_nothing_else(world: World, topic: str) -> None:
    del world.cluster.counts[topic]
    other = topics.HELD if topic == topics.NOTED else topics.NOTED
    sent = [event("N1", topic=topic), event("N2"), event("N3", topic=other)]
    published = await world.events.publish(sent)
    assert published.acknowledged == [1, 2]
    assert published.refused == []
    assert topic in published.trouble
    assert topic in (world.events.trouble or "")
    assert other not in (world.events.trouble or "")
    assert world.events.topics == {topic}
    assert world.events.holds(sent[0])
    assert not world.events.holds(sent[1])


@pytest.mark.parametrize("topic", [topics.ORDER_EVENT, topics.ORDER_STATE])
async def test_missing_topic_of_order_events_keeps_the_pair_together_and_lets_notices_pass(
    world: World, topic: str
) -> None:
    del world.cluster.counts[topic]
    sent = [event("N1"), event("N2", topic=topics.HELD), event("N3", topic=topics.ORDER_STATE)]
    published = await world.events.publish(sent)
    resent = [2] if topic == topics.ORDER_EVENT else []
    assert published.acknowledged == [1, *resent]
    assert [each.topic for each in world.cluster.arrived if each.key == b"N1"] == []
    assert topics.ORDER_EVENT in world.events.topics
    assert world.events.holds(sent[0])


async def test_topic_that_is_away_is_looked_up_again_after_a_pause(world: World) -> None:
    count = world.cluster.counts.pop(topics.HELD)
    notice = event("N1", topic=topics.HELD)
    for _ in range(6):
        assert (await world.events.publish([notice, event("N2")])).acknowledged == [1]
        assert (await world.events.publish([notice, event("N2")])).acknowledged == [1]
        world.now_s += PAUSE_MAX_S
    assert world.cluster.looked_up.count(topics.HELD) == 6
    world.cluster.counts[topics.HELD] = count
    assert (await world.events.publish([notice])).acknowledged == [0]
    assert world.events.trouble is None
    assert world.events.topics == frozenset()
    assert len(world.producers) == 1, "a missing topic does not replace the producer"


async def test_silent_look_up_is_waited_for_once_and_its_late_answer_is_heeded(world: World) -> None:
    world.events = world.build(look_up_s=0.2)
    world.cluster.silent.add(topics.HELD)
    notice = event("N1", topic=topics.HELD)
    assert (await world.events.publish([notice, event("N2")])).acknowledged == [1]
    assert "is the topic missing?" in (world.events.trouble or "")
    world.now_s += PAUSE_MAX_S
    world.cluster.silent.clear()
    assert (await world.events.publish([notice, event("N2")])).acknowledged == [0, 1]


async def test_denied_topic_is_named_and_delays_nothing_else(world: World) -> None:
    world.cluster.denied[topics.NOTED] = TopicAuthorizationFailedError(topics.NOTED)
    published = await world.events.publish([event("N1", topic=topics.NOTED), event("N2")])
    assert published.acknowledged == [1]
    assert "TopicAuthorizationFailedError" in (world.events.trouble or "")
    world.cluster.denied.clear()
    world.now_s += PAUSE_MAX_S
    assert (await world.events.publish([event("N1", topic=topics.NOTED)])).acknowledged == [0]


async def test_topic_that_denies_writing_is_left_alone_longer_each_time(world: World) -> None:
    notice, others = event("N1", topic=topics.NOTED), 0
    for _ in range(4):
        world.cluster.errors[topics.NOTED] = [TopicAuthorizationFailedError(topics.NOTED)]
        assert (await world.events.publish([notice, event("N2")])).acknowledged == [1]
        while world.events.holds(notice):
            world.now_s += 0.25
            others += 1
    assert others == 4 * (0.5 + 1 + 2 + 4)
    assert len(world.producers) == 1, "the brokers have written nothing, so nothing can arrive late"


async def test_partition_without_answer_keeps_its_own_events_only(world: World) -> None:
    sent = [event(f"N{number}") for number in range(40)]
    world.cluster.errors[topics.ORDER_EVENT] = [KafkaTimeoutError()]  # of one partition's batch
    published = await world.events.publish(sent)
    failed = {topics.partition_of(sent[index].key, 4) for index in range(40) if index not in published.acknowledged}
    assert len(failed) == 1
    assert [world.events.holds(each) for each in sent] == [topics.partition_of(each.key, 4) in failed for each in sent]
    assert world.events.topics == frozenset()
    world.now_s += PAUSE_MAX_S
    rest = [each for index, each in enumerate(sent) if index not in published.acknowledged]
    assert len((await world.events.publish(rest)).acknowledged) == len(rest)
    assert len(world.producers) == 2, "its records might arrive late"


async def test_trouble_of_a_topic_that_another_worker_serves_is_forgotten(world: World) -> None:
    world.cluster.errors[topics.HELD] = [KafkaTimeoutError()]
    await world.events.publish([event("N1", topic=topics.HELD)])
    assert world.events.trouble is not None
    world.now_s += FORGOTTEN_AFTER_S + PAUSE_MAX_S
    assert world.events.trouble is None


@pytest.mark.parametrize("error", [KafkaTimeoutError(), KafkaConnectionError(), OSError("no route")])
async def test_after_a_failure_a_new_producer_sends_all_events_again(world: World, error: Exception) -> None:
    await world.events.publish([event("N0")])
    world.cluster.counts = dict.fromkeys(topics.ALL, 1)
    world.cluster.errors[topics.ORDER_EVENT] = [error]
    published = await world.events.publish([event("N1"), event("N2")])
    assert (published.acknowledged, published.refused) == ([], [])
    assert type(error).__name__ in (world.events.trouble or "")
    world.now_s += PAUSE_MAX_S
    published = await world.events.publish([event("N1"), event("N2")])
    assert published.acknowledged == [0, 1]
    assert not world.events.trouble
    assert {*world.cluster.ids(topics.ORDER_EVENT)} == {b"N0:1", b"N1:1", b"N2:1"}
    assert len(world.producers) == 2


async def test_failed_publish_to_state_topic_keeps_events_in_outbox(world: World) -> None:
    world.cluster.errors[topics.ORDER_STATE] = [KafkaTimeoutError()]
    assert (await world.events.publish([event("N1", 1), event("N1", 2)])).acknowledged == []
    assert world.cluster.ids(topics.ORDER_EVENT) == []


async def test_unreachable_brokers_at_the_start_are_tried_again(world: World) -> None:
    world.cluster.errors["start"] = [KafkaConnectionError("connection refused")]
    with pytest.raises(InfrastructureDown, match="connection refused"):
        await world.events.publish([event("N1")])
    await world.events.publish([event("N1")])
    assert len(world.producers) == 2


async def test_missing_acknowledgement_fails_the_publish_after_its_deadline() -> None:
    world = World()
    world.events = world.build(publish_s=0.05)
    world.cluster.holds = asyncio.Event()
    assert (await world.events.publish([event("N1")])).acknowledged == []
    assert "no answer in time" in (world.events.trouble or "")
    world.cluster.holds.set()
    world.cluster.holds = None
    world.now_s += PAUSE_MAX_S
    assert (await world.events.publish([event("N1")])).acknowledged == [0]
    assert len(world.producers) == 2
    await world.events.stop()


async def test_records_of_a_failed_publish_are_not_sent_during_the_next() -> None:
    world = World()
    world.events = world.build(publish_s=0.05)
    world.cluster.holds = asyncio.Event()
    assert (await world.events.publish([event("N1", 1)])).acknowledged == []
    world.cluster.holds = None
    world.now_s += PAUSE_MAX_S
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
        published = await world.events.publish(sent)
        assert re.search(r"never take 1 of the events.*'N5:2'", published.trouble)
        assert [sent[index].id for index in published.refused] == ["N5:2"]
        assert [sent[index].id for index in published.acknowledged] == [
            each.id for each in sent if each.id not in ("N5:2", "N5:3")
        ]
    assert sorted({*world.cluster.ids(topics.ORDER_EVENT)}) == sorted(
        {each.id.encode() for each in sent if each.id not in ("N5:2", "N5:3") and each.topic == topics.ORDER_EVENT}
    )
    assert len(world.producers) == 1, "a refused event does not replace the producer"
    assert world.events.trouble is not None
    world.now_s += FORGOTTEN_AFTER_S
    assert world.events.trouble is None


async def test_refused_event_blocks_later_events_in_the_next_batch(world: World) -> None:
    sent = [event("N1", version, LARGE if version == BATCH_RECORDS else b"{}") for version in range(1, 16)]
    published = await world.events.publish(sent)
    assert published.acknowledged == list(range(BATCH_RECORDS - 1))
    assert published.refused == [BATCH_RECORDS - 1]


async def test_event_that_the_state_topic_refuses_is_not_sent_to_the_event_topic(world: World) -> None:
    sent = [event("N5", 1), event("N5", 2, LARGE), event("N6", 1)]
    published = await world.events.publish(sent)
    assert (published.acknowledged, published.refused) == ([2], [1])
    assert world.cluster.ids(topics.ORDER_EVENT) == [b"N6:1"]
