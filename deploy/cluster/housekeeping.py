"""How a console learns of what workers in other processes change: it reads on in the outbox, a little while behind.

Nothing depends on it: who waits for an order is woken a moment later, and who was not woken reads the store when its
time is over.

What a worker of the cluster does from time to time: old events pruned, its lag shown. None of it is a guarantee.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from workers.errors import InfrastructureDown
from workers.kafka.source import KafkaSource
from workers.long_poll import OrderChanges
from workers.metrics import WorkerMetrics
from workers.postgres.store import PostgresOrderStore
from workers.queries import Emitted

FOLLOW_EVERY_S = 0.25  # what a buyer who has just come back does not notice
EVENTS_MAX = 500  # per look


class Outbox(Protocol):
    """The outbox, for reading."""

    async def newest_event(self) -> int: ...

    async def events_after(self, number: int, limit: int) -> Sequence[Emitted]: ...


async def follow(outbox: Outbox, changes: OrderChanges, *, look_every_s: float = FOLLOW_EVERY_S) -> None:
    """For ever: wake whoever waits for an order that an event or a notice is about."""
    last: int | None = None
    while True:
        with suppress(InfrastructureDown):  # the store's own trouble is told by whoever needs it
            last = await outbox.newest_event() if last is None else await _look(outbox, changes, last)
        await asyncio.sleep(look_every_s)


async def _look(outbox: Outbox, changes: OrderChanges, last: int) -> int:
    while found := await outbox.events_after(last, EVENTS_MAX):
        last = found[-1].number
        for named in {emitted.event.key for emitted in found}:
            account, _, order = named.decode("utf-8", "replace").partition(":")
            changes.changed(account, order)
    return last


LOOK_EVERY_S = 1.0
PRUNE_EVERY_S = 600.0  # each time all that is old enough is looked at
BETWEEN_PRUNES_S = 0.2
EVENTS_KEPT_MS = 30 * 86_400_000  # as long as the topic keeps them


async def prune(store: PostgresOrderStore, now_ms: Callable[[], int], *, every_s: float = PRUNE_EVERY_S) -> None:
    """Delete events that were sent long ago, where this worker leads; a little at a time."""
    while True:
        with suppress(InfrastructureDown):  # the loops that need the store say so
            while await store.sending.leads():
                if not await store.prune_sent(older_than_ms=now_ms() - EVENTS_KEPT_MS):
                    break
                await asyncio.sleep(BETWEEN_PRUNES_S)
        await asyncio.sleep(every_s)


async def watch_lag(source: KafkaSource, counted: WorkerMetrics, *, group: str) -> None:
    """Show how far behind each partition is that this worker reads. One that it has lost is shown by who has it now."""
    shown: set[int] = set()
    while True:
        behind = {lag.partition: lag for lag in source.lag()}
        for partition in shown - behind.keys():
            counted.lag_ended(partition=partition, group=group)
        for lag in behind.values():
            counted.lag(messages=lag.messages, seconds=lag.seconds, partition=lag.partition, group=group)
        shown = set(behind)
        await asyncio.sleep(LOOK_EVERY_S)
