"""Planted defects: each breaks one promise, and a simulation that does not notice it proves nothing."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from hashlib import sha256
from typing import Any
from unittest import mock

from msgspec import structs
from tenacity.wait import wait_exponential, wait_random

from ingest.kafka.batches import Append, Batches
from schemas import interpret
from schemas.events import Outgoing
from schemas.notification import Notification
from schemas.orders import Claim
from tests.simulation import history
from tests.simulation.ports import Group, Log, SimulatedSource, SimulatedStore
from tests.support.stores import MemoryStore
from workers.backoff import Backoff
from workers.consumer import Consumer
from workers.errors import InfrastructureDown
from workers.processing import Processing
from workers.settlement import transitions
from workers.settlement.plan import Decide, LoadRequest, LogRecord, StoreSnapshot, WritePlan

FORGOTTEN_MAX = 3


def acknowledges_before_the_log() -> AbstractContextManager[Any]:
    """`success` before the durable acknowledgement."""
    append = Batches.append

    def early(self: Batches, *arguments: Any) -> Append:
        appended = append(self, *arguments)
        appended.end()
        return appended

    return mock.patch.object(Batches, "append", early)


def commits_automatically() -> AbstractContextManager[Any]:
    """Offsets committed when records are handed out."""
    taken = SimulatedSource._taken

    def and_committed(self: SimulatedSource, max_records: int) -> list[LogRecord]:
        batch = taken(self, max_records)
        self._committed([record.position for record in batch])
        return batch

    return mock.patch.object(SimulatedSource, "_taken", and_committed)


def starts_at_the_latest() -> AbstractContextManager[Any]:
    """A partition without committed offsets is read from its end."""

    def latest(self: SimulatedSource, partition: int) -> int:
        return self._group.committed[partition] or len(self._group.log.partitions[partition])

    return mock.patch.object(SimulatedSource, "first_offset", latest)


def knows_duplicates_by_redis_alone() -> AbstractContextManager[Any]:
    """The store does not look for the notification's id."""
    known = MemoryStore.known

    def without_ids(self: MemoryStore, needs: LoadRequest) -> StoreSnapshot:
        return structs.replace(known(self, needs), ledger={})

    return mock.patch.object(MemoryStore, "known", without_ids)


def takes_the_body_for_the_id() -> AbstractContextManager[Any]:
    """A duplicate is what has the same bytes, but a resend has another time and signature."""
    read = interpret.read

    def by_body(body: bytes, *arguments: Any, **options: Any) -> Notification:
        return structs.replace(read(body, *arguments, **options), id=sha256(body).hexdigest())

    return mock.patch.object(interpret, "read", by_body)


def commits_offsets_before_the_store() -> AbstractContextManager[Any]:
    """Offsets committed before the store's transaction."""
    process_batch = Consumer._process_batch

    async def late(self: Consumer, batch: Sequence[LogRecord], *arguments: Any) -> None:
        await self._commit(batch)
        await process_batch(self, batch, *arguments)

    return mock.patch.object(Consumer, "_process_batch", late)


def tells_before_the_store() -> AbstractContextManager[Any]:
    """Events sent before the transaction that they tell of is committed."""
    apply = Processing._apply

    async def and_tells(self: Processing, *arguments: Any, **options: Any) -> None:
        store = self._store

        async def settle(needs: LoadRequest, decide: Decide) -> WritePlan:
            early: list[Outgoing] = []

            def decide_and_keep(snapshot: StoreSnapshot) -> WritePlan:
                plan = decide(snapshot)
                early.extend(plan.events)
                return plan

            memory: MemoryStore = store.memory  # type: ignore[attr-defined]
            decide_and_keep(memory.known(needs))
            await self._events.publish(early)
            return await store.settle(needs, decide)

        with mock.patch.object(self, "_store", mock.Mock(wraps=store, settle=settle)):
            await apply(self, *arguments, **options)

    return mock.patch.object(Processing, "_apply", and_tells)


