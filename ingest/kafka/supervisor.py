"""Keeps one producer in service that works, for as long as the process lives.

A producer can be wedged for good while it looks alive: its sender has ended, a broker has fenced it off, its sequence
has a hole, its brokers have all moved. So there is always somebody who looks, and who puts a new one in its place. The
old one stays in service until the new one has spoken to a broker, since it may still serve other partitions, or come
back to life; it is ended in the background, in a limited time.

While no broker answers, the attempt to build a new one goes on for ever, with pauses that recovery can afford. Nothing
else is kept meanwhile: one candidate at a time, and no records.

Detecting and replacing take less than ten seconds together.
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

SAY_EVERY_S = 10.0
CANDIDATE_FLUSH_S = 1.0  # one that did not start has nothing to send


class SupervisorTiming(Struct, frozen=True, kw_only=True):
    """How often the producer is looked at, and how long is too long."""

    tick_s: float = 0.25
    look_every_s: float = 5.0  # where nothing is appended, nobody else would find out that the brokers have gone
    look_in_trouble_s: float = 1.0
    silent_s: float = 6.0  # more than a request to a broker may take; with a look and a start still less than ten
    start_within_s: float = 30.0  # each of its steps has a shorter limit; this is for those that are never given up
    start_pause_max_s: float = 2.0
    rebuild_pause_max_s: float = 5.0  # between producers of which none had anything acknowledged
    flush_s: float = 5.0
    stop_within_s: float = 7.0


class SupervisorObserver(Protocol):
    """Who counts."""

    def producing(self) -> None:
        """There will be producers, and perhaps one to replace."""

    def rebuilt(self, fault: ProducerFault, /) -> None: ...


class Supervisor:
    """`carrier` is the one in service; `trouble` says why there is none, or why no broker answers."""

    def __init__(
        self,
        *,
        build: Callable[[], Producer],
        put_in_service: Callable[[Producer], ActiveProducer],
        breaker: Breaker,
        observer: SupervisorObserver,
        logger: Logger,
        pace: SupervisorTiming,
    ) -> None:
        self.carrier: ActiveProducer | None = None
        self.trouble: str | None = "no broker of Kafka has answered yet"
        self._build = build
        self._put_in_service = put_in_service
        self._breaker = breaker
        self._observer = observer
        self._logger = logger
        self._pace = pace
        self._candidate: Producer | None = None  # built and not started yet
        self._in_a_row = 0  # producers since something was acknowledged
        self._said_s = float("-inf")
        self._running: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin; this does not wait for a broker.

        Raises:
            ValueError, RuntimeError: no producer can be built with these parameters.
        """
        self._candidate = self._build()
        self._observer.producing()
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End what is under way, in a limited time, and then everything."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        if self._candidate is not None:
            self._end(self._candidate.close(flush_s=0))
        carrier, self.carrier = self.carrier, None
        if carrier is not None:
            self._end(carrier.retire(flush_s=self._pace.flush_s))
        if self._ending:
            _, late = await asyncio.wait(self._ending, timeout=self._pace.stop_within_s)
            for task in late:
                task.cancel()

    async def _run(self) -> None:
        while True:
            try:
                await self._replace(None if self.carrier is None else await self._fault_of(self.carrier))
            except Exception as error:
                # A supervisor that ended would leave a receiver that can only be restarted.
                self._logger.error("fault of ours", **{Field.ERROR: error})
                await asyncio.sleep(self._pace.start_pause_max_s)

    async def _fault_of(self, carrier: ActiveProducer) -> ProducerFault:
        """Look at the carrier from time to time; returns when it has to be replaced, with the reason."""
        pace = self._pace
        clock = asyncio.get_running_loop().time
        seen = carrier.acknowledged
        heard_s = answered_s = looked_s = clock()  # of an append, of a broker, and of neither
        while True:
            await asyncio.sleep(pace.tick_s)
            now_s = clock()
            if carrier.fault is not None:
                return carrier.fault
            if carrier.producer.has_ended:
                return ProducerFault.SENDER_ENDED
            if carrier.acknowledged != seen:
                seen = carrier.acknowledged
                heard_s = answered_s = looked_s = now_s
                self._in_a_row = 0
                self.trouble = None
            elif not carrier.is_in_want:
                heard_s = now_s
            if now_s - heard_s >= pace.silent_s or now_s - answered_s >= pace.look_every_s + pace.silent_s:
                return ProducerFault.SILENT
            is_well = self._is_well(carrier) and now_s - heard_s < pace.look_in_trouble_s
            if now_s - looked_s >= (pace.look_every_s if is_well else pace.look_in_trouble_s):
                if await self._look(carrier):
                    answered_s = clock()
                looked_s = clock()

    def _is_well(self, carrier: ActiveProducer) -> bool:
        return bool(carrier.producer.partitions) and self._breaker.state is BreakerState.CLOSED and self.trouble is None

    async def _look(self, carrier: ActiveProducer) -> bool:
        """Whether a broker answers. Only then is it worth while to let an append try."""
        acknowledged = carrier.acknowledged
        if not await carrier.producer.look():
            if carrier.acknowledged == acknowledged:
                self.trouble = "no broker of Kafka answers"
                self._breaker.trip(self.trouble)
            return False
        self.trouble = None
        if carrier.producer.partitions:
            self._breaker.may_try()
        return True

    async def _replace(self, fault: ProducerFault | None) -> None:
        """Put a new producer in service, however long it takes to start one; or let the old one be if it recovers."""
        old = self.carrier
        if self._in_a_row:
            pause_s = min(float(self._in_a_row), self._pace.rebuild_pause_max_s)
            await asyncio.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311 - so that receivers are not in step
        acknowledged = old.acknowledged if old is not None else 0

        async def attempt() -> Producer | None:
            if old is not None and fault is ProducerFault.SILENT and old.acknowledged > acknowledged:
                return None
            candidate, self._candidate = self._candidate or self._build(), None
            return await self._started(candidate)

        started: Producer | None = await AsyncRetrying(
            retry=retry_if_exception_type(Exception),
            wait=wait_exponential_jitter(multiplier=0.1, max=self._pace.start_pause_max_s, jitter=0.5),
            before_sleep=self._not_started,
            reraise=True,
        )(attempt)
        self.trouble = None
        if started is None:
            return
        self.carrier = self._put_in_service(started)
        self._breaker.may_try()
        if old is not None and fault is not None:
            self._in_a_row += 1
            self._end(old.retire(flush_s=self._pace.flush_s))
            self._observer.rebuilt(fault)
            self._logger.warning("producer replaced", **{Field.REASON: fault.value, Field.COUNT: self._in_a_row})

    async def _started(self, candidate: Producer) -> Producer:
        try:
            async with asyncio.timeout(self._pace.start_within_s):
                await candidate.start()
        except BaseException:
            self._end(candidate.close(flush_s=CANDIDATE_FLUSH_S))
            raise
        return candidate

    def _not_started(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        self.trouble = f"no broker of Kafka answers: {error!r}"
        now_s = asyncio.get_running_loop().time()
        if now_s - self._said_s >= SAY_EVERY_S:
            self._said_s = now_s
            self._logger.warning("no broker answers", **{Field.ERROR: repr(error), Field.ATTEMPT: state.attempt_number})

    def _end(self, ending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(ending)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
