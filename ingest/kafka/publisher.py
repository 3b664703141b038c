"""The receiver's log on Kafka (`ingest.receive.Log`): `append` returns when all in-sync replicas have the record.

It never repeats a send and never queues a record. If no working producer accepts a record now, it refuses it at once:
Alipay resends the notification for a day, and memory could not keep it that long.
"""

import asyncio
from collections.abc import Callable

from ingest.errors import Unavailable
from ingest.kafka.breaker import Breaker, BreakerPolicy, BreakerState
from ingest.kafka.in_flight import (
    ActiveProducer,
    AppendFailure,
    Producer,
    QuotaLimits,
    record_quota,
)
from ingest.kafka.supervisor import Supervisor, SupervisorObserver, SupervisorTiming
from ingest.log_port import Logger, RateLimit
from ingest.pending import Pending
from schemas import topics
from schemas.record_format import Record
from schemas.telemetry import Field

DEADLINE_S = 2.5  # below the three seconds in which every request is answered
RECORD_OVERHEAD_BYTES = 1024  # headers, key and the objects around them, for the limit in bytes
REFUSALS_LOGGED_PER_S = 0.2


class Publisher:
    """`build` makes its producers (`ingest.kafka.producer.factory`).

    `refuse_if` is called for every append. It returns the reason to refuse the record, such as a topic that is too weak
    for the promise of `append`, or `None`.
    """

    def __init__(
        self,
        *,
        build: Callable[[], Producer],
        observer: SupervisorObserver,
        logger: Logger,
        deadline_s: float = DEADLINE_S,
        refuse_if: Callable[[], str | None] = lambda: None,
        limits: QuotaLimits | None = None,
        breaker_policy: BreakerPolicy | None = None,
        timing: SupervisorTiming | None = None,
    ) -> None:
        self._deadline_s = deadline_s
        self._logger = logger
        self._refuse_if = refuse_if
        self._quota = record_quota(limits or QuotaLimits())
        self._now_s = asyncio.get_running_loop().time
        self._breaker = Breaker(breaker_policy or BreakerPolicy(), now_s=self._now_s)
        self._refusals = RateLimit(per_s=REFUSALS_LOGGED_PER_S, burst=3)
        self._supervisor = Supervisor(
            build=build,
            activate=self._activate,
            breaker=self._breaker,
            observer=observer,
            logger=logger,
            timing=timing or SupervisorTiming(),
        )
        self._is_closing = False

    @property
    def trouble(self) -> str | None:
        """Why no append can succeed now; `None` if the log may accept records. It does not consider `refuse_if`."""
        if self._is_closing:
            return "the log is closing"
        active = self._supervisor.active
        if active is not None and self._supervisor.trouble is None:
            if not active.producer.partitions:
                return "Kafka shows no partition of the topic: create it, or allow the receiver to describe it"
            return self._breaker.why if self._breaker.state is BreakerState.OPEN else None
        return self._supervisor.trouble

    @property
    def in_flight(self) -> int:
        """The number of records that a producer holds, including those whose senders no longer wait."""
        return self._quota.count

    async def start(self) -> None:
        """Begin to connect, without waiting for a broker. `trouble` becomes `None` when one is found.

        Raises:
            ValueError, RuntimeError: no producer can be built with these settings.
        """
        self._supervisor.start()

    async def stop(self) -> None:
        """Refuse new appends, let records in flight end within five seconds, then close in any case."""
        self._is_closing = True
        await self._supervisor.stop()

    def append(self, record: Record) -> Pending:
        """Append a record. Return its end, to await: when it has ended well, all in-sync replicas have the record.

        If it ends with Unavailable, the record failed or took too long: it is unknown whether it was written.

        Raises:
            Unavailable: `refuse_if` refused, no producer works, or too many records are in flight: nothing was sent.
        """
        if (refusal := self._refuse_if()) is not None:
            raise Unavailable(refusal)
        active = self._supervisor.active
        # The partition count is an attribute that the producer keeps in step with the metadata, not a request, because
        # the way of one append is counted in microseconds. For the same reason it makes no task, future or timer.
        if active is None or self._is_closing or not (count := active.producer.partitions):
            raise Unavailable(self.trouble or "the log accepts no records now")
        size = len(record.value) + RECORD_OVERHEAD_BYTES
        self._quota.take(size)
        try:
            if not self._breaker.admits():
                raise Unavailable(self._breaker.why or "the log accepts no records now")
            # Never send again after this point: a deadline may pass with the record on the wire, a batch may fail
            # half-way, an acknowledgement may get lost. Alipay did not get `success` and resends; a second record is a
            # duplicate.
            partition = topics.partition_of(record.key, count)
            return active.batches.append(record, partition, size, self._now_s() + self._deadline_s)
        except Unavailable:
            self._quota.release(size)
            raise
        except Exception as error:
            self._quota.release(size)
            active.send_failed(error)
            raise Unavailable(f"the record could not be sent: {error!r}") from error

    def _activate(self, producer: Producer) -> ActiveProducer:
        return ActiveProducer(
            producer,
            quota=self._quota,
            breaker=self._breaker,
            on_refused=self._log_refusal,
        )

    def _log_refusal(self, failure: AppendFailure, error: BaseException) -> None:
        """Log a refused record, at a limited rate. Kafka will refuse it again, so an operator has to act."""
        left_out = self._refusals.take(self._now_s())
        if left_out is not None:
            fields = {Field.REASON: failure.value, Field.ERROR: repr(error), Field.COUNT: left_out + 1}
            self._logger.error("Kafka refused records", **fields)
