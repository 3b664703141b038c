"""One round of the relay: publish events of the outbox, mark those that went out, and set aside those that cannot.

    offered    the oldest unsent events, but none whose topic is away (`Away`: the topics tell it, the store heeds it)
    sent       acknowledged by their topics, and marked so in the store
    refused    no topic takes the event as it is: it leaves the window together with the later events of its key, and
               comes back after a while, because an operator may have changed the topic
    else       it may have arrived or not, or its topic was away: it is offered again once its topic is back

So one topic, one partition or one event in trouble delays no other.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from msgspec import Struct

from schemas import topics
from schemas.events import Outgoing
from workers.errors import InfrastructureDown
from workers.traces import NOT_TRACED, Sends, Tracing

REFUSED_AGAIN_S = 30.0  # an event that was refused is offered again after this time

# The topics of each loop of the relay: a topic of notices that answers slowly then delays no order event.
ORDER_EVENTS = frozenset({topics.ORDER_EVENT, topics.ORDER_STATE})
NOTICES = frozenset({topics.HELD, topics.NOTED})
EVERYTHING = ORDER_EVENTS | NOTICES


class Away(Protocol):
    """The topics that take no events now."""

    @property
    def topics(self) -> frozenset[str]:
        """The logical names of the topics that are away with all their partitions."""

    def holds(self, event: Outgoing) -> bool:
        """Return whether the event's topic, or the partition of its key there, is away."""


class _NothingAway:
    topics: frozenset[str] = frozenset()

    def holds(self, event: Outgoing) -> bool:
        return False


NOTHING_AWAY: Away = _NothingAway()


class SetAside:
    """The keys of refused events in one process, each until its events are offered again, by the monotonic clock."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._until_s: dict[tuple[str, bytes], float] = {}

    def add(self, keys: Iterable[tuple[str, bytes]]) -> None:
        """Set aside the events with these topics and keys."""
        now_s = self._now_s()
        self._until_s = {each: until_s for each, until_s in self._until_s.items() if until_s > now_s}
        self._until_s.update(dict.fromkeys(keys, now_s + REFUSED_AGAIN_S))

    def holds(self, event: Outgoing) -> bool:
        """Return whether the event is set aside."""
        return bool(self._until_s) and self._until_s.get((event.topic, event.key), 0.0) > self._now_s()


class Published(Struct, frozen=True, kw_only=True):
    """The outcome of one publish, by the indexes of its events.

    `refused` are those that no topic takes as they are. The others may be sent or not: publish them again. `trouble`
    says why there are such; empty if all are acknowledged.
    """

    acknowledged: Sequence[int]
    refused: Sequence[int] = ()
    trouble: str = ""


class Events(Protocol):
    """The topics of events."""

    @property
    def away(self) -> Away: ...

    async def publish(self, events: Sequence[Outgoing]) -> Published:
        """Send the events, those of each key in this order. Those that are acknowledged are durable.

        Raises:
            InfrastructureDown: any number of them may have been sent.
        """


class UnsentStore(Protocol):
    """The part of the order store that holds events until they are sent."""

    async def unsent(
        self, limit: int, away: Away = NOTHING_AWAY, *, only: frozenset[str] = EVERYTHING
    ) -> Sequence[tuple[int, Outgoing]]:
        """Return events that no topic has acknowledged yet, oldest first, each with its number in the outbox.

        It returns those of the topics `only`, and none that is away or set aside, nor a later one of the same key.
        """

    async def mark_sent(self, numbers: Sequence[int]) -> None:
        """Mark these events as acknowledged. An event whose mark is lost is sent again, with the same id."""

    async def set_aside(self, numbers: Sequence[int]) -> None:
        """Do not offer these events, nor later ones of their keys, for about `REFUSED_AGAIN_S`."""


class EmissionObserver(Protocol):
    """Observes sent events."""

    def emitted(self, events: Sequence[Outgoing]) -> None: ...
    def step(self, name: str, seconds: float) -> None: ...


async def emit(
    outbox: UnsentStore,
    events: Events,
    observer: EmissionObserver,
    limit: int,
    *,
    only: frozenset[str] = EVERYTHING,
    tracing: Tracing = NOT_TRACED,
) -> int:
    """Publish the oldest events of these topics that can be sent; mark those that went out. Return how many were tried.

    Raises:
        InfrastructureDown: none went out and none was refused. Some may be sent and not marked; they are sent again,
            with the same ids.
    """
    unsent = await outbox.unsent(limit, events.away, only=only)
    if not unsent:
        return 0
    started = time.perf_counter()
    outgoing = [event for _, event in unsent]
    published = await _publish(events, tracing.sends(outgoing))
    if published.acknowledged:
        await outbox.mark_sent([unsent[index][0] for index in published.acknowledged])
        observer.step("emit", time.perf_counter() - started)
        observer.emitted([outgoing[index] for index in published.acknowledged])
    if published.refused:
        await outbox.set_aside([unsent[index][0] for index in published.refused])
    if not (published.acknowledged or published.refused):
        raise InfrastructureDown(published.trouble or "no topic takes events now")
    return len(unsent)


async def _publish(events: Events, sends: Sends) -> Published:
    acknowledged: Sequence[int] = ()
    try:
        published = await events.publish(sends.events)
        acknowledged = published.acknowledged
    finally:
        sends.end(acknowledged)
    return published
