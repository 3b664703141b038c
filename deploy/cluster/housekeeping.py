"""Background loops of the cluster's workers and consoles: prune events, add up counts, export lag, follow the outbox.

None of them is a guarantee. If `follow` fails, long polls for an order answer at their timeout instead of at once.
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

FOLLOW_EVERY_S = 0.25  # not noticed by a buyer on the order page
EVENTS_MAX = 500  # per query
LAG_EVERY_S = 1.0
PRUNE_EVERY_S = 600.0  # each time, everything that is old enough is deleted
BETWEEN_PRUNES_S = 0.2
ADD_UP_EVERY_S = 5.0
EVENTS_KEPT_MS = 30 * 86_400_000  # the retention of the event topic


class Outbox(Protocol):
    """The outbox, for reading."""

    async def newest_event(self) -> int: ...

    async def events_after(self, number: int, limit: int) -> Sequence[Emitted]: ...


async def follow(outbox: Outbox, changes: OrderChanges, *, look_every_s: float = FOLLOW_EVERY_S) -> None:
    """Wake long polls for ever: read the new events of all workers from the outbox, and report their orders."""
    last: int | None = None
    while True:
        with suppress(InfrastructureDown):  # the readiness check of the store reports it
            last = await outbox.newest_event() if last is None else await _read_on(outbox, changes, last)
        await asyncio.sleep(look_every_s)


async def _read_on(outbox: Outbox, changes: OrderChanges, last: int) -> int:
    while found := await outbox.events_after(last, EVENTS_MAX):
        last = found[-1].number
        for key in {emitted.event.key for emitted in found}:
            scope, _, order = key.decode("utf-8", "replace").partition(":")
            changes.changed(scope, order)
    return last


async def prune(
    store: PostgresOrderStore,
    now_ms: Callable[[], int],
    is_clock_trusted: Callable[[], bool],
    *,
    every_s: float = PRUNE_EVERY_S,
) -> None:
    """Delete events sent more than `EVENTS_KEPT_MS` ago, in small steps, for ever, while this worker leads; nothing for
    a day after the clock has jumped."""
    while True:
        with suppress(InfrastructureDown):  # the loops that need the store report it
            while is_clock_trusted() and await store.sending.leads():
                if not await store.prune_sent(older_than_ms=now_ms() - EVENTS_KEPT_MS):
                    break
                await asyncio.sleep(BETWEEN_PRUNES_S)
        await asyncio.sleep(every_s)


async def add_up_counts(store: PostgresOrderStore, *, every_s: float = ADD_UP_EVERY_S) -> None:
    """Add up the changes of the held notifications' counts, for ever, while this worker leads."""
    while True:
        is_more = False
        with suppress(InfrastructureDown):  # the counts stay exact, and are only read more slowly
            is_more = await store.sending.leads() and await store.add_up_counts()
        await asyncio.sleep(BETWEEN_PRUNES_S if is_more else every_s)


async def watch_lag(
    source: KafkaSource, worker_metrics: WorkerMetrics, *, group: str, every_s: float = LAG_EVERY_S
) -> None:
    """Export the lag of each assigned partition, for ever. Drop a partition that is gone: its new worker exports it."""
    shown: set[int] = set()
    while True:
        behind = {lag.partition: lag for lag in source.lag()}
        for partition in shown - behind.keys():
            worker_metrics.lag_ended(partition=partition, group=group)
        for lag in behind.values():
            worker_metrics.lag(messages=lag.messages, seconds=lag.seconds, partition=lag.partition, group=group)
        shown = set(behind)
        await asyncio.sleep(every_s)
