"""The first loop of a worker, and the worker's story: how one batch gets from the log to its committed offsets.

    poll      take the next records                       fails: retry with backoff
    lock      the idempotency locks of their orders       fails: go on without, because the store decides
    process   each record gets its disposition, durably   fails: retry the same batch; damage stops the worker
                                                          ends the process: `workers.fatal_records`
    commit    the offsets                                 fails: retry; after a rebalance the batch is redelivered
    release   turn the locks into done-markers            fails: the locks expire

`process` skips the records of a redelivered batch that are already processed (`_without_processed`), and leaves orders
that another worker has locked to the end. `workers.processing` goes on from there.

If the worker dies before the commit, the batch is redelivered, and the store recognises its records by their positions.
During an outage the loop keeps the batch in hand and polls nothing new: memory stays bounded, and the log keeps the
rest. The relay sends the events (`workers.outbox_relay`). The consumer wakes it and does not wait for it: while their
topic is away, the outbox grows and orders still change.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from workers.backoff import Backoff, BackoffObserver
from workers.errors import InfrastructureDown
from workers.fatal_records import FatalRecords
from workers.locks import IdempotencyLocks, LockResult
from workers.settlement.plan import LogRecord, Position
from workers.traces import NOT_TRACED, Tracing

BATCH_MAX = 500  # beyond it a transaction's cost per record falls no further
LOCK_WAITS = 5
LOCK_WAIT_S = 0.2  # five of them are longer than another worker's batch takes


class Source(Protocol):
    """The log, from this worker's offsets on."""

    async def poll(self, max_records: int) -> Sequence[LogRecord]:
        """Return the next records in order, each once; after a short wait without any, none.

        Raises:
            InfrastructureDown: no record was taken; poll again.
        """

    async def commit(self, upto: Sequence[Position]) -> None:
        """Commit these positions, one for each partition: every record up to them has its disposition.

        Raises:
            InfrastructureDown: the commit may be lost; the records are redelivered then.
        """


class LockObserver(Protocol):
    """Observes locks by outcome: `acquired`, `contended_then_acquired`, `timeout`, `error`; and records that were
    `done` before. And how long they were waited for (`wait`), or held (`hold`)."""

    def lock_outcome(self, outcome: str, count: int) -> None: ...

    def lock_span(self, span: str, seconds: float) -> None: ...


class ConsumerObserver(BackoffObserver, LockObserver, Protocol):
    """Observes waits, locks, and the duration of the steps that are this loop's own."""

    def step(self, name: str, seconds: float) -> None: ...


async def none_are_settled(records: Sequence[LogRecord]) -> bool:
    """Stand in for the store where no other process can have settled them: all are processed, and recognised then."""
    return False


