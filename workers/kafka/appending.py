"""Append single records to the topic of notifications: answers to our questions. Receivers have a way of their own."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from aiokafka.errors import KafkaError

from schemas import topics
from schemas.record_format import Record
from workers.errors import InfrastructureDown, RecordRefused
from workers.kafka import clients, sending

APPEND_S = 10.0  # aiokafka gives a record up after five


class AppendingProducer(Protocol):
    """The part of aiokafka's producer that is used here."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def partitions_for(self, topic: str) -> set[int]: ...
    async def send_and_wait(
        self, topic: str, *, value: bytes, key: bytes, partition: int, headers: Sequence[tuple[str, bytes]]
    ) -> Any: ...


class KafkaAppending:
    """Appends records, one at a time. `build` makes a producer that is not started; it is kept while it works."""

    def __init__(self, build: Callable[[], AppendingProducer], *, topic: str, append_s: float = APPEND_S) -> None:
        self._build = build
        self._topic = topic
        self._append_s = append_s
        self._producer: AppendingProducer | None = None
        self._one_at_a_time = asyncio.Lock()

    async def append(self, record: Record) -> None:
        """Append the record. When this returns, all in-sync replicas have it.

        Raises:
            RecordRefused: the topic takes only smaller records.
            InfrastructureDown: it is unknown whether the record was written.
        """
        async with self._one_at_a_time:
            try:
                async with asyncio.timeout(self._append_s):
                    await self._send(record)
            except sending.TOO_LARGE as error:
                raise RecordRefused(f"Kafka: {sending.reason(error)}") from error
            except (KafkaError, OSError, TimeoutError) as error:
                await self._discard()
                raise InfrastructureDown(f"Kafka: {sending.reason(error)}") from error
            except BaseException:
                await self._discard()
                raise

    async def stop(self) -> None:
        """Close the connections."""
        await self._discard()

    async def _send(self, record: Record) -> None:
        if self._producer is None:
            self._producer = self._build()
            await self._producer.start()
        count = len(await self._producer.partitions_for(self._topic))
        await self._producer.send_and_wait(
            self._topic,
            value=record.value,
            key=record.key,
            partition=topics.partition_of(record.key, count),
            headers=list(record.headers),  # aiokafka takes nothing else
        )

    async def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await clients.dispose(producer)
