"""The order events from the topic itself: from the ends of its partitions at a run's start to those at its end.

No group and no offsets of ours: a reader that left traces would disturb the consumers it stands beside. What was there
before the mark is not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from deploy.cluster import kafka_admin
from deploy.cluster.strength import NotSeen
from deploy.load import api
from deploy.load.api import Unreadable
from deploy.load.verdict import Event

_POLL_MS = 200
_START_S = 15.0
_RECORDS_MAX = 5000

Mark = Mapping[int, int]  # partition → the offset of the next record


async def mark(servers: str, topic: str) -> Mark:
    """Where the topic's partitions end now.

    Raises:
        Unreadable: the brokers do not answer, or there is no such topic.
    """
    async with _consumer(servers) as consumer:
        partitions = await _partitions(servers, topic)
        ends = await consumer.end_offsets(partitions)
        return {partition.partition: ends[partition] for partition in partitions}


@asynccontextmanager
async def feed(servers: str, topic: str, begin: Mark) -> AsyncIterator[TopicFeed]:
    """The topic's events from the mark on.

    Raises:
        Unreadable: as above, and where records since the mark are gone.
    """
    async with _consumer(servers) as consumer:
        partitions = await _partitions(servers, topic)
        consumer.assign(partitions)
        for partition in partitions:
            # A partition that was added meanwhile has nothing older than the run.
            consumer.seek(partition, begin.get(partition.partition, 0))
        yield TopicFeed(consumer)


class TopicFeed:
    """Reads on from where it stopped."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    async def read(self) -> list[tuple[Event, bytes]]:
        """What has come since the last reading, in order within each partition."""
        batches = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=_RECORDS_MAX)
        values = (record.value or b"" for records in batches.values() for record in records)
        return [(api.event_of(value), value) for value in values]


@asynccontextmanager
async def _consumer(servers: str) -> AsyncIterator[Any]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers,
        client_id="alipay-notify-load",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",  # what is gone must be a failure, and not be stepped over
    )
    try:
        async with asyncio.timeout(_START_S):
            await consumer.start()
        yield consumer
    except (KafkaError, TimeoutError, OSError) as error:
        raise Unreadable(
            f"the events cannot be read from Kafka at {servers}: {error or type(error).__name__}"
        ) from error
    finally:
        await consumer.stop()


async def _partitions(servers: str, topic: str) -> list[TopicPartition]:
    try:
        found = (await kafka_admin.look({"bootstrap_servers": servers}, [topic])).get(topic)
    except NotSeen as error:
        raise Unreadable(f"the events cannot be read from Kafka at {servers}: {error}") from error
    if found is None:
        raise Unreadable(f"there is no topic {topic} at {servers}; --topic NAME says which has the order events")
    return [TopicPartition(topic, partition) for partition in range(found.partitions)]
