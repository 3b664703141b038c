"""Records in flight: sent to a producer, and neither acknowledged nor known to be lost.

`ActiveProducer` is the producer in service with its records in flight, and judges its health by their results.
"""

import asyncio
from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import Any, Protocol, assert_never

from msgspec import Struct

from ingest.errors import Unavailable
from ingest.kafka.breaker import Breaker
from ingest.quota import Quota
from schemas.record_format import Record

Delivered = asyncio.Future[Any]
Waiter = asyncio.Future[None]
SWEEP_S = 0.02  # minimum time between two checks of the deadlines


class ProducerFault(StrEnum):
    """Why a producer is replaced."""

    SEQUENCE = "sequence"  # the broker misses a batch, or has forgotten the producer: it refuses all later batches
    FENCED = "fenced"
    CLOSED = "closed"
    UNEXPECTED = "unexpected"  # an error that aiokafka's sender does not handle
    SENDER_ENDED = "sender_ended"
    REFUSED_BATCH = "refused_batch"  # leaves a hole in the sequence of an idempotent producer
    SILENT = "silent"  # no acknowledgement, or no answer of a broker, for too long


class AppendFailure(StrEnum):
    """Meaning of a record's failure for the log. None of them proves that the record was not written."""

    UNKNOWN = "unknown"  # no acknowledgement in time
    REFUSED = "refused"  # the broker refused this batch; the next may be accepted
    FORBIDDEN = "forbidden"  # the receiver has no permission to write to the topic
    OURS = "ours"  # the record could not be sent, because it or this program is wrong


class QuotaLimits(Struct, frozen=True, kw_only=True):
    """In-flight limits of one process. More records would only wait in memory."""

    records_max: int = 4096
    bytes_max: int = 32 * 1024 * 1024


def record_quota(limits: QuotaLimits) -> Quota:
    """Return the counter of records in flight for all producers of the process, including those being replaced.

    It raises Unavailable if there are too many.
    """
    return Quota(
        count_max=limits.records_max,
        bytes_max=limits.bytes_max,
        exceeded=lambda: Unavailable("too many records are in flight to Kafka"),
    )


