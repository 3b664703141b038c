"""Records on their way: handed to a producer, and not yet known to be written or lost.

Two things end at different times. The wait ends with the record, or when its deadline has passed, or when whoever waits
is cancelled. The flight ends with the producer's own future and not before: until then the record takes up memory and
may still be written, so it keeps its place in the count, however long ago its sender was refused.

The producer's future is never awaited itself: whoever is cancelled while awaiting a future cancels it, and then nobody
would learn how the record ended. One timer watches all deadlines, since they fall due in the order of the appends.

One producer in service: the records it carries, and what they tell of its health.
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
SWEEP_S = 0.02  # at least this long between two looks at the deadlines


class ProducerFault(StrEnum):
    """Why a producer is replaced."""

    SEQUENCE = "sequence"  # the broker misses a batch, or has forgotten the producer: nothing after it is taken
    FENCED = "fenced"
    CLOSED = "closed"
    UNEXPECTED = "unexpected"  # its sender met something that it was not written for
    SENDER_ENDED = "sender_ended"
    REFUSED_BATCH = "refused_batch"  # leaves a hole in the sequence of an idempotent producer
    SILENT = "silent"  # nothing was acknowledged, or no broker answered, for too long


class AppendFailure(StrEnum):
    """What the failure of one record says about the log. In none of them is it certain that nothing was written."""

    UNKNOWN = "unknown"  # no word in time
    REFUSED = "refused"  # the broker would not have this batch; the next may be fine
    FORBIDDEN = "forbidden"  # we may not write to the topic
    OURS = "ours"  # it never came to asking: the record, or this program, is not as it should be


class QuotaLimits(Struct, frozen=True, kw_only=True):
    """How much may be on its way in one process: more would only wait in memory."""

    records_max: int = 4096
    bytes_max: int = 32 * 1024 * 1024


def record_quota(limits: QuotaLimits) -> Quota:
    """Return the counter of pending records for all producers of the process, including those being replaced.

    It raises Unavailable if there are too many.
    """
    return Quota(
        count_max=limits.records_max,
        bytes_max=limits.bytes_max,
        exceeded=lambda: Unavailable("too many records are on their way"),
    )


class PendingRecords:
    """The records of one producer. `landed` hears how each ended, `overdue` of each that has not in time."""

    def __init__(
        self,
        places: Quota,
        *,
        landed: Callable[[BaseException | None], None],
        overdue: Callable[[], None],
        deadline_s: float,
    ) -> None:
        self._places = places
        self._landed = landed
        self._overdue = overdue
        self._deadline_s = deadline_s
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Delivered, tuple[Waiter, int, float]] = {}  # in the order of their deadlines
        self._abandoned: dict[Delivered, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._on_end = self._end  # one bound method for all futures

    def __bool__(self) -> bool:
        return bool(self._waiting or self._abandoned)

    def begin(self, delivered: Delivered, size: int, began_s: float) -> Waiter:
        """Watch a record that has its place already, and free that in the end. What is returned may be awaited.

        It is over when the record is durable; else it raises Unavailable, and whether it was written is unknown.
        """
        waiter: Waiter = self._loop.create_future()
        due_s = began_s + self._deadline_s
        self._waiting[delivered] = (waiter, size, due_s)
        delivered.add_done_callback(self._on_end)
        if self._timer is None:
            self._timer = self._loop.call_at(due_s, self._sweep)
        return waiter

    def forget(self) -> None:
        """The producer is no more: what has not ended by now never will, and ends with this."""
        for delivered in (*self._waiting, *self._abandoned):
            delivered.cancel()

    def _end(self, delivered: Delivered) -> None:
        error = asyncio.CancelledError() if delivered.cancelled() else delivered.exception()
        flight = self._waiting.pop(delivered, None)
        if flight is None:
            self._places.release(self._abandoned.pop(delivered))
        else:
            waiter, size, _ = flight
            self._places.release(size)
            if waiter.done():
                pass  # whoever waited was cancelled
            elif error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(Unavailable(f"unknown whether written: {error!r}"))
        self._landed(error)

    def _sweep(self) -> None:
        """Give up what has waited too long."""
        self._timer = None
        now_s = self._loop.time()
        while self._waiting:
            delivered, (waiter, size, due_s) = next(iter(self._waiting.items()))
            if due_s > now_s:
                self._timer = self._loop.call_at(max(due_s, now_s + SWEEP_S), self._sweep)
                return
            del self._waiting[delivered]
            self._abandoned[delivered] = size
            # It says the same of the log where whoever waited has been cancelled before.
            self._overdue()
            if not waiter.done():
                waiter.set_exception(Unavailable("unknown whether written: no acknowledgement in time"))


Sending = Coroutine[Any, Any, Delivered]


class Producer(Protocol):
    """One client of the log, from its start to its end. It is never started twice."""

    @property
    def partitions(self) -> int:
        """How many the topic has by the latest metadata; 0 while it is not known to exist."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing that is handed to it will ever be sent."""

    async def start(self) -> None:
        """Returns when a broker has told about the cluster; anything that it raises means that none did."""

    def send(self, record: Record, partition: int, /) -> Sending:
        """Hand over one record. It does not wait unless the partition's batch is full; the future says how it ended.

        Cancelled while it waits, the record is not sent. The future is the caller's alone: nobody else awaits it.
        """

    async def look(self) -> bool:
        """Ask for the cluster's and the topic's state anew; whether a broker answered in time."""

    async def close(self, *, flush_s: float) -> None:
        """Let what is under way end within that time, and then be gone, whatever happens.

        When this returns, every future that `send` gave is over.
        """

    def fault_of(self, error: BaseException, *, was_sent: bool) -> ProducerFault | None:
        """Whether it is of no more use, after this error of a record that was sent or could not be."""

    def meaning_of(self, error: BaseException) -> AppendFailure:
        """What this error of a record says about the log."""


