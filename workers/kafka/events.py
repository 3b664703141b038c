"""Publishes order events and notices to Kafka; implements `workers.emission.Events`.

Each order event goes to two topics: the event topic, which keeps every version, and the compacted state topic, which
keeps the last version of each order. Notices go to topics of their own. One publish runs at a time, so the versions of
an order stay in order (`workers.kafka.sending`).

The trouble of one topic, or of one partition, is its own (`workers.kafka.destinations`): it is left alone for a while,
and the other events go out. An event that the brokers refuse for its size does not delay other orders either.

    looked up      every topic of the publish, for `LOOK_UP_S` at most; one that was missing before is not waited for
    order events   first the state topic, then the event topic; if either is away, both wait
    notices        their topics at the same time

A topic that takes as long as it may before it fails still delays the publish. So a worker has two of these, with a
producer each: one for order events, one for notices (`workers.processing`).
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from aiokafka.errors import KafkaError

from schemas import event_names, topics
from schemas.event_names import EventNames
from schemas.events import Outgoing
from workers.emission import Published
from workers.errors import InfrastructureDown
from workers.kafka import clients, sending
from workers.kafka.destinations import Destinations
from workers.kafka.sending import EventProducer, Sending

PUBLISH_S = 10.0  # aiokafka gives a batch up after five
LOOK_UP_S = 2.0
TRIAL_S = 0.1  # for a topic that was missing before: brokers that answer do so in some milliseconds
LEAVE_S = 8.0

NO_PARTITIONS = "Kafka does not tell its partitions: is the topic missing?"
# The topics to which events of a topic are sent.
_SENT_TO = {topics.ORDER_EVENT: (topics.ORDER_STATE, topics.ORDER_EVENT)}


class KafkaEvents:
    """Publishes events. `build` makes a producer that is not started; `named` returns the full name of a topic.

    `names` are those that consumers see in the events.

    `trouble` names the topics in trouble, or the reason why Kafka cannot be reached; `None` if all is well.
    """

    def __init__(
        self,
        build: Callable[[], EventProducer],
        *,
        named: Callable[[str], str] = lambda topic: topic,
        names: EventNames = event_names.LOGICAL,
        publish_s: float = PUBLISH_S,
        look_up_s: float = LOOK_UP_S,
        destinations: Destinations | None = None,
    ) -> None:
        self._build = build
        self._named = named
        self._names = names
        self._publish_s = publish_s
        self._look_up_s = look_up_s
        self._destinations = destinations or Destinations()
        self._unreachable: str | None = None
        self._producer: EventProducer | None = None
        self._look_ups: dict[str, asyncio.Task[set[int]]] = {}
        self._counts: dict[str, int] = {}
        self._one_at_a_time = asyncio.Lock()
        self._leaving: set[asyncio.Task[bool]] = set()

    @property
    def trouble(self) -> str | None:
        return "; ".join(filter(None, (self._unreachable, self._destinations.trouble))) or None

    @property
    def away(self) -> "KafkaEvents":
        """These topics themselves, as `workers.emission.Away`."""
        return self

    @property
    def topics(self) -> frozenset[str]:
        """Return the topics whose events cannot be sent now, by their logical names."""
        return frozenset(
            topic for topic in topics.ALL if any(self._destinations.is_away(self._named(to)) for to in _sent_to(topic))
        )

    def holds(self, event: Outgoing) -> bool:
        """Return whether the event's topic, or the partition of its key there, is away."""
        if self._destinations.are_well:  # nearly always, and asked for each event
            return False
        return any(
            self._destinations.is_away(name, self._partition(name, event.key))
            for name in map(self._named, _sent_to(event.topic))
        )

    async def publish(self, events: Sequence[Outgoing]) -> Published:
        """Publish the events, those of each key in the given order.

        Raises:
            InfrastructureDown: Kafka cannot be reached.
        """
        async with self._one_at_a_time:
            try:
                published = await self._publish(events)
            except (KafkaError, OSError) as error:
                self._discard_producer()
                self._unreachable = f"Kafka: {sending.reason(error)}"
                raise InfrastructureDown(self._unreachable) from error
            except BaseException:
                self._discard_producer()  # cancelled, or a programming error: no caller waits for its records any more
                raise
            self._unreachable = None
            return published

    async def stop(self) -> None:
        """Close the connections. Events that are not acknowledged are still in the outbox."""
        self._discard_producer(within_s=clients.STOP_S)
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=LEAVE_S)

    async def _publish(self, events: Sequence[Outgoing]) -> Published:
        if not events:
            return Published(acknowledged=())
        async with asyncio.timeout(self._publish_s):
            producer = await self._current_producer()
        counts = await self._partition_counts(producer, {to for event in events for to in _sent_to(event.topic)})
        one = Sending(producer, [self._names.of(event) for event in events], counts, self._destinations)
        with contextlib.suppress(TimeoutError):  # the acknowledgements until then count, and the rest is tried again
            async with asyncio.timeout(self._publish_s):
                await self._send(one, events)
        if one.is_unknown:
            self._discard_producer()
        if one.refused:
            self._destinations.refused(one.refusal_text())
        is_done = len(one.acknowledged) == len(events)
        return Published(
            acknowledged=sorted(one.acknowledged),
            refused=sorted(one.refused),
            trouble="" if is_done else self._destinations.trouble or "some topics are away",
        )

    async def _send(self, one: Sending, events: Sequence[Outgoing]) -> None:
        await self._send_order_events(one, events)
        await asyncio.gather(
            *(
                one.send(_all_of(events, topic), self._named(topic), one.acknowledged)
                for topic in (topics.HELD, topics.NOTED)
            )
        )

    async def _send_order_events(self, one: Sending, events: Sequence[Outgoing]) -> None:
        # The state topic first: a consumer that starts with it and continues with the events then misses nothing, and a
        # state ahead of the events does no harm. If the rest fails, the states are sent again and compaction folds
        # them, whereas events sent again would be read twice. A failed publish can leave an older state after a newer
        # one, if a broker processes a request long after the producer gave it up. So the store resends the state of
        # such an order, to this topic alone.
        states, latest = _all_of(events, topics.ORDER_STATE), _last_of_each(events)
        if not one.has(self._named(topics.ORDER_EVENT)):  # the states would be sent in vain, again and again
            latest = []
        arrived: set[int] = set()
        try:
            await one.send([*states, *latest], self._named(topics.ORDER_STATE), arrived)
        finally:
            one.acknowledged |= arrived.intersection(states)
        for index in latest:
            if index not in arrived:
                one.block(index)
        await one.send(_all_of(events, topics.ORDER_EVENT), self._named(topics.ORDER_EVENT), one.acknowledged)

    async def _current_producer(self) -> EventProducer:
        if self._leaving:
            await asyncio.wait(self._leaving)
        if self._producer is None:
            self._producer = self._build()
            await self._producer.start()
        return self._producer

    async def _partition_counts(self, producer: EventProducer, needed: Iterable[str]) -> Mapping[str, int]:
        """Return the partition counts of the topics that are there, by their full names."""
        names = [name for name in sorted(map(self._named, needed)) if not self._destinations.is_away(name)]
        for name in names:
            if name not in self._look_ups or _has_failed(self._look_ups[name]):
                self._look_ups[name] = asyncio.create_task(self._look_up(producer, name))
        for on_trial, within_s in ((False, self._look_up_s), (True, TRIAL_S)):
            asked = {self._look_ups[name] for name in names if self._destinations.is_on_trial(name) is on_trial}
            if asked:
                await asyncio.wait(asked, timeout=within_s)
        counts = {name: count for name in names if (count := self._found(name))}
        self._counts |= counts
        return counts

    async def _look_up(self, producer: EventProducer, name: str) -> set[int]:
        async with asyncio.timeout(self._look_up_s):
            return await producer.partitions_for(name)

    def _found(self, name: str) -> int:
        """Return the result of the topic's look-up; 0 if there is none yet, and then the topic is away."""
        look_up, why = self._look_ups[name], NO_PARTITIONS
        try:
            if look_up.done():
                del self._look_ups[name]
                return len(look_up.result())
        except TimeoutError:
            pass
        except (KafkaError, OSError) as error:
            why = sending.reason(error)
        self._destinations.failed(name, None, why)  # a look-up that goes on is heeded at the next trial
        return 0

    def _partition(self, name: str, key: bytes) -> int | None:
        """Return the partition of the key, if single partitions of the topic are away; else it need not be known."""
        count = self._counts.get(name)
        if count is None or not self._destinations.any_partition_away(name):
            return None
        return topics.partition_of(key, count)

    def _discard_producer(self, *, within_s: float = 0.0) -> None:
        """Dispose of the producer, because records that it still holds would arrive after those of the next one.

        The next publish waits until it is gone and then builds another.
        """
        for look_up in self._look_ups.values():
            if not _has_failed(look_up):  # asking marks the exception as seen, too
                look_up.cancel()
        self._look_ups.clear()
        producer, self._producer = self._producer, None
        if producer is not None:
            task = asyncio.create_task(clients.dispose(producer, within_s=within_s))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)


def _has_failed(look_up: asyncio.Task[set[int]]) -> bool:
    return look_up.done() and (look_up.cancelled() or look_up.exception() is not None)


def _sent_to(topic: str) -> tuple[str, ...]:
    """Return the topics to which events of this topic are sent, by their logical names."""
    return _SENT_TO.get(topic, (topic,))


def _all_of(events: Sequence[Outgoing], topic: str) -> list[int]:
    return [index for index, event in enumerate(events) if event.topic == topic]


def _last_of_each(events: Sequence[Outgoing]) -> list[int]:
    """Return the last version of each order, which is all that the state topic needs."""
    last = {event.key: index for index, event in enumerate(events) if event.topic == topics.ORDER_EVENT}
    return sorted(last.values())