def writes_without_a_fence() -> AbstractContextManager[Any]:
    """A worker that lost its lock writes what it decided long ago."""
    patches = ExitStack()
    patches.enter_context(mock.patch.object(SimulatedStore, "is_unchanged", return_value=True))
    patches.enter_context(mock.patch.object(MemoryStore, "_check_version"))
    return patches


def adds_up_cumulative_refunds() -> AbstractContextManager[Any]:
    """Totals so far are added up, instead of taking the largest one."""
    largest = transitions._largest_total

    def added(claim: Claim, notification: Notification) -> int:
        return claim.refunded_total_minor + largest(structs.replace(claim, refunded_total_minor=0), notification)

    return mock.patch.object(transitions, "_largest_total", added)


def holds_outside_the_transaction() -> AbstractContextManager[Any]:
    """Held rows are written after the transaction, by a call that a kill can prevent."""

    async def settle(self: SimulatedStore, needs: LoadRequest, decide: Decide) -> WritePlan:
        snapshot = await self._call(lambda: self.memory.known(needs))
        plan = decide(snapshot)
        later, plan.held = plan.held, []
        await self._call(lambda: self.commit(needs, snapshot, plan))

        def hold() -> None:
            for row in later:
                self.memory._hold(row)

        await self._call(hold)
        return plan

    return mock.patch.object(SimulatedStore, "settle", settle)


def waits_without_a_maximum() -> AbstractContextManager[Any]:
    """Backoff doubles for ever, so that a long outage goes on after its end."""
    build = Backoff.__init__

    def endless(self: Backoff, *arguments: Any, **options: Any) -> None:
        build(self, *arguments, **options)
        self._wait = wait_exponential(multiplier=0.1) + wait_random(0, 0.1)

    return mock.patch.object(Backoff, "__init__", endless)


def takes_an_unknown_commit_for_none() -> AbstractContextManager[Any]:
    """A commit without an answer counts as not done: the batch is written anew, whatever is in the store."""
    known = MemoryStore.known

    def nothing_settled(self: MemoryStore, needs: LoadRequest) -> StoreSnapshot:
        return structs.replace(known(self, needs), settled=frozenset())

    return mock.patch.object(MemoryStore, "known", nothing_settled)


def takes_an_unknown_commit_for_done() -> AbstractContextManager[Any]:
    """A commit without an answer counts as done."""
    settle = SimulatedStore.settle

    async def believed(self: SimulatedStore, needs: LoadRequest, decide: Decide) -> WritePlan:
        plans: list[WritePlan] = []

        def decide_and_keep(snapshot: StoreSnapshot) -> WritePlan:
            plans.append(decide(snapshot))
            return plans[-1]

        try:
            return await settle(self, needs, decide_and_keep)
        except InfrastructureDown:
            if not plans:
                raise
            return plans[-1]

    return mock.patch.object(SimulatedStore, "settle", believed)


def forgets_acknowledged_records() -> AbstractContextManager[Any]:
    """A log that acknowledges, and loses its last records at a restart."""
    restart = history.Receiver.restart

    def and_forget(self: history.Receiver) -> None:
        log: Log = self._world.log
        group: Group = self._world.group
        for partition, records in enumerate(log.partitions):
            del records[max(group.committed[partition], len(records) - FORGOTTEN_MAX) :]
        restart(self)

    return mock.patch.object(history.Receiver, "restart", and_forget)


MUTANTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    each.__name__: each
    for each in (
        acknowledges_before_the_log,
        commits_automatically,
        starts_at_the_latest,
        knows_duplicates_by_redis_alone,
        takes_the_body_for_the_id,
        commits_offsets_before_the_store,
        tells_before_the_store,
        writes_without_a_fence,
        adds_up_cumulative_refunds,
        holds_outside_the_transaction,
        waits_without_a_maximum,
        takes_an_unknown_commit_for_none,
        takes_an_unknown_commit_for_done,
        forgets_acknowledged_records,
    )
}
