"""Publishes order events to Kafka; implements `workers.processing.Events`.

Each order event goes to two topics: the event topic, which keeps every version, and the compacted state topic, which
keeps the last version of each order. One publish runs at a time. Within it, the batches of a partition are sent one
after the other, each when the one before is acknowledged. So the versions of an order stay in order.

An event that the brokers will always refuse for its size does not delay other orders. It stays in the outbox together
with the later events of its key; everything else is sent.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from schemas import topics
from schemas.events import Outgoing
from workers.errors import EventRefused, InfrastructureDown
from workers.kafka import clients

PUBLISH_S = 10.0  # aiokafka gives a batch up after five
LEAVE_S = 8.0

_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_UNENCODABLE = (TypeError, ValueError, OverflowError)

Destination = tuple[str, int]  # a topic's full name, and a partition


class Batch(Protocol):
    """The part of aiokafka's batch that is used here. `append` returns `None` if the batch is full."""

    def append(
        self, *, timestamp: int | None, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]
    ) -> object | None: ...
    def close(self) -> None: ...


class EventProducer(Protocol):
    """The part of aiokafka's producer that is used here."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def partitions_for(self, topic: str) -> set[int]: ...
    def create_batch(self) -> Batch: ...
    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Any: ...


class KafkaEvents:
    """Publishes events. `build` makes a producer that is not started; `named` returns the full name of a topic.

    `trouble` is the reason why the last publish failed; `None` if it succeeded.
    """

    def __init__(
        self,
        build: Callable[[], EventProducer],
        *,
        named: Callable[[str], str] = lambda topic: topic,
        publish_s: float = PUBLISH_S,
    ) -> None:
        self.trouble: str | None = None
        self._build = build
        self._named = named
        self._publish_s = publish_s
        self._producer: EventProducer | None = None
        self._one_at_a_time = asyncio.Lock()
        self._leaving: set[asyncio.Task[bool]] = set()

    async def publish(self, events: Sequence[Outgoing]) -> None:
        """Publish the events, those of each key in the given order. All in-sync replicas have them on return.

        Raises:
            EventRefused: some events can never be sent; `acknowledged` has the indexes of all that were.
            InfrastructureDown: some events may be written and some not.
        """
        async with self._one_at_a_time:
            try:
                async with asyncio.timeout(self._publish_s):
                    await self._publish(events)
            except EventRefused as refused:
                self.trouble = str(refused)
                raise
            except (KafkaError, OSError, TimeoutError) as error:
                self._discard_producer()
                self.trouble = f"Kafka: {type(error).__name__}: {error}".rstrip(": ")
                raise InfrastructureDown(self.trouble) from error
            except BaseException:
                self._discard_producer()  # cancelled, or a programming error: no caller waits for its records any more
                raise
            self.trouble = None

    async def stop(self) -> None:
        """Close the connections. Events that are not acknowledged are still in the outbox."""
        self._discard_producer(within_s=clients.STOP_S)
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=LEAVE_S)

    async def _publish(self, events: Sequence[Outgoing]) -> None:
        if not events:
            return
        producer = await self._current_producer()
        counts = await self._partition_counts(producer, events)
        sending = _Sending(producer, events, counts)
        # The state topic first: a consumer that starts with it and continues with the events then misses nothing, and a
        # state ahead of the events does no harm. If the rest fails, the states are sent again and compaction folds
        # them, whereas events sent again would be read twice. A failed publish can leave an older state after a newer
        # one, if a broker processes a request long after the producer gave it up. So the store resends the state of
        # such an order, to this topic alone.
        states = _all_of(events, topics.ORDER_STATE)
        sent_states = await sending.send([*states, *_last_of_each(events)], self._named(topics.ORDER_STATE))
        sending.acknowledged |= sent_states.intersection(states)
        for topic in (topics.ORDER_EVENT, topics.HELD, topics.NOTED):
            sending.acknowledged |= await sending.send(_all_of(events, topic), self._named(topic))
        if sending.refused:
            raise EventRefused(sending.refusal_text(), sorted(sending.acknowledged))

    async def _current_producer(self) -> EventProducer:
        if self._leaving:
            await asyncio.wait(self._leaving)
        if self._producer is None:
            self._producer = self._build()
            await self._producer.start()
        return self._producer

    async def _partition_counts(self, producer: EventProducer, events: Iterable[Outgoing]) -> Mapping[str, int]:
        """Look up the partition counts before sending anything, so that a missing topic causes no repeated sends."""
        needed = {event.topic for event in events}
        if topics.ORDER_EVENT in needed:
            needed.add(topics.ORDER_STATE)
        return {name: len(await producer.partitions_for(name)) for name in sorted(map(self._named, needed))}

    def _discard_producer(self, *, within_s: float = 0.0) -> None:
        """Dispose of the producer, because records that it still holds would arrive after those of the next one.

        The next publish waits until it is gone and then builds another.
        """
        producer, self._producer = self._producer, None
        if producer is not None:
            task = asyncio.create_task(clients.dispose(producer, within_s=within_s))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)


class _Sending:
    """One publish. It remembers across topics which events were refused. Events are named by their index."""

    def __init__(self, producer: EventProducer, events: Sequence[Outgoing], counts: Mapping[str, int]) -> None:
        self.acknowledged: set[int] = set()
        self.refused: dict[int, str] = {}
        self._producer = producer
        self._events = events
        self._counts = counts
        self._partitions: dict[tuple[bytes, int], int] = {}
        self._blocked: set[tuple[str, bytes]] = set()

    async def send(self, indexes: Iterable[int], topic: str) -> set[int]:
        """Send these events to one topic, its partitions concurrently. Return those that are acknowledged.

        After a refused event, send no later event of its key, not even to the topic that would accept it. Otherwise the
        two topics would contradict each other.
        """
        by_partition: dict[int, list[int]] = {}
        for index in indexes:
            by_partition.setdefault(self._partition(topic, self._events[index].key), []).append(index)
        sends = [self._send_in_order((topic, partition), own) for partition, own in by_partition.items()]
        # If one fails, still wait for all, so that none is sending when the next publish begins.
        sent = await asyncio.gather(*sends, return_exceptions=True)
        acknowledged: set[int] = set()
        for each in sent:
            if isinstance(each, BaseException):
                raise each
            acknowledged.update(each)
        return acknowledged

    def refusal_text(self) -> str:
        index, why = next(iter(self.refused.items()))
        return (
            f"Kafka can never take {len(self.refused)} of the events; they stay in the outbox, with the later events "
            f"of their orders. The first is {self._events[index].id!r:.200}: {why}"
        )

    def _partition(self, topic: str, key: bytes) -> int:
        """Return the partition, cached for both topics of an order event, which usually have equal partition counts."""
        count = self._counts[topic]
        found = self._partitions.get((key, count))
        if found is None:
            found = self._partitions[key, count] = topics.partition_of(key, count)
        return found

    async def _send_in_order(self, to: Destination, indexes: Sequence[int]) -> list[int]:
        acknowledged: list[int] = []
        for batch, packed in self._batches(indexes):
            acknowledged += await self._send_batch(to, batch, packed)
        return acknowledged

    async def _send_batch(self, to: Destination, batch: Batch, packed: Sequence[int]) -> Sequence[int]:
        topic, partition = to
        try:
            await (await self._producer.send_batch(batch, topic, partition=partition))
        except _TOO_LARGE as error:
            if len(packed) == 1:
                self._refuse(packed[0], f"{type(error).__name__} in {topic}")
                return ()
            middle = len(packed) // 2
            return await self._send_in_order(to, packed[:middle]) + await self._send_in_order(to, packed[middle:])
        return packed

    def _batches(self, indexes: Sequence[int]) -> Iterator[tuple[Batch, Sequence[int]]]:
        """Yield full batches, each built when the one before was sent, with the indexes of its events."""
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
        event = self._events[index]
        return (event.topic, event.key) not in self._blocked

    def _refuse(self, index: int, why: str) -> None:
        event = self._events[index]
        self.refused[index] = why
        self._blocked.add((event.topic, event.key))


def _all_of(events: Sequence[Outgoing], topic: str) -> list[int]:
    return [index for index, event in enumerate(events) if event.topic == topic]


def _last_of_each(events: Sequence[Outgoing]) -> list[int]:
    """Return the last version of each order, which is all that the state topic needs."""
    last = {event.key: index for index, event in enumerate(events) if event.topic == topics.ORDER_EVENT}
    return sorted(last.values())