class PendingRecords:
    """The records in flight of one producer.

    Calls `on_done` with the error or `None` when a record has ended, and `on_overdue` when its deadline has passed.

    A sender's wait and its record end at different times. The wait ends with the record, at its deadline, or when the
    sender is cancelled. The record ends with the producer's future and not before. Until then it uses memory and may
    still be written, so it counts against the quota however long ago the sender was refused.
    """

    def __init__(
        self,
        quota: Quota,
        *,
        on_done: Callable[[BaseException | None], None],
        on_overdue: Callable[[], None],
        deadline_s: float,
    ) -> None:
        self._quota = quota
        self._on_done = on_done
        self._on_overdue = on_overdue
        self._deadline_s = deadline_s
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Delivered, tuple[Waiter, int, float]] = {}  # in the order of their deadlines
        self._abandoned: dict[Delivered, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._on_delivered = self._end  # one bound method for all futures

    def __bool__(self) -> bool:
        return bool(self._waiting or self._abandoned)

    def track(self, delivered: Delivered, size: int, began_s: float) -> Waiter:
        """Track a record that was taken from the quota, and release it in the end. Return a future to await.

        The future ends when the record is durable. It raises Unavailable if that is not known to be so.
        """
        # A future of its own, because a sender that is cancelled while it awaits a future cancels that future. If it
        # were the producer's, the record's result would be lost.
        waiter: Waiter = self._loop.create_future()
        due_s = began_s + self._deadline_s
        self._waiting[delivered] = (waiter, size, due_s)
        delivered.add_done_callback(self._on_delivered)
        if self._timer is None:  # one timer is enough, because deadlines pass in the order of the appends
            self._timer = self._loop.call_at(due_s, self._sweep)
        return waiter

    def cancel_all(self) -> None:
        """End all records, because their producer is closed and will never end them."""
        for delivered in (*self._waiting, *self._abandoned):
            delivered.cancel()

    def _end(self, delivered: Delivered) -> None:
        error = asyncio.CancelledError() if delivered.cancelled() else delivered.exception()
        waiting = self._waiting.pop(delivered, None)
        if waiting is None:
            self._quota.release(self._abandoned.pop(delivered))
        else:
            waiter, size, _ = waiting
            self._quota.release(size)
            if waiter.done():
                pass  # the sender was cancelled
            elif error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(Unavailable(f"unknown whether written: {error!r}"))
        self._on_done(error)

    def _sweep(self) -> None:
        """End the waits whose deadlines have passed."""
        self._timer = None
        now_s = self._loop.time()
        while self._waiting:
            delivered, (waiter, size, due_s) = next(iter(self._waiting.items()))
            if due_s > now_s:
                self._timer = self._loop.call_at(max(due_s, now_s + SWEEP_S), self._sweep)
                return
            del self._waiting[delivered]
            self._abandoned[delivered] = size
            self._on_overdue()  # even if the sender was cancelled: it means the same for the log
            if not waiter.done():
                waiter.set_exception(Unavailable("unknown whether written: no acknowledgement in time"))


Sending = Coroutine[Any, Any, Delivered]


class Producer(Protocol):
    """One client of the log, which is started at most once."""

    @property
    def partitions(self) -> int:
        """The topic's partition count by the latest metadata; 0 while the topic is not known to exist."""

    @property
    def has_ended(self) -> bool:
        """Whether the sender has ended, so that no record will ever be sent."""

    async def start(self) -> None:
        """Connect. Return when a broker has sent the cluster's metadata; raise any exception if none has."""

    def send(self, record: Record, partition: int, /) -> Sending:
        """Add a record to its partition's batch; wait only if the batch is full. The future has the record's result.

        If it is cancelled while it waits, the record is not sent. Only the caller awaits the future.
        """

    async def refresh_metadata(self) -> bool:
        """Fetch the metadata of cluster and topic. Return whether a broker answered in time."""

    async def close(self, *, flush_s: float) -> None:
        """Let records in flight end for at most `flush_s`, then close by force.

        When this returns, every future that `send` returned has ended.
        """

    def fault_of(self, error: BaseException, *, was_sent: bool) -> ProducerFault | None:
        """Return the fault if the producer is unusable after this error of a record; `None` if it is not."""

    def failure_of(self, error: BaseException) -> AppendFailure:
        """Return the meaning of this error of a record for the log."""


class ActiveProducer:
    """The producer in service and its records in flight.

    `acknowledged` counts records. `is_waiting_for_ack` is true if a record sent since the last acknowledgement is in
    flight or has failed. `fault` is set when the producer must be replaced. `on_refused` receives failures that an
    operator must see.
    """

    def __init__(
        self,
        producer: Producer,
        *,
        quota: Quota,
        breaker: Breaker,
        deadline_s: float,
        on_refused: Callable[[AppendFailure, BaseException], None],
    ) -> None:
        self.producer = producer
        self.pending = PendingRecords(
            quota, on_done=self._record_done, on_overdue=self._record_overdue, deadline_s=deadline_s
        )
        self.fault: ProducerFault | None = None
        self.acknowledged = 0
        self._breaker = breaker
        self._on_refused = on_refused
        self._has_failed_records = False
        self._is_closing = False

    @property
    def is_waiting_for_ack(self) -> bool:
        return self._has_failed_records or bool(self.pending)

    def send_failed(self, error: Exception) -> None:
        """Report a record that could not be sent at all."""
        self.fault = self.fault or self.producer.fault_of(error, was_sent=False)
        self._report(error)

    async def close(self, *, flush_s: float) -> None:
        """Close the producer, after `flush_s` for records in flight. All records end soon after this returns."""
        self._is_closing = True
        try:
            await self.producer.close(flush_s=flush_s)
        finally:
            self.pending.cancel_all()

    def _record_done(self, error: BaseException | None) -> None:
        if error is None:
            self.acknowledged += 1
            self._has_failed_records = False
            self._breaker.succeeded()
        elif not self._is_closing:  # failures of a replaced producer mean nothing for its successor
            self.fault = self.fault or self.producer.fault_of(error, was_sent=True)
            self._report(error)

    def _report(self, error: BaseException) -> None:
        failure = self.producer.failure_of(error)
        match failure:
            case AppendFailure.UNKNOWN:
                self._has_failed_records = True
                self._breaker.failed(f"Kafka does not acknowledge records: {error!r}")
            case AppendFailure.REFUSED:
                self._breaker.failed(f"Kafka refuses all records: {error!r}")
                self._on_refused(failure, error)
            case AppendFailure.FORBIDDEN:
                self._breaker.trip(f"Kafka denies the receiver permission to write: {error!r}")
                self._on_refused(failure, error)
            case AppendFailure.OURS:
                self._breaker.failed(f"records cannot be sent: {error!r}")
                self._on_refused(failure, error)
            case _:
                assert_never(failure)

    def _record_overdue(self) -> None:
        if not self._is_closing:
            self._has_failed_records = True
            self._breaker.failed("Kafka does not acknowledge records in time")


def send_now(sending: Sending) -> Delivered | None:
    """Return the future of a record that can be sent without waiting; `None`, with nothing sent, if its batch is full.

    Nearly every record goes this way. A coroutine that does not wait needs neither a deadline nor a task.
    """
    try:
        sending.send(None)
    except StopIteration as ended:
        delivered: Delivered = ended.value
        return delivered
    sending.close()
    return None


async def send_within(send: Callable[[], Sending], *, within_s: float) -> Delivered:
    """Return the future of a record whose batch is full, when there is room.

    Raises:
        TimeoutError: there was no room in time, and the record was not sent.
    """
    async with asyncio.timeout(within_s):
        return await send()
