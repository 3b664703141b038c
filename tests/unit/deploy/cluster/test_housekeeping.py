"""Background loops of the cluster: the console follows the outbox, workers prune events and export lag."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from deploy.cluster import housekeeping
from schemas import topics
from schemas.events import Outgoing
from workers.errors import InfrastructureDown
from workers.kafka.lag import Lag
from workers.kafka.source import KafkaSource
from workers.long_poll import OrderChanges
from workers.metrics import WorkerMetrics
from workers.postgres.store import PostgresOrderStore
from workers.queries import Emitted

GROUP = "alipay-notify"


class Outbox:
    """Rows in memory. `is_followed` is set when the newest event has been read."""

    def __init__(self) -> None:
        self.rows: list[Emitted] = []
        self.fails: list[Exception] = []
        self.is_followed = asyncio.Event()

    def write(self, key: str) -> None:
        number = len(self.rows) + 1
        event = Outgoing(topic=topics.ORDER_EVENT, id=f"{key}:{number}", key=key.encode(), value=b"", headers=())
        self.rows.append(Emitted(number=number, event=event, sent_at_ms=None))

    async def newest_event(self) -> int:
        if self.fails:
            raise self.fails.pop(0)
        self.is_followed.set()
        return len(self.rows)

    async def events_after(self, number: int, limit: int) -> Sequence[Emitted]:
        if self.fails:
            raise self.fails.pop(0)
        return self.rows[number : number + limit]


async def test_follow_wakes_only_the_orders_of_new_events() -> None:
    outbox, changes = Outbox(), OrderChanges()
    outbox.write("shop:OLD")
    following = asyncio.create_task(housekeeping.follow(outbox, changes, look_every_s=0.001))
    with changes.watch("shop", "N:1") as waiter, changes.watch("shop", "OLD") as other:
        await outbox.is_followed.wait()
        outbox.write("shop:N:1")
        assert await waiter.wait(5)
        assert not await other.wait(0), "its event was there before the start"
    following.cancel()


async def test_follow_misses_no_event_while_the_store_is_down() -> None:
    outbox, changes = Outbox(), OrderChanges()
    outbox.fails = [InfrastructureDown("gone")]
    following = asyncio.create_task(housekeeping.follow(outbox, changes, look_every_s=0.001))
    with changes.watch("shop", "N1") as waiter:
        await outbox.is_followed.wait()
        outbox.fails = [InfrastructureDown("gone")] * 3
        outbox.write("shop:N1")
        assert await waiter.wait(5)
    following.cancel()


async def test_follow_reads_more_events_than_one_query_returns() -> None:
    outbox, changes = Outbox(), OrderChanges()
    following = asyncio.create_task(housekeeping.follow(outbox, changes, look_every_s=0.001))
    await outbox.is_followed.wait()
    with changes.watch("shop", "LAST") as waiter:
        for number in range(housekeeping.EVENTS_MAX + 10):
            outbox.write(f"shop:{number}")
        outbox.write("shop:LAST")
        assert await waiter.wait(5)
    following.cancel()


class Pruned:
    """A store that leads for a number of turns and has this many full steps to delete."""

    def __init__(self, steps: list[int]) -> None:
        self.steps = steps
        self.older_than_ms: list[int] = []
        self.is_done = asyncio.Event()
        self.sending = self

    async def leads(self) -> bool:
        if not self.steps:
            self.is_done.set()
        return bool(self.steps)

    async def prune_sent(self, *, older_than_ms: int) -> int:
        self.older_than_ms.append(older_than_ms)
        return self.steps.pop(0)


async def test_prune_deletes_until_nothing_is_old_enough_and_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "BETWEEN_PRUNES_S", 0.0)
    store, trusted = Pruned([500, 0, 3]), [False]
    pruning = asyncio.create_task(
        housekeeping.prune(
            cast(PostgresOrderStore, store), lambda: housekeeping.EVENTS_KEPT_MS + 7, lambda: trusted[0], every_s=0
        )
    )
    await asyncio.sleep(0.05)
    assert store.older_than_ms == [], "after a jump of the clock"
    trusted[0] = True
    async with asyncio.timeout(10):
        await store.is_done.wait()
    pruning.cancel()
    assert store.older_than_ms == [7, 7, 7]


async def test_lag_of_a_partition_that_is_gone_is_no_longer_exported() -> None:
    registry = CollectorRegistry()
    worker_metrics = WorkerMetrics(registry, ["shop"], now_ms=lambda: 0)
    looks: Any = iter([(0, 1), (1,)])
    watched = asyncio.Event()

    def lag() -> list[Lag]:
        partitions = next(looks, None)
        if partitions is None:
            watched.set()
            return [Lag(partition=1, messages=5, seconds=2.0)]
        return [Lag(partition=partition, messages=5, seconds=2.0) for partition in partitions]

    def exported(partition: int) -> float | None:
        labels = {"topic": topics.NOTIFICATION, "partition": str(partition), "group": GROUP}
        return registry.get_sample_value("alipay_notify_consumer_lag_messages", labels)

    source = cast(KafkaSource, SimpleNamespace(lag=lag))
    watching = asyncio.create_task(housekeeping.watch_lag(source, worker_metrics, group=GROUP, every_s=0))
    async with asyncio.timeout(10):
        await watched.wait()
    watching.cancel()
    assert (exported(0), exported(1)) == (None, 5)


async def test_leader_adds_up_counts_until_none_is_left_and_again_after_an_outage() -> None:
    left, asked = [True, True, InfrastructureDown("away"), True, False], asyncio.Event()

    async def add_up() -> bool:
        if len(left) == 1:
            asked.set()
            return False
        result = left.pop(0)
        if isinstance(result, Exception):
            raise result
        return bool(result)

    async def leads() -> bool:
        return True

    store = cast(PostgresOrderStore, SimpleNamespace(sending=SimpleNamespace(leads=leads), add_up_counts=add_up))
    adding = asyncio.create_task(housekeeping.add_up_counts(store, every_s=0.001))
    await asyncio.wait_for(asked.wait(), 30)
    adding.cancel()
    assert left == [False]
