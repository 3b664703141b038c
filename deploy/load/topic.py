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
from deploy.cluster.topic_check import NotSeen
from deploy.load import api
from deploy.load.api import UnreadableAnswer
from deploy.load.judge import SeenEvent

_POLL_MS = 200
_START_S = 15.0
_RECORDS_MAX = 5000

Connection = Mapping[str, Any]
Mark = Mapping[int, int]  # partition → the offset of the next record


async def mark(connection: Connection, topic: str) -> Mark:
    """Where the topic's partitions end now. `connection`: the brokers and who we are to them, as aiokafka names it.

    Raises:
        UnreadableAnswer: the brokers do not answer, or there is no such topic.
    """
    async with _consumer(connection) as consumer:
        partitions = await _partitions(connection, topic)
        ends = await consumer.end_offsets(partitions)
        return {partition.partition: ends[partition] for partition in partitions}


@asynccontextmanager
async def feed(connection: Connection, topic: str, begin: Mark) -> AsyncIterator[TopicFeed]:
    """The topic's events from the mark on.

    Raises:
        UnreadableAnswer: as above, and where records since the mark are gone.
    """
    async with _consumer(connection) as consumer:
        partitions = await _partitions(connection, topic)
        consumer.assign(partitions)
        for partition in partitions:
            # A partition that was added meanwhile has nothing older than the run.
            consumer.seek(partition, begin.get(partition.partition, 0))
        yield TopicFeed(consumer)


class TopicFeed:
    """Reads on from where it stopped."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    async def read(self) -> list[tuple[SeenEvent, bytes]]:
        """What has come since the last reading, in order within each partition."""
        batches = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=_RECORDS_MAX)
        values = (record.value or b"" for records in batches.values() for record in records)
        return [(api.event_of(value), value) for value in values]


@asynccontextmanager
async def _consumer(connection: Connection) -> AsyncIterator[Any]:
    consumer = AIOKafkaConsumer(
        **connection,
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
        raise _unreadable(connection, error) from error
    finally:
        await consumer.stop()


async def _partitions(connection: Connection, topic: str) -> list[TopicPartition]:
    try:
        found = (await kafka_admin.look(connection, [topic])).get(topic)
    except NotSeen as error:
        raise _unreadable(connection, error) from error
    if found is None:
        where = _where(connection)
        raise UnreadableAnswer(f"there is no topic {topic} at {where}; --topic NAME says which has the order events")
    return [TopicPartition(topic, partition) for partition in range(found.partitions)]


def _unreadable(connection: Connection, error: Exception) -> UnreadableAnswer:
    return UnreadableAnswer(
        f"the events cannot be read from Kafka at {_where(connection)}: {error or type(error).__name__}"
    )


def _where(connection: Connection) -> str:
    servers = connection["bootstrap_servers"]
    return servers if isinstance(servers, str) else ",".join(servers)
