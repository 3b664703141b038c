"""Keeps one working producer in service for the life of the process.

A producer can be stuck for good and still look alive: its sender has ended, a broker has fenced it off, its sequence
has a hole, or its brokers have moved. The supervisor detects this and replaces it, in less than ten seconds together.
While no broker answers it tries forever to start a new one, with pauses. Meanwhile it holds one candidate and no
records.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from msgspec import Struct
from tenacity import AsyncRetrying, RetryCallState
from tenacity.retry import retry_if_exception_type
from tenacity.wait import wait_exponential_jitter

from ingest.kafka.breaker import Breaker, BreakerState
from ingest.kafka.in_flight import ActiveProducer, Producer, ProducerFault
from ingest.log_port import Logger
from schemas.telemetry import Field

WARN_EVERY_S = 10.0
CANDIDATE_FLUSH_S = 1.0  # a producer that did not start has no records to send


class SupervisorTiming(Struct, frozen=True, kw_only=True):
    """How often the producer is checked, and how long is too long."""

    tick_s: float = 0.25
    check_every_s: float = 5.0  # without appends, only this check notices that the brokers are gone
    check_in_trouble_s: float = 1.0
    silent_s: float = 6.0  # longer than a request to a broker; with a check and a start still less than ten
    start_within_s: float = 30.0  # each step of a start has a shorter limit; this one is for steps that hang
    start_pause_max_s: float = 2.0
    rebuild_pause_max_s: float = 5.0  # between producers without any acknowledged record
    flush_s: float = 5.0
    stop_within_s: float = 7.0


class SupervisorObserver(Protocol):
    """Observes the supervisor, for metrics."""

    def producing(self) -> None:
        """This process uses producers, so their metrics exist from now on."""

    def rebuilt(self, fault: ProducerFault, /) -> None: ...


class Supervisor:
    """`active` is the producer in service. `trouble` is why there is none, or why no broker answers."""

    def __init__(
        self,
        *,
        build: Callable[[], Producer],
        activate: Callable[[Producer], ActiveProducer],
        breaker: Breaker,
        observer: SupervisorObserver,
        logger: Logger,
        timing: SupervisorTiming,
    ) -> None:
        self.active: ActiveProducer | None = None
        self.trouble: str | None = "no Kafka broker has answered yet"
        self._build = build
        self._activate = activate
        self._breaker = breaker
        self._observer = observer
        self._logger = logger
        self._timing = timing
        self._candidate: Producer | None = None  # built, and not started yet
        self._rebuilds_in_a_row = 0  # since the last acknowledged record
        self._warned_s = float("-inf")
        self._running: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to connect, without waiting for a broker.

        Raises:
            ValueError, RuntimeError: no producer can be built with these settings.
        """
        self._candidate = self._build()
        self._observer.producing()
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Let records in flight end, in a limited time, and close all producers."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        if self._candidate is not None:
            self._close(self._candidate.close(flush_s=0))
        active, self.active = self.active, None
        if active is not None:
            self._close(active.close(flush_s=self._timing.flush_s))
        if self._closing:
            _, late = await asyncio.wait(self._closing, timeout=self._timing.stop_within_s)
            for task in late:
                task.cancel()

    async def _run(self) -> None:
        while True:
            try:
                await self._replace(None if self.active is None else await self._next_fault(self.active))
            except Exception as error:
                # If the supervisor ended here, the receiver would need a restart after the next fault.
                self._logger.error("unexpected error in the producer supervisor", **{Field.ERROR: error})
                await asyncio.sleep(self._timing.start_pause_max_s)

    async def _next_fault(self, active: ActiveProducer) -> ProducerFault:
        """Check the producer from time to time. Return when it must be replaced, with the reason."""
        timing = self._timing
        clock = asyncio.get_running_loop().time
        acknowledged = active.acknowledged
        acknowledged_s = answered_s = checked_s = clock()  # last acknowledgement, last broker's answer, last check
        while True:
            await asyncio.sleep(timing.tick_s)
            now_s = clock()
            if active.fault is not None:
                return active.fault
            if active.producer.has_ended:
                return ProducerFault.SENDER_ENDED
            if active.acknowledged != acknowledged:
                acknowledged = active.acknowledged
                acknowledged_s = answered_s = checked_s = now_s
                self._rebuilds_in_a_row = 0
                self.trouble = None
            elif not active.is_waiting_for_ack:
                acknowledged_s = now_s
            unanswered_max_s = timing.check_every_s + timing.silent_s
            if now_s - acknowledged_s >= timing.silent_s or now_s - answered_s >= unanswered_max_s:
                return ProducerFault.SILENT
            is_well = self._is_well(active) and now_s - acknowledged_s < timing.check_in_trouble_s
            if now_s - checked_s >= (timing.check_every_s if is_well else timing.check_in_trouble_s):
                if await self._check_brokers(active):
                    answered_s = clock()
                checked_s = clock()

    def _is_well(self, active: ActiveProducer) -> bool:
        return bool(active.producer.partitions) and self._breaker.state is BreakerState.CLOSED and self.trouble is None

    async def _check_brokers(self, active: ActiveProducer) -> bool:
        """Return whether a broker answers. Only then let an append probe the log."""
        acknowledged = active.acknowledged
        if not await active.producer.refresh_metadata():
            if active.acknowledged == acknowledged:
                self.trouble = "no Kafka broker answers"
                self._breaker.trip(self.trouble)
            return False
        self.trouble = None
        if active.producer.partitions:
            self._breaker.allow_probe()
        return True

    async def _replace(self, fault: ProducerFault | None) -> None:
        """Put a new producer in service, however long its start takes. Keep the old one if it recovers meanwhile."""
        old = self.active
        if self._rebuilds_in_a_row:
            pause_s = min(float(self._rebuilds_in_a_row), self._timing.rebuild_pause_max_s)
            await asyncio.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311 - so that receivers are not in step
        acknowledged = old.acknowledged if old is not None else 0

        async def attempt() -> Producer | None:
            if old is not None and fault is ProducerFault.SILENT and old.acknowledged > acknowledged:
                return None
            candidate, self._candidate = self._candidate or self._build(), None
            return await self._started(candidate)

        started: Producer | None = await AsyncRetrying(
            retry=retry_if_exception_type(Exception),
            wait=wait_exponential_jitter(multiplier=0.1, max=self._timing.start_pause_max_s, jitter=0.5),
            before_sleep=self._not_started,
            reraise=True,
        )(attempt)
        self.trouble = None
        if started is None:
            return
        # The old producer was in service until now, because it may still serve other partitions or recover.
        self.active = self._activate(started)
        self._breaker.allow_probe()
        if old is not None and fault is not None:
            self._rebuilds_in_a_row += 1
            self._close(old.close(flush_s=self._timing.flush_s))
            self._observer.rebuilt(fault)
            fields = {Field.REASON: fault.value, Field.COUNT: self._rebuilds_in_a_row}
            self._logger.warning("producer replaced", **fields)

    async def _started(self, candidate: Producer) -> Producer:
        try:
            async with asyncio.timeout(self._timing.start_within_s):
                await candidate.start()
        except BaseException:
            self._close(candidate.close(flush_s=CANDIDATE_FLUSH_S))
            raise
        return candidate

    def _not_started(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        self.trouble = f"no Kafka broker answers: {error!r}"
        now_s = asyncio.get_running_loop().time()
        if now_s - self._warned_s >= WARN_EVERY_S:
            self._warned_s = now_s
            self._logger.warning("no broker answers", **{Field.ERROR: repr(error), Field.ATTEMPT: state.attempt_number})

    def _close(self, closing: Coroutine[Any, Any, None]) -> None:
        """Close a producer in the background."""
        task = asyncio.get_running_loop().create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