class Consumer:
    """The loop. `token` is this worker's name among the lock holders; `are_settled` asks the store whether it has
    processed each of these records, and not other ones at their positions."""

    def __init__(
        self,
        *,
        source: Source,
        locks: IdempotencyLocks,
        process: Callable[[Sequence[LogRecord]], Awaitable[None]],
        wake_relay: Callable[[], None],
        observer: ConsumerObserver,
        token: bytes,
        fatal: FatalRecords[LogRecord],
        are_settled: Callable[[Sequence[LogRecord]], Awaitable[bool]] = none_are_settled,
        batch_max: int = BATCH_MAX,
        lock_wait_s: float = LOCK_WAIT_S,
        tracing: Tracing = NOT_TRACED,
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
        self._tracing = tracing
        self._fatal = fatal
        self._stopping = asyncio.Event()
        self._backoff = Backoff(observer, self._stopping)

    def stop(self) -> None:
        """Ask the loop to end after the batch in hand."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until stopped. A batch that an outage leaves unfinished at the stop is redelivered.

        Raises:
            TooManyDeadLetters: too many dead letters in a row; they are held, and no record is lost.
            InfrastructureDamaged: the log or the store needs an operator.
        """
        while not self._stopping.is_set():
            try:
                await self.run_once()
            except InfrastructureDown:
                if not self._stopping.is_set():
                    raise

    async def run_once(self) -> int:
        """Take one batch from poll to release; return its number of records."""
        batch = await self._backoff.until_done(lambda: self._source.poll(self._batch_max))
        if not batch:
            return 0
        with self._tracing.batch(batch):
            await self._handle(batch)
        return len(batch)

    async def _handle(self, batch: Sequence[LogRecord]) -> None:
        """Take the batch from its locks to their release."""
        self._batches += 1
        token = b"%s:%d" % (self._token, self._batches)
        last_positions = {log_record.record.key: log_record.position for log_record in batch}
        done: Mapping[bytes, Position] = {}
        locking_s = time.perf_counter()
        try:
            locks = await self._lock(list(last_positions), token)
            await self._fatal.handle(batch, lambda: self._process_batch(batch, locks, token), self._process_alone)
            done = last_positions  # the store has the records now, even if the commit fails
            await self._commit(batch)
        finally:
            await self._release(list(last_positions), token, done, since_s=locking_s)

    async def _lock(self, keys: Sequence[bytes], token: bytes) -> LockResult:
        """Acquire the locks of these keys. Without Redis all keys count as ours, because the store decides anyway."""
        began_s = time.perf_counter()
        try:
            locks = await self._locks.acquire(keys, token)
        except InfrastructureDown:
            self._observer.lock_outcome("error", len(keys))
            locks = LockResult(set(keys), {})
        else:
            if locks.ours:
                self._observer.lock_outcome("acquired", len(locks.ours))
        waited_s = time.perf_counter() - began_s
        self._observer.step("claim", waited_s)
        self._observer.lock_span("wait", waited_s)
        return locks

    async def _process_batch(self, batch: Sequence[LogRecord], locks: LockResult, token: bytes) -> None:
        """Give each record its disposition: first of the orders that we have locked, then of the contended ones."""
        records = await self._without_processed(batch, locks.done) if locks.done else batch
        contended = [log_record for log_record in records if log_record.record.key not in locks.ours]
        if not contended:
            await self._process_records(records)
            return
        await self._process_records([log_record for log_record in records if log_record.record.key in locks.ours])
        # Another worker may be at these orders now, so leave it the time for its batch. Then go on without the lock:
        # should it write meanwhile, the store detects the conflict.
        began_s = time.perf_counter()
        await self._wait_for_locks(contended, token)
        self._observer.lock_span("wait", time.perf_counter() - began_s)
        await self._process_records(contended)

    async def _process_alone(self, log_record: LogRecord) -> None:
        """Give a record its disposition and commit its offset, with nothing beside it: it may end the process.

        Raises:
            InfrastructureDown: the stop has come. The records that are left are redelivered.
        """
        if self._stopping.is_set():
            raise InfrastructureDown("stopped between two records of a batch")

        async def process(log_record: LogRecord) -> None:
            # Another process may have set it aside since this one polled it. Reading it would end this process too, and
            # so each owner of the partition in turn, if the commit of the other one came after its rebalance.
            if not await self._are_settled([log_record]):
                await self._process([log_record])

        async def commit(log_record: LogRecord) -> None:
            self._wake_relay()
            await self._commit([log_record])

        await self._backoff.until_done(lambda: self._fatal.alone(log_record, process, commit))

    async def _process_records(self, records: Sequence[LogRecord]) -> None:
        if not records:
            return
        await self._backoff.until_done(lambda: self._process(records))
        self._wake_relay()

    async def _commit(self, batch: Sequence[LogRecord]) -> None:
        began_s = time.perf_counter()
        await self._backoff.until_done(lambda: self._source.commit(_last_of_each_partition(batch)))
        self._observer.step("commit", time.perf_counter() - began_s)

    async def _release(
        self, keys: Sequence[bytes], token: bytes, done: Mapping[bytes, Position], *, since_s: float
    ) -> None:
        """Release the locks, asked for at `since_s`, and leave the done-markers."""
        began_s = time.perf_counter()
        try:
            await self._locks.release(keys, token, done)
        except InfrastructureDown:
            self._observer.lock_outcome("error", len(keys))  # the locks expire
        else:
            self._observer.lock_span("hold", time.perf_counter() - since_s)
        self._observer.step("release", time.perf_counter() - began_s)

    async def _without_processed(
        self, batch: Sequence[LogRecord], done_markers: Mapping[bytes, Position]
    ) -> Sequence[LogRecord]:
        """Drop the records that are already processed: those with a done-marker in Redis that the store confirms."""
        rest: list[LogRecord] = []
        done: list[LogRecord] = []
        for log_record in batch:
            is_done = _is_within(log_record.position, done_markers.get(log_record.record.key))
            (done if is_done else rest).append(log_record)
        # A done-marker alone proves nothing: Redis may remember what a store that failed over has lost.
        try:
            if not done or not await self._are_settled(done):
                return batch
        except InfrastructureDown:
            return batch  # processing needs the store too, and retries until it answers
        self._observer.lock_outcome("done", len(done))
        return rest

    async def _wait_for_locks(self, contended: Sequence[LogRecord], token: bytes) -> None:
        """Return when the locks of these records are ours, or `LOCK_WAITS` waits later."""
        missing = list(dict.fromkeys(log_record.record.key for log_record in contended))
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


def _is_within(position: Position, done_marker: Position | None) -> bool:
    return (
        done_marker is not None
        and position.partition == done_marker.partition
        and position.offset <= done_marker.offset
    )


def _last_of_each_partition(batch: Sequence[LogRecord]) -> list[Position]:
    last: dict[int, Position] = {}
    for log_record in batch:
        position = log_record.position
        last[position.partition] = max(position, last.get(position.partition, position))
    return list(last.values())
