"""The topics that consumers read, on Kafka: `workers.processing.Events`.

Each order event goes to two topics: the events, where every version is kept, and their compacted twin, which holds the
last of each order. The twin comes first. A consumer that starts from the twin and goes on with the events then misses
nothing, and a twin that is ahead of the events does no harm; and what is sent again because the rest of a publish
failed is folded by compaction there, instead of being read twice. A failure in the middle can leave an older version
behind a newer one in a twin, where a broker takes up a request long after it was given up. The store sees to that: it
hands us the state of such an order once more, for the twin alone.

Versions keep their order because one publish runs at a time, and within it the batches of a partition go one after the
other, each when the one before it is acknowledged. After any failure the producer is taken apart, with whatever it
still holds, and only then the next publish makes another: so there is none to be nursed, or that goes on sending.

An event that the brokers refuse for its size, now and at every later try, does not hold up other orders: it stays in
the outbox, and so do the later ones of its key, while everything else is sent. `EventRefused` tells which
were acknowledged.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from schemas import topics
from schemas.events import Outgoing
from workers.errors import EventRefused, InfrastructureDown
from workers.kafka import clients

PUBLISH_S = 10.0  # the client gives a batch up after five
LEAVE_S = 8.0

_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_NOT_TO_BE_PACKED = (TypeError, ValueError, OverflowError)

Place = tuple[str, int]  # a topic's real name, and a partition


class Batch(Protocol):
    """What is used of the library's batch: `append` returns `None` where nothing more goes in."""

    def append(
        self, *, timestamp: int | None, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]
    ) -> object | None: ...
    def close(self) -> None: ...


class EventProducer(Protocol):
    """What is used of the library's producer."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def partitions_for(self, topic: str) -> set[int]: ...
    def create_batch(self) -> Batch: ...
    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Any: ...


class KafkaEvents:
    """Publishes to real topics. `build` makes an unstarted producer; `named` turns a topic of ours into a real one.

    `trouble` is why the last publish failed; `None` when it did not.
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
        """Returns when all are acknowledged by all in-sync replicas, each key's in the order given.

        Raises:
            EventRefused: all others are; these never will be.
            InfrastructureDown: some may be there, some not.
        """
        async with self._one_at_a_time:
            try:
                async with asyncio.timeout(self._publish_s):
                    await self._publish(events)
            except EventRefused as refused:
                self.trouble = str(refused)
                raise
            except (KafkaError, OSError, TimeoutError) as error:
                self._throw_away()
                self.trouble = f"Kafka: {type(error).__name__}: {error}".rstrip(": ")
                raise InfrastructureDown(self.trouble) from error
            except BaseException:
                self._throw_away()  # cancelled, or a fault of ours: what it still holds is nobody's to wait for
                raise
            self.trouble = None

    async def stop(self) -> None:
        """Close the connections. Whatever is not acknowledged lies in the outbox."""
        self._throw_away(within_s=clients.STOP_S)
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=LEAVE_S)

    async def _publish(self, events: Sequence[Outgoing]) -> None:
        if not events:
            return
        producer = await self._present()
        counts = await self._counts(producer, events)
        sending = _Sending(producer, events, counts)
        states = _all_of(events, topics.ORDER_STATE)
        twin = await sending.send([*states, *_last_of_each(events)], self._named(topics.ORDER_STATE))
        sending.acknowledged |= twin.intersection(states)
        for topic in (topics.ORDER_EVENT, topics.HELD):
            sending.acknowledged |= await sending.send(_all_of(events, topic), self._named(topic))
        if sending.refused:
            raise EventRefused(sending.told(), sorted(sending.acknowledged))

    async def _present(self) -> EventProducer:
        if self._leaving:
            await asyncio.wait(self._leaving)
        if self._producer is None:
            self._producer = self._build()
            await self._producer.start()
        return self._producer

    async def _counts(self, producer: EventProducer, events: Iterable[Outgoing]) -> Mapping[str, int]:
        """How many partitions each topic has: asked before anything is sent, so that a missing one repeats nothing."""
        needed = {event.topic for event in events}
        if topics.ORDER_EVENT in needed:
            needed.add(topics.ORDER_STATE)
        return {name: len(await producer.partitions_for(name)) for name in sorted(map(self._named, needed))}

    def _throw_away(self, *, within_s: float = 0.0) -> None:
        """Take the producer apart: what it holds would arrive after what the next one sends."""
        producer, self._producer = self._producer, None
        if producer is not None:
            task = asyncio.create_task(clients.dispose(producer, within_s=within_s))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)


