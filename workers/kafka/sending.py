"""One publish: sends events to their topics in batches, and finds out which arrived, which are refused, and why not.

Within it, the batches of a partition are sent one after the other, each when the one before is acknowledged. So the
versions of an order stay in order. After an event that did not arrive, no later event of its key is sent to its topic.

Each partition fails alone: the acknowledgements of the others count.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from schemas import topics
from schemas.events import Outgoing
from workers.kafka.destinations import Destinations

# Errors that concern a whole topic. The brokers have written nothing.
_OF_A_TOPIC = (TopicAuthorizationFailedError, UnknownTopicOrPartitionError)
TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_UNENCODABLE = (TypeError, ValueError, OverflowError)


class Batch(Protocol):
    """The part of aiokafka's batch that is used here. `append` returns `None` if the batch is full."""

    def append(
        self, *, timestamp: int | None, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]
    ) -> object | None: ...
    def close(self) -> None: ...


_Packed = tuple[Batch, Sequence[int]]  # with the indexes of its events


class EventProducer(Protocol):
    """The part of aiokafka's producer that is used here."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def partitions_for(self, topic: str) -> set[int]: ...
    def create_batch(self) -> Batch: ...
    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Any: ...


class Sending:
    """One publish. It remembers across topics which events were refused. Events are named by their index.

    `counts` are the partition counts of the topics that are there, by their full names. `is_unknown` is true if records
    may arrive later although their send has failed.
    """

    def __init__(
        self,
        producer: EventProducer,
        events: Sequence[Outgoing],
        counts: Mapping[str, int],
        destinations: Destinations,
    ) -> None:
        self.acknowledged: set[int] = set()
        self.refused: dict[int, str] = {}
        self.is_unknown = False
        self._producer = producer
        self._events = events
        self._counts = counts
        self._destinations = destinations
        self._sorted: dict[tuple[int, tuple[int, ...]], Mapping[int, Sequence[int]]] = {}
        self._blocked: set[tuple[str, bytes]] = set()
        self._arrived: dict[tuple[int, ...], Sequence[_Packed]] = {}  # batches of these events that one topic has

    async def send(self, indexes: Iterable[int], topic: str, arrived: set[int]) -> None:
        """Send these events to one topic, its partitions concurrently. Add those that are acknowledged to `arrived`.

        After an event that does not arrive, no later event of its key is sent, not even to the topic that would accept
        it. Otherwise the two topics of an order would contradict each other.
        """
        by_partition = self._by_partition(topic, tuple(indexes))
        sends = [self._send_all((topic, partition), own, arrived) for partition, own in by_partition.items()]
        # If one fails, still wait for all, so that none is sending when the next publish begins.
        for failed in await asyncio.gather(*sends, return_exceptions=True):
            if failed is not None:
                raise failed

    def has(self, topic: str) -> bool:
        """Return whether the topic is there, as far as its look-up found."""
        return topic in self._counts

    def block(self, index: int) -> None:
        """Send no event of this one's topic and key any more."""
        event = self._events[index]
        self._blocked.add((event.topic, event.key))

    def refusal_text(self) -> str:
        """Name the first of the refused events, and the reason."""
        index, why = next(iter(self.refused.items()))
        return (
            f"Kafka can never take {len(self.refused)} of the events; they stay in the outbox, with the later events "
            f"of their orders. The first is {self._events[index].id!r:.200}: {why}"
        )

    def _by_partition(self, topic: str, indexes: tuple[int, ...]) -> Mapping[int, Sequence[int]]:
        """Return the events by their partition in the topic, without those of partitions that are away.

        Both topics of order events usually have the same number of partitions: then they are sorted once.
        """
        count, are_well = self._counts.get(topic, 0), self._destinations.are_well
        if are_well and (count, indexes) in self._sorted:
            return self._sorted[count, indexes]
        found: dict[int, list[int]] = {}
        for index in indexes:
            partition = topics.partition_of(self._events[index].key, count) if count else None
            if partition is None or self._destinations.is_away(topic, partition):
                self.block(index)
            else:
                found.setdefault(partition, []).append(index)
        if are_well and count:
            self._sorted[count, indexes] = found
        return found

    async def _send_all(self, to: tuple[str, int], indexes: Sequence[int], arrived: set[int]) -> None:
        """Send to one partition, until it fails."""
        topic, partition = to
        try:
            await self._send_in_order(to, indexes, arrived)
        except (KafkaError, OSError) as error:
            is_of_topic = isinstance(error, _OF_A_TOPIC)
            self._destinations.failed(topic, None if is_of_topic else partition, reason(error))
            self.is_unknown = self.is_unknown or not is_of_topic
        except asyncio.CancelledError:
            self._destinations.failed(topic, partition, "no answer in time")
            self.is_unknown = True
            raise

    async def _send_in_order(self, to: tuple[str, int], indexes: Sequence[int], arrived: set[int]) -> None:
        for batch, packed in self._batches(indexes):
            await self._send_batch(to, batch, packed, arrived)

    async def _send_batch(self, to: tuple[str, int], batch: Batch, packed: Sequence[int], arrived: set[int]) -> None:
        topic, partition = to
        try:
            await (await self._producer.send_batch(batch, topic, partition=partition))
        except TOO_LARGE as error:
            if len(packed) == 1:
                self._refuse(packed[0], f"{type(error).__name__} in {topic}")
                return
            middle = len(packed) // 2
            await self._send_in_order(to, packed[:middle], arrived)
            await self._send_in_order(to, packed[middle:], arrived)
            return
        self._destinations.worked(topic, partition)
        arrived.update(packed)

    def _batches(self, indexes: Sequence[int]) -> Iterator[_Packed]:
        """Yield full batches, each built when the one before was sent, with the indexes of its events.

        The second topic of order events nearly always gets the same events, in partitions of the same number: then it
        gets the batches that the first one has acknowledged.
        """
        all_ = tuple(indexes)
        if all_ in self._arrived and not self._blocked:
            yield from self._arrived[all_]
            return
        built: list[_Packed] = []
        for batch, packed in self._built(indexes):
            built.append((batch, packed))
            yield batch, packed
        if not self._blocked:
            self._arrived[all_] = built

    def _built(self, indexes: Sequence[int]) -> Iterator[_Packed]:
        batch, packed = self._producer.create_batch(), list[int]()
        for index in indexes:
            if not self._may_send(index):
                continue
            if self._append(batch, index) is None:
                yield self._closed(batch), packed
                batch, packed = self._producer.create_batch(), []
                if not self._may_send(index):  # the batch just sent had a refused event of the same key before this one
                    continue
                self._append(batch, index)
            if index not in self.refused:
                packed.append(index)
        if packed:
            yield self._closed(batch), packed

    def _append(self, batch: Batch, index: int) -> object | None:
        event = self._events[index]
        try:
            return batch.append(timestamp=None, key=event.key, value=event.value, headers=[*event.headers])
        except _UNENCODABLE as error:
            self._refuse(index, f"{type(error).__name__}: {error}")
            return self

    def _closed(self, batch: Batch) -> Batch:
        batch.close()
        return batch

    def _may_send(self, index: int) -> bool:
        if not self._blocked:  # nearly always, and asked for each event
            return True
        event = self._events[index]
        return (event.topic, event.key) not in self._blocked

    def _refuse(self, index: int, why: str) -> None:
        self.refused[index] = why
        self.block(index)


def reason(error: Exception) -> str:
    """Return the error in words, with its name."""
    return str(error) if isinstance(error, KafkaError) else f"{type(error).__name__}: {error}".rstrip(": ")
