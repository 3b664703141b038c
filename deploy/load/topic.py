"""Read order events from the Kafka topic: those of a run, from the offsets that its partitions had before it, or all.

It joins no consumer group and commits no offsets, so it does not disturb the topic's consumers.
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
    """Return the current end offset of each partition. `connection` holds aiokafka's arguments for the brokers.

    Raises:
        UnreadableAnswer: the brokers do not answer, or the topic does not exist.
    """
    async with _consumer(connection) as consumer:
        partitions = await _partitions(connection, topic)
        ends = await consumer.end_offsets(partitions)
        return {partition.partition: ends[partition] for partition in partitions}


async def oldest(connection: Connection, topic: str) -> Mark:
    """Return the offset of the oldest record in each partition.

    Raises:
        UnreadableAnswer: as `mark`.
    """
    async with _consumer(connection) as consumer:
        partitions = await _partitions(connection, topic)
        begins = await consumer.beginning_offsets(partitions)
        return {partition.partition: begins[partition] for partition in partitions}


@asynccontextmanager
async def feed(connection: Connection, topic: str, begin: Mark) -> AsyncIterator[TopicFeed]:
    """Provide the topic's events from these offsets on.

    Raises:
        UnreadableAnswer: as above, or records since those offsets have been deleted.
    """
    async with _consumer(connection) as consumer:
        partitions = await _partitions(connection, topic)
        consumer.assign(partitions)
        for partition in partitions:
            # A partition that was added since then has no records older than the run.
            consumer.seek(partition, begin.get(partition.partition, 0))
        yield TopicFeed(consumer)


class TopicFeed:
    """Reads events, each call after the last one's."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    async def read(self) -> list[tuple[SeenEvent, bytes]]:
        """Return the events that are new since the last call, in order within each partition."""
        values = [record.value or b"" for record in await self.records()]
        return [(api.event_of(value), value) for value in values]

    async def records(self) -> list[Any]:
        """Return the same as aiokafka's records, with their headers."""
        batches = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=_RECORDS_MAX)
        return [record for records in batches.values() for record in records]


@asynccontextmanager
async def _consumer(connection: Connection) -> AsyncIterator[Any]:
    consumer = AIOKafkaConsumer(
        **connection,
        client_id="alipay-notify-reader",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",  # deleted records must be a failure, not be skipped
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
        raise UnreadableAnswer(f"there is no topic {topic} at {where}; give --topic the topic of the order events")
    return [TopicPartition(topic, partition) for partition in range(found.partitions)]


def _unreadable(connection: Connection, error: Exception) -> UnreadableAnswer:
    return UnreadableAnswer(
        f"cannot read the events from Kafka at {_where(connection)}: {error or type(error).__name__}"
    )


def _where(connection: Connection) -> str:
    servers = connection["bootstrap_servers"]
    return servers if isinstance(servers, str) else ",".join(servers)
