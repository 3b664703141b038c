"""Faults of a worker's event topics, on a real broker: every event arrives in order, and none blocks the others."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import NewTopic
from aiokafka.structs import TopicPartition

from deploy.local.kafka.cluster import Kafka
from schemas import topics
from schemas.events import Outgoing
from tests.support.kafka_topics import admin
from workers.errors import EventRefused, InfrastructureDown
from workers.kafka import clients
from workers.kafka.events import KafkaEvents

BACK_S = 45.0
PARTITIONS = 3


class Topics:
    """The three topics under a prefix of the test's own."""

    def __init__(self, bootstrap: str) -> None:
        self.connection = {"bootstrap_servers": bootstrap}
        self._prefix = f"t{secrets.token_hex(6)}"
        self.events = KafkaEvents(lambda: clients.producer(self.connection), named=self.named)

    def named(self, topic: str) -> str:
        return topics.named(topic, self._prefix)

    async def make(self, *names: str, **settings: str) -> None:
        configs = {name.replace("_", "."): value for name, value in settings.items()}
        async with admin(self.connection) as asked:
            new = [NewTopic(self.named(name), PARTITIONS, 1, topic_configs=configs) for name in names]
            await asked.create_topics(new)

    async def read(self, topic: str) -> list[Any]:
        """All that the topic holds, partition by partition."""
        reader = AIOKafkaConsumer(**self.connection, auto_offset_reset="earliest")
        await reader.start()
        try:
            places = [TopicPartition(self.named(topic), each) for each in range(PARTITIONS)]
            reader.assign(places)
            ends = await reader.end_offsets(places)
            found: list[Any] = []
            async with asyncio.timeout(10):
                while len(found) < sum(ends.values()):
                    for records in (await reader.getmany(timeout_ms=200)).values():
                        found += records
            return found
        finally:
            await reader.stop()


@pytest.fixture
async def three(kafka: str) -> AsyncIterator[Topics]:
    three = Topics(kafka)
    yield three
    await three.events.stop()


def event(order: str, version: int, *, padding: int = 0, topic: str = topics.ORDER_EVENT) -> Outgoing:
    return Outgoing(
        id=f"shop:{order}:{version}",
        topic=topic,
        key=f"shop:{order}".encode(),
        value=b'{"version":%d,"padding":"%s"}' % (version, secrets.token_hex(padding // 2).encode()),
        headers=(("content-type", b"application/json"), ("ce_id", f"shop:{order}:{version}".encode())),
    )


def ids(records: list[Any], key: bytes | None = None) -> list[str]:
    return [dict(each.headers)["ce_id"].decode() for each in records if key in (None, each.key)]


async def publish(three: Topics, sent: Outgoing, *, within_s: float) -> None:
    """Again and again, as the relay does."""
    async with asyncio.timeout(within_s):
        while True:
            try:
                return await three.events.publish([sent])
            except InfrastructureDown:
                await asyncio.sleep(0.2)


async def test_events_arrive_in_version_order_and_the_state_topic_has_the_last(three: Topics) -> None:
    await three.make(topics.ORDER_EVENT, topics.ORDER_STATE, topics.HELD)
    sent = [event(f"N{order}", version, padding=2000) for version in (1, 2, 3) for order in range(200)]
    notices = [event("N1", 1, topic=topics.HELD)]
    await three.events.publish([*sent, *notices])
    assert three.events.trouble is None

    events = await three.read(topics.ORDER_EVENT)
    assert sorted(ids(events)) == sorted(each.id for each in sent)
    for order in range(200):
        assert ids(events, b"shop:N%d" % order) == [f"shop:N{order}:{version}" for version in (1, 2, 3)]
    assert {(each.key, each.value, each.headers) for each in events} == {(e.key, e.value, e.headers) for e in sent}
    assert sorted(ids(await three.read(topics.ORDER_STATE))) == sorted(f"shop:N{order}:3" for order in range(200))
    assert ids(await three.read(topics.HELD)) == ["shop:N1:1"]


async def test_nothing_is_sent_while_one_topic_is_missing(three: Topics) -> None:
    await three.make(topics.ORDER_EVENT, topics.HELD)
    for _ in range(2):
        with pytest.raises(InfrastructureDown):
            await three.events.publish([event("N1", 1)])
    assert three.events.trouble is not None
    await three.make(topics.ORDER_STATE)
    await publish(three, event("N1", 1), within_s=30)
    assert ids(await three.read(topics.ORDER_EVENT)) == ["shop:N1:1"]


async def test_oversized_event_blocks_its_order_and_no_other(three: Topics) -> None:
    await three.make(topics.ORDER_EVENT, topics.ORDER_STATE, topics.HELD, max_message_bytes="8000")
    sent = [
        *(event(f"N{order}", 1, padding=1000) for order in range(20)),
        event("N5", 2, padding=40_000),
        event("N5", 3),
        event("N6", 2),
    ]
    with pytest.raises(EventRefused, match="shop:N5:2") as refused:
        await three.events.publish(sent)
    assert [sent[place].id for place in refused.value.acknowledged] == [
        each.id for each in sent if each.id not in ("shop:N5:2", "shop:N5:3")
    ]
    assert sorted(ids(await three.read(topics.ORDER_EVENT))) == sorted(
        sent[place].id for place in refused.value.acknowledged
    )
    await three.events.publish([event("N7", 2)])


async def test_killed_broker_that_returns_is_used_again(three: Topics, local_kafka: Kafka) -> None:
    if not local_kafka.brokers:
        pytest.skip("NOT TESTED: the broker is not ours to kill")
    broker = local_kafka.brokers[0].process
    await three.make(topics.ORDER_EVENT, topics.ORDER_STATE, topics.HELD)
    await three.events.publish([event("N1", 1)])
    await broker.kill()
    with pytest.raises(InfrastructureDown):
        await three.events.publish([event("N1", 2)])
    await broker.start()
    await local_kafka.ready()
    await publish(three, event("N1", 2), within_s=BACK_S)
    versions = ids(await three.read(topics.ORDER_EVENT))
    assert list(dict.fromkeys(versions)) == ["shop:N1:1", "shop:N1:2"]
