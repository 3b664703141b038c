"""The receiver's end of the log on Kafka: `append` returns when all in-sync replicas have the record.

Every failure means that it is unknown whether the record was written: a deadline passes while it is on the wire, a
batch fails half-way, an answer is lost. So nothing is repeated here. The sender was not told `success`, sends again,
and where there are two records in the end, the second is a duplicate.

Nothing is kept for better times either. What cannot be handed to a producer that works is refused at once: Alipay keeps
it for a day, and memory would not.

The path of one append is counted in microseconds, so it makes no task and no timer of its own, and the number of
partitions is a number and not asked for: the producer keeps it in step with the cluster's metadata.
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
    send_now,
    when_there_is_room,
)
from ingest.kafka.supervisor import Supervisor, SupervisorObserver, SupervisorTiming
from ingest.log_port import Logger, RateLimit
from schemas import topics
from schemas.record_format import Record
from schemas.telemetry import Field

DEADLINE_S = 2.5  # below the three seconds in which every sender is answered
RECORD_OVERHEAD_BYTES = 1024  # headers, key and the objects around them, for the bound in bytes
REFUSALS_TOLD_PER_S = 0.2


class Publisher:
    """A log (`ingest.receive.Log`). `build` makes its producers (`ingest.kafka.producer.factory`)."""

    def __init__(
        self,
        *,
        build: Callable[[], Producer],
        observer: SupervisorObserver,
        logger: Logger,
        deadline_s: float = DEADLINE_S,
        bounds: QuotaLimits | None = None,
        patience: BreakerPolicy | None = None,
        pace: SupervisorTiming | None = None,
    ) -> None:
        self._deadline_s = deadline_s
        self._logger = logger
        self._places = record_quota(bounds or QuotaLimits())
        self._now_s = asyncio.get_running_loop().time
        self._breaker = Breaker(patience or BreakerPolicy(), now_s=self._now_s)
        self._refusals = RateLimit(per_s=REFUSALS_TOLD_PER_S, burst=3)
        self._supervisor = Supervisor(
            build=build,
            put_in_service=self._put_in_service,
            breaker=self._breaker,
            observer=observer,
            logger=logger,
            pace=pace or SupervisorTiming(),
        )
        self._is_closing = False

    @property
    def trouble(self) -> str | None:
        """Why no append would succeed now; `None` while the log takes them, or is worth trying again."""
        if self._is_closing:
            return "the log is closing"
        carrier = self._supervisor.carrier
        if carrier is not None and self._supervisor.trouble is None:
            if not carrier.producer.partitions:
                return "Kafka shows no partition of the topic: it does not exist, or is not ours to see"
            return self._breaker.why if self._breaker.state is BreakerState.OPEN else None
        return self._supervisor.trouble

    @property
    def on_the_way(self) -> int:
        """Records that a producer has and that are neither written nor lost, also those nobody waits for any more."""
        return self._places.count

    async def start(self) -> None:
        """Begin to look for brokers. This does not wait for them: `trouble` says when they are found.

        Raises:
            ValueError, RuntimeError: no producer can be built with these parameters.
        """
        self._supervisor.start()

    async def stop(self) -> None:
        """Refuse new appends, let those that are under way end within five seconds, and close whatever happens."""
        self._is_closing = True
        await self._supervisor.stop()

    async def append(self, record: Record) -> None:
        """When this returns, the record is acknowledged by all in-sync replicas.

        Raises:
            Unavailable: there is no producer that works, or too much is on its way already: nothing was sent. Or the
                record failed or took too long: whether it was written is unknown.
        """
        carrier = self._supervisor.carrier
        if carrier is None or self._is_closing or not (count := carrier.producer.partitions):
            raise Unavailable(self.trouble or "the log takes no appends now")
        size = len(record.value) + RECORD_OVERHEAD_BYTES
        self._places.take(size)
        began_s = self._now_s()
        try:
            if not self._breaker.admits():
                raise Unavailable(self._breaker.why or "the log takes no appends now")
            partition = topics.partition_of(record.key, count)
            delivered = send_now(carrier.producer.send(record, partition)) or await when_there_is_room(
                lambda: carrier.producer.send(record, partition), within_s=self._deadline_s
            )
        except BaseException as error:
            self._places.release(size)
            if isinstance(error, Unavailable) or not isinstance(error, Exception):
                raise
            carrier.lost(error)
            raise Unavailable(f"it could not be handed over: {error!r}") from error
        await carrier.flights.begin(delivered, size, began_s)

    def _put_in_service(self, producer: Producer) -> ActiveProducer:
        return ActiveProducer(
            producer,
            places=self._places,
            breaker=self._breaker,
            deadline_s=self._deadline_s,
            refused=self._refused,
        )

    def _refused(self, meaning: AppendFailure, error: BaseException) -> None:
        """Kafka would not have a record. It will not have it the next time either, so somebody has to look."""
        left_out = self._refusals.take(self._now_s())
        if left_out is not None:
            fields = {Field.REASON: meaning.value, Field.ERROR: repr(error), Field.COUNT: left_out + 1}
            self._logger.error("Kafka refused records", **fields)
