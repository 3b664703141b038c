"""What a worker of the cluster does from time to time: old events pruned, its lag shown. None of it is a guarantee."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from workers.errors import InfrastructureDown
from workers.kafka.source import KafkaSource
from workers.metrics import Metrics
from workers.postgres.store import OrderStore

LOOK_EVERY_S = 1.0
PRUNE_EVERY_S = 600.0  # each time all that is old enough is looked at
BETWEEN_PRUNES_S = 0.2
EVENTS_KEPT_MS = 30 * 86_400_000  # as long as the topic keeps them


async def prune(store: OrderStore, now_ms: Callable[[], int], *, every_s: float = PRUNE_EVERY_S) -> None:
    """Delete events that were sent long ago, where this worker leads; a little at a time."""
    while True:
        with suppress(InfrastructureDown):  # the loops that need the store say so
            while await store.sending.leads():
                if not await store.prune_sent(older_than_ms=now_ms() - EVENTS_KEPT_MS):
                    break
                await asyncio.sleep(BETWEEN_PRUNES_S)
        await asyncio.sleep(every_s)


async def watch_lag(source: KafkaSource, counted: Metrics, *, group: str) -> None:
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
