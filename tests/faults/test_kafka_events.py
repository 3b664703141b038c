"""Faults of a worker's event topics, on a real broker: every event arrives in order, and none blocks the others."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import NewTopic
from aiokafka.structs import TopicPartition

from deploy.local.kafka.cluster import Kafka
from schemas import event_names, topics
from schemas.events import Outgoing
from tests.support.cluster import until
from tests.support.kafka_topics import admin
from workers.errors import InfrastructureDown
from workers.kafka import clients
from workers.kafka.events import LOOK_UP_S, KafkaEvents

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
            with suppress(InfrastructureDown):
                if (await three.events.publish([sent])).acknowledged:
                    return
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
    assert {(each.key, each.value, each.headers) for each in events} == {
        (e.key, e.value, e.headers) for e in map(event_names.LOGICAL.of, sent)
    }
    assert sorted(ids(await three.read(topics.ORDER_STATE))) == sorted(f"shop:N{order}:3" for order in range(200))
    assert ids(await three.read(topics.HELD)) == ["shop:N1:1"]


async def test_order_events_wait_for_both_of_their_topics(three: Topics) -> None:
    await three.make(topics.ORDER_EVENT, topics.HELD)
    for _ in range(2):
        published = await three.events.publish([event("N1", 1), event("N1", 1, topic=topics.HELD)])
        assert published.acknowledged == [1]
    assert three.named(topics.ORDER_STATE) in (three.events.trouble or "")
    assert ids(await three.read(topics.ORDER_EVENT)) == []
    await three.make(topics.ORDER_STATE)
    await publish(three, event("N1", 1), within_s=30)
    assert ids(await three.read(topics.ORDER_EVENT)) == ["shop:N1:1"]


async def test_missing_topic_of_notices_holds_nothing_else_up(three: Topics) -> None:
    await three.make(topics.ORDER_EVENT, topics.ORDER_STATE, topics.HELD)
    notices = [event("N1", 1, topic=topics.HELD), event("N1", 1, topic=topics.NOTED)]
    published = await three.events.publish([*notices, event("N1", 1)])
    assert published.acknowledged == [0, 2]
    assert three.named(topics.NOTED) in (three.events.trouble or "")
    for version in range(2, 12):
        began = time.monotonic()
        sent = [event("N1", version), event("N1", version, topic=topics.NOTED)]
        assert (await three.events.publish(sent)).acknowledged == [0]
        assert time.monotonic() - began < LOOK_UP_S, "it waits for the missing topic only the first time"
        await asyncio.sleep(0.2)
    await three.make(topics.NOTED)
    await publish(three, event("N2", 1, topic=topics.NOTED), within_s=30)
    assert three.events.trouble is None


async def test_topic_that_is_deleted_and_made_again_holds_nothing_else_up(three: Topics) -> None:
    await three.make(topics.ORDER_EVENT, topics.ORDER_STATE, topics.HELD)
    await three.events.publish([event("N1", 1), event("N1", 1, topic=topics.HELD)])
    async with admin(three.connection) as asked:
        await asked.delete_topics([three.named(topics.HELD)])
    for version in range(2, 8):
        sent = [event("N1", version, topic=topics.HELD), event("N1", version)]
        assert 1 in (await three.events.publish(sent)).acknowledged
        await asyncio.sleep(0.5)
    await until(lambda: is_gone(three, topics.HELD), 30, every_s=0.2)
    await three.make(topics.HELD)
    await publish(three, event("N9", 1, topic=topics.HELD), within_s=30)
    versions = ids(await three.read(topics.ORDER_EVENT), b"shop:N1")
    assert list(dict.fromkeys(versions)) == [f"shop:N1:{version}" for version in range(1, 8)]


async def is_gone(three: Topics, topic: str) -> bool:
    async with admin(three.connection) as asked:
        return three.named(topic) not in await asked.list_topics()


async def test_oversized_event_blocks_its_order_and_no_other(three: Topics) -> None:
    await three.make(topics.ORDER_EVENT, topics.ORDER_STATE, topics.HELD, max_message_bytes="8000")
    sent = [
        *(event(f"N{order}", 1, padding=1000) for order in range(20)),
        event("N5", 2, padding=40_000),
        event("N5", 3),
        event("N6", 2),
    ]
    published = await three.events.publish(sent)
    assert "shop:N5:2" in published.trouble
    assert [sent[place].id for place in published.refused] == ["shop:N5:2"]
    arrived = [sent[place].id for place in published.acknowledged]
    assert arrived == [each.id for each in sent if each.id not in ("shop:N5:2", "shop:N5:3")]
    assert sorted(ids(await three.read(topics.ORDER_EVENT))) == sorted(arrived)
    await three.events.publish([event("N7", 2)])


async def test_killed_broker_that_returns_is_used_again(three: Topics, local_kafka: Kafka) -> None:
    if not local_kafka.brokers:
        pytest.skip("NOT TESTED: the broker is not ours to kill")
    broker = local_kafka.brokers[0].process
    await three.make(topics.ORDER_EVENT, topics.ORDER_STATE, topics.HELD)
    await three.events.publish([event("N1", 1)])
    await broker.kill()
    assert (await three.events.publish([event("N1", 2)])).acknowledged == []
    with pytest.raises(InfrastructureDown):
        await three.events.publish([event("N1", 2)])
    await broker.start()
    await local_kafka.ready()
    await publish(three, event("N1", 2), within_s=BACK_S)
    versions = ids(await three.read(topics.ORDER_EVENT))
    assert list(dict.fromkeys(versions)) == ["shop:N1:1", "shop:N1:2"]
