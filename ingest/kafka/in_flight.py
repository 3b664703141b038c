"""The producer in service with its records in flight, whose results tell its health: `ActiveProducer`."""

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol, assert_never

from msgspec import Struct

from ingest.errors import Unavailable
from ingest.kafka.batches import Batches, Batching
from ingest.kafka.breaker import Breaker
from ingest.quota import Quota


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


class Producer(Batching, Protocol):
    """One client of the log, which is started at most once."""

    @property
    def partitions(self) -> int:
        """The topic's partition count by the latest metadata; 0 while the topic is not known to exist."""

    @property
    def has_ended(self) -> bool:
        """Whether the sender has ended, so that no record will ever be sent."""

    async def start(self) -> None:
        """Connect. Return when a broker has sent the cluster's metadata; raise any exception if none has."""

    async def refresh_metadata(self) -> bool:
        """Fetch the metadata of cluster and topic. Return whether a broker answered in time."""

    async def close(self, *, flush_s: float) -> None:
        """Let records in flight end for at most `flush_s`, then close by force.

        When this returns, every future that `send` returned has ended.
        """

    def fault_of(self, error: BaseException, *, was_sent: bool) -> ProducerFault | None:
        """Return the fault if the producer is unusable after this error of a batch; `None` if it is not."""

    def failure_of(self, error: BaseException) -> AppendFailure:
        """Return the meaning of this error of a batch for the log."""


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
        on_refused: Callable[[AppendFailure, BaseException], None],
    ) -> None:
        self.producer = producer
        self.batches = Batches(
            producer, quota, on_end=self._ended, on_failed_send=self.send_failed, on_overdue=self._overdue
        )
        self.fault: ProducerFault | None = None
        self.acknowledged = 0
        self._breaker = breaker
        self._on_refused = on_refused
        self._has_failed_records = False
        self._is_closing = False

    @property
    def is_waiting_for_ack(self) -> bool:
        return self._has_failed_records or bool(self.batches)

    def send_failed(self, error: Exception) -> None:
        """Report records that could not be sent at all."""
        self.fault = self.fault or self.producer.fault_of(error, was_sent=False)
        self._report(error)

    async def close(self, *, flush_s: float) -> None:
        """Close the producer, after `flush_s` for records in flight. All records have ended when this returns."""
        self._is_closing = True
        clock = asyncio.get_running_loop().time
        until_s = clock() + flush_s
        try:
            await self.batches.flush(within_s=flush_s)
            await self.producer.close(flush_s=max(0.0, until_s - clock()))
        finally:
            self.batches.end_all()

    def _ended(self, error: BaseException | None, count: int) -> None:
        if error is None:
            self.acknowledged += count
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

    def _overdue(self) -> None:
        if not self._is_closing:
            self._has_failed_records = True
            self._breaker.failed("Kafka does not acknowledge records in time")