class ActiveProducer:
    """`acknowledged` counts records; `is_in_want` says that some were handed over or lost since the last of them."""

    def __init__(
        self,
        producer: Producer,
        *,
        places: Quota,
        breaker: Breaker,
        deadline_s: float,
        refused: Callable[[AppendFailure, BaseException], None],
    ) -> None:
        self.producer = producer
        self.flights = PendingRecords(places, landed=self._landed, overdue=self._overdue, deadline_s=deadline_s)
        self.fault: ProducerFault | None = None
        self.acknowledged = 0
        self._breaker = breaker
        self._refused = refused
        self._has_lost = False
        self._is_retired = False

    @property
    def is_in_want(self) -> bool:
        return self._has_lost or bool(self.flights)

    def lost(self, error: Exception) -> None:
        """A record could not be handed over: nothing was sent of it."""
        self.fault = self.fault or self.producer.fault_of(error, was_sent=False)
        self._tell(error)

    async def retire(self, *, flush_s: float) -> None:
        """End what is under way within that time, and then the producer. All records are over soon after."""
        self._is_retired = True
        try:
            await self.producer.close(flush_s=flush_s)
        finally:
            self.flights.forget()

    def _landed(self, error: BaseException | None) -> None:
        if error is None:
            self.acknowledged += 1
            self._has_lost = False
            self._breaker.succeeded()
        elif not self._is_retired:  # what becomes of a retired producer's records says nothing of its successor
            self.fault = self.fault or self.producer.fault_of(error, was_sent=True)
            self._tell(error)

    def _tell(self, error: BaseException) -> None:
        meaning = self.producer.meaning_of(error)
        match meaning:
            case AppendFailure.UNKNOWN:
                self._has_lost = True
                self._breaker.failed(f"Kafka acknowledges nothing: {error!r}")
            case AppendFailure.REFUSED:
                self._breaker.failed(f"Kafka refuses every record: {error!r}")
                self._refused(meaning, error)
            case AppendFailure.FORBIDDEN:
                self._breaker.trip(f"Kafka forbids us to write: {error!r}")
                self._refused(meaning, error)
            case AppendFailure.OURS:
                self._breaker.failed(f"no record can be handed over: {error!r}")
                self._refused(meaning, error)
            case _:
                assert_never(meaning)

    def _overdue(self) -> None:
        if not self._is_retired:
            self._has_lost = True
            self._breaker.failed("Kafka acknowledges nothing in time")


def send_now(sending: Sending) -> Delivered | None:
    """The future of a record that could be handed over at once. `None`: it has to wait for room, and nothing was sent.

    Nearly every record goes this way, and a coroutine that does not wait needs neither a deadline nor a task.
    """
    try:
        sending.send(None)
    except StopIteration as ended:
        delivered: Delivered = ended.value
        return delivered
    sending.close()
    return None


async def when_there_is_room(send: Callable[[], Sending], *, within_s: float) -> Delivered:
    """The future of a record that has to wait until a batch has gone.

    Raises:
        TimeoutError: it waited too long; it was not sent.
    """
    async with asyncio.timeout(within_s):
        return await send()
