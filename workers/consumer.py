"""The first loop of a worker: poll, lock, process, commit, release.

The commit is the last thing that is said, after every record of the batch has its disposition and its events lie in the
outbox; a worker that dies anywhere before leaves a batch that is delivered again and recognised. While infrastructure
is in trouble the loop stands at the batch in hand and tries it again: it polls nothing new, so memory stays what it is,
and the log keeps the rest.

Of a batch that is delivered again, what done-markers and store both know to be done is passed over (`workers.locks`).

Sending the events is the relay's work (`workers.outbox_relay`), which is woken after each batch and not waited for:
where their topic is away, the outbox grows and orders go on.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from workers.backoff import Backoff, BackoffObserver
from workers.errors import InfrastructureDown
from workers.locks import IdempotencyLocks, LockResult
from workers.settlement.plan import LogRecord, Position

BATCH_MAX = 500  # where a transaction's cost per record stops falling
LOCK_WAITS = 5
LOCK_WAIT_S = 0.2  # five of them: what a batch of another worker takes, with room


class Source(Protocol):
    """The log, from where this worker goes on."""

    async def poll(self, max_records: int) -> Sequence[LogRecord]:
        """The next records in their order, each once; empty after a short while without any.

        Raises:
            InfrastructureDown: nothing was taken; poll again.
        """

    async def commit(self, upto: Sequence[Position]) -> None:
        """Everything up to these positions, one for each partition, has its disposition.

        Raises:
            InfrastructureDown: it may not be remembered; then the records come again.
        """


class LockObserver(Protocol):
    """Those who want to know how locking goes: `acquired`, `contended_then_acquired`, `timeout` or `error`; and how
    many records were `done` before."""

    def lock_outcome(self, outcome: str, count: int) -> None: ...


class ConsumerObserver(BackoffObserver, LockObserver, Protocol):
    """Both, in one, who also hear how long the steps of a batch took that are this loop's own."""

    def step(self, name: str, seconds: float) -> None: ...


async def none_are_settled(records: Sequence[LogRecord]) -> bool:
    """For locks that leave no done-markers: nobody asks."""
    return False


class Consumer:
    """One worker's loop. `token` is its name among those that lock; `wake_relay` wakes the relay.

    `are_settled` tells whether each of these records is what the store has settled at its position.
    """

    def __init__(
        self,
        *,
        source: Source,
        locks: IdempotencyLocks,
        process: Callable[[Sequence[LogRecord]], Awaitable[None]],
        wake_relay: Callable[[], None],
        observer: ConsumerObserver,
        token: bytes,
        are_settled: Callable[[Sequence[LogRecord]], Awaitable[bool]] = none_are_settled,
        batch_max: int = BATCH_MAX,
        lock_wait_s: float = LOCK_WAIT_S,
    ) -> None:
        self._source = source
        self._locks = locks
        self._process = process
        self._wake_relay = wake_relay
        self._observer = observer
        self._token = token
        self._are_settled = are_settled
        self._batches = 0
        self._batch_max = batch_max
        self._lock_wait_s = lock_wait_s
        self._stopping = asyncio.Event()
        self._backoff = Backoff(observer, self._stopping)

    def stop(self) -> None:
        """Ask the loop to end after the batch in hand."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until stopped. Returns with nothing in hand, or with a batch that is delivered again.

        Raises:
            DeadRun: too many dead records in a row; they are held, and nothing is lost.
            Broken: something we depend on is damaged.
        """
        while not self._stopping.is_set():
            try:
                await self.run_once()
            except InfrastructureDown:
                if not self._stopping.is_set():
                    raise

    async def run_once(self) -> int:
        """One batch from poll to release; how many records it had."""
        batch = await self._backoff.until_done(lambda: self._source.poll(self._batch_max))
        if not batch:
            return 0
        self._batches += 1
        token = b"%s:%d" % (self._token, self._batches)
        ends = {log_record.record.key: log_record.position for log_record in batch}
        keys = list(ends)
        done: Mapping[bytes, Position] = {}
        try:
            began_s = time.perf_counter()
            ours, done_markers = await self._acquire(keys, token)
            self._observer.step("claim", time.perf_counter() - began_s)
            todo = await self._without_done(batch, done_markers) if done_markers else batch
            others = [log_record for log_record in todo if log_record.record.key not in ours]
            if others:
                await self._apply([log_record for log_record in todo if log_record.record.key in ours])
                await self._wait_for(others, token)
                await self._apply(others)
            else:
                await self._apply(todo)
            done = ends
            began_s = time.perf_counter()
            await self._backoff.until_done(lambda: self._source.commit(_ends(batch)))
            self._observer.step("commit", time.perf_counter() - began_s)
        finally:
            began_s = time.perf_counter()
            await self._release(keys, token, done)
            self._observer.step("release", time.perf_counter() - began_s)
        return len(batch)

    async def _apply(self, batch: Sequence[LogRecord]) -> None:
        if not batch:
            return
        await self._backoff.until_done(lambda: self._process(batch))
        self._wake_relay()

    async def _acquire(self, keys: Sequence[bytes], token: bytes) -> LockResult:
        """The keys that are ours; all of them where locks do not work, since the store decides anyway."""
        try:
            result = await self._locks.acquire(keys, token)
        except InfrastructureDown:
            self._observer.lock_outcome("error", len(keys))
            return LockResult(set(keys), {})
        if result.ours:
            self._observer.lock_outcome("acquired", len(result.ours))
        return result

    async def _without_done(
        self, batch: Sequence[LogRecord], done_markers: Mapping[bytes, Position]
    ) -> Sequence[LogRecord]:
        """What is left to do, where done-markers say that some is done and the store says it too."""
        rest: list[LogRecord] = []
        done: list[LogRecord] = []
        for log_record in batch:
            (done if _is_within(log_record.position, done_markers.get(log_record.record.key)) else rest).append(
                log_record
            )
        try:
            if not done or not await self._are_settled(done):
                return batch
        except InfrastructureDown:
            return batch  # what needs the store will wait for it
        self._observer.lock_outcome("done", len(done))
        return rest

    async def _wait_for(self, others: Sequence[LogRecord], token: bytes) -> None:
        """Returns when the other worker is done with them, or has had time enough."""
        missing = list(dict.fromkeys(log_record.record.key for log_record in others))
        for _ in range(LOCK_WAITS):
            await asyncio.sleep(self._lock_wait_s)
            try:
                ours, _ = await self._locks.acquire(missing, token)
            except InfrastructureDown:
                self._observer.lock_outcome("error", len(missing))
                return
            if ours:
                self._observer.lock_outcome("contended_then_acquired", len(ours))
            missing = [key for key in missing if key not in ours]
            if not missing:
                return
        self._observer.lock_outcome("timeout", len(missing))

    async def _release(self, keys: Sequence[bytes], token: bytes, done: Mapping[bytes, Position]) -> None:
        try:
            await self._locks.release(keys, token, done)
        except InfrastructureDown:
            self._observer.lock_outcome("error", len(keys))  # they expire


def _is_within(position: Position, done_marker: Position | None) -> bool:
    return (
        done_marker is not None
        and position.partition == done_marker.partition
        and position.offset <= done_marker.offset
    )


def _ends(batch: Sequence[LogRecord]) -> list[Position]:
    """The last position of each partition in the batch."""
    ends: dict[int, Position] = {}
    for log_record in batch:
        ends[log_record.position.partition] = max(
            log_record.position, ends.get(log_record.position.partition, log_record.position)
        )
    return list(ends.values())