class _Sending:
    """One publish: what is refused in one topic is remembered for the next."""

    def __init__(self, producer: EventProducer, events: Sequence[Outgoing], counts: Mapping[str, int]) -> None:
        self.acknowledged: set[int] = set()
        self.refused: dict[int, str] = {}
        self._producer = producer
        self._events = events
        self._counts = counts
        self._partitions: dict[tuple[bytes, int], int] = {}
        self._stuck: set[tuple[str, bytes]] = set()

    async def send(self, places: Iterable[int], topic: str) -> set[int]:
        """Send these events to one topic, its partitions beside each other; those that are acknowledged.

        Behind one that is refused nothing of its key is sent: not even in the topic that would take it, since the two
        would tell different stories.
        """
        by_partition: dict[int, list[int]] = {}
        for place in places:
            by_partition.setdefault(self._partition(topic, self._events[place].key), []).append(place)
        sends = [self._send_in_order((topic, partition), own) for partition, own in by_partition.items()]
        # All are waited for also where one fails, so that none is left sending when the next publish begins.
        sent = await asyncio.gather(*sends, return_exceptions=True)
        acknowledged: set[int] = set()
        for each in sent:
            if isinstance(each, BaseException):
                raise each
            acknowledged.update(each)
        return acknowledged

    def told(self) -> str:
        place, why = next(iter(self.refused.items()))
        return (
            f"{len(self.refused)} events stay in the outbox, with what follows them of their orders, since no broker "
            f"takes them; the first is {self._events[place].id!r:.200}: {why}"
        )

    def _partition(self, topic: str, key: bytes) -> int:
        """Found once for both topics of an order event, which as a rule have as many partitions."""
        count = self._counts[topic]
        found = self._partitions.get((key, count))
        if found is None:
            found = self._partitions[key, count] = topics.partition_of(key, count)
        return found

    async def _send_in_order(self, to: Place, places: Sequence[int]) -> list[int]:
        acknowledged: list[int] = []
        for batch, packed in self._packed(places):
            acknowledged += await self._send_batch(to, batch, packed)
        return acknowledged

    async def _send_batch(self, to: Place, batch: Batch, packed: Sequence[int]) -> Sequence[int]:
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

    def _packed(self, places: Sequence[int]) -> Iterator[tuple[Batch, Sequence[int]]]:
        """Batches as full as they get, made as they are sent, each with the events that are in it."""
        batch, packed = self._producer.create_batch(), list[int]()
        for place in places:
            if not self._is_free(place):
                continue
            if self._append(batch, place) is None:
                yield self._closed(batch), packed
                batch, packed = self._producer.create_batch(), []
                if not self._is_free(place):  # refused by the batch that was just sent, of which it was behind
                    continue
                self._append(batch, place)
            if place not in self.refused:
                packed.append(place)
        if packed:
            yield self._closed(batch), packed

    def _append(self, batch: Batch, place: int) -> object | None:
        event = self._events[place]
        try:
            return batch.append(timestamp=None, key=event.key, value=event.value, headers=[*event.headers])
        except _NOT_TO_BE_PACKED as error:
            self._refuse(place, f"{type(error).__name__}: {error}")
            return self

    def _closed(self, batch: Batch) -> Batch:
        batch.close()
        return batch

    def _is_free(self, place: int) -> bool:
        event = self._events[place]
        return (event.topic, event.key) not in self._stuck

    def _refuse(self, place: int, why: str) -> None:
        event = self._events[place]
        self.refused[place] = why
        self._stuck.add((event.topic, event.key))


def _all_of(events: Sequence[Outgoing], topic: str) -> list[int]:
    return [place for place, event in enumerate(events) if event.topic == topic]


def _last_of_each(events: Sequence[Outgoing]) -> list[int]:
    """The last version of each order: all that the twin needs."""
    last = {event.key: place for place, event in enumerate(events) if event.topic == topics.ORDER_EVENT}
    return sorted(last.values())
