"""Send callbacks: one loop for each endpoint, in the process that leads.

    run ──► one lane per endpoint ──► step of the store: write results, get due ones ──► waiting ──► attempts ──┐
                      ▲─────────────────────────────── results ◄────────────────────────────────────────────────┘

Each lane has connections of its own, its share of `CONNECTIONS_MAX`. So an endpoint that is slow or down delays no
other, and all together are bounded. A step costs the store the same for one result as for a hundred. So a lane gets
deliveries ahead, about twice as many as ended since its last step, and writes results together while some still wait.
In memory are only results of the last moments, and deliveries that wait or are in flight: a process that is killed
loses them, and the next leader sends those events again. They are at most `UNWRITTEN_MAX` for each endpoint, and one
more for each connection.

Of an order, at most one event waits or is in flight at an endpoint. If two processes lead at once, for the length of a
lease, both may send: an event then arrives twice, and never before its predecessor has arrived once or was given up.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Protocol

from schemas.event_names import EventNames
from workers.backoff import pause
from workers.callbacks import messages, schedule
from workers.callbacks.deliveries import DeliveriesPort, DueDelivery, Step
from workers.callbacks.endpoints import ENDPOINTS_MAX, Endpoint
from workers.callbacks.messages import Message
from workers.callbacks.schedule import AttemptResult, CallbackAnswer, CallbackOutcome, EndpointState
from workers.errors import InfrastructureDown
from workers.restarts import EndedUnasked

CONNECTIONS_MAX = ENDPOINTS_MAX  # of all endpoints together
CONNECTIONS_EACH_MAX = 16
AHEAD_MAX = 32  # deliveries that wait in memory, for each connection
AHEAD_S = 5.0  # then those that still wait are got anew: less than a lease, so that no former leader has old ones
WRITE_EVERY_S = 0.1  # while deliveries wait; else a result is written at once
UNWRITTEN_MAX = 100  # results of one endpoint; then no attempt begins until they are written
LOOK_EVERY_S = 0.5  # for new events, for deliveries that come due, and for acts of operators
REST_S = 2.0  # after the store did not answer
LEFT_EVERY_S = 60.0  # how often a process without endpoints looks for some that are still noted as configured
LAST_S = 3.0  # for attempts in flight, at a stop
PRUNE_EVERY_S = 600.0
BETWEEN_PRUNES_S = 0.2

Post = Callable[[Endpoint, Message], Awaitable[CallbackAnswer]]


class CallbackObserver(Protocol):
    """Observes attempts and endpoints: metrics and log lines."""

    def attempted(self, endpoint: Endpoint, result: AttemptResult) -> None: ...

    def disabled(self, endpoint: Endpoint, state: EndpointState) -> None: ...

    def removed(self, name: str) -> None:
        """An endpoint is configured no more: its events wait."""

    def paused(self, endpoint: Endpoint, error: InfrastructureDown) -> None:
        """The store does not answer; the lane tries again soon."""

    def failed(self, endpoint: Endpoint, error: Exception) -> None:
        """A lane has failed by our bug; it starts anew."""


class Lane:
    """The loop of one endpoint."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        store: DeliveriesPort,
        post: Post,
        names: EventNames,
        observer: CallbackObserver,
        connections: int,
        now_ms: Callable[[], int],
        is_clock_trusted: Callable[[], bool],
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._endpoint = endpoint
        self._store = store
        self._post = post
        self._names = names
        self._observer = observer
        self._connections = connections
        self._now_ms = now_ms
        self._is_clock_trusted = is_clock_trusted
        self._look_every_s = look_every_s
        self._waiting: deque[DueDelivery] = deque()  # for a connection
        self._waiting_since_s = 0.0  # when the first of them was got
        self._in_flight: dict[asyncio.Task[None], bytes] = {}  # the key of each
        self._results: list[AttemptResult] = []  # not written yet
        self._locked = 0  # the first ones of them, whose orders were locked at the last step
        self._is_recovering = False  # `Step.is_recovering` of the last step
        self._has_result = asyncio.Event()
        self._has_free_connection = asyncio.Event()

    async def run(self) -> None:
        """Send until cancelled; then wait for the attempts in flight, and write their results."""
        try:
            while True:
                try:
                    step = await self.run_once()
                except InfrastructureDown as error:
                    self._observer.paused(self._endpoint, error)
                    await asyncio.sleep(REST_S)
                except Exception as error:
                    self._observer.failed(self._endpoint, error)
                    await asyncio.sleep(REST_S)
                else:
                    await self._rest(is_more=step.is_more)
        finally:
            await self._end()

    async def run_once(self) -> Step:
        """Write the results that are there, and begin attempts as far as connections are free.

        Raises:
            InfrastructureDown: the store does not answer; the results are kept for the next time.
        """
        self._has_result.clear()
        self._drop_old()
        results = tuple(self._results)
        step = await self._store.step(
            self._endpoint,
            results,
            busy=self._busy(),
            limit=self._room(len(results)),
            now_ms=self._now_ms(),
            is_recovering=self._is_recovering,
        )
        self._results[: len(results)] = step.unwritten
        self._locked = len(step.unwritten)
        self._is_recovering = step.is_recovering
        if step.is_disabled_now:
            self._observer.disabled(self._endpoint, step.state)
        if step.state.is_disabled:
            self._waiting.clear()
        if not self._waiting:
            self._waiting_since_s = time.monotonic()
        self._waiting.extend(step.due)
        self._begin()
        return step

    async def _rest(self, *, is_more: bool) -> None:
        """Return when another step is worth it: soon after a result, at once if a connection is free."""
        self._has_free_connection.clear()
        if is_more and self._may_begin:
            await asyncio.sleep(0)
            return
        await pause(self._has_result, self._look_every_s)
        if self._waiting and not self._is_full:
            await pause(self._has_free_connection, WRITE_EVERY_S)

    @property
    def _may_begin(self) -> bool:
        return len(self._in_flight) < self._connections and not self._is_full

    @property
    def _is_full(self) -> bool:
        """Whether so many results wait to be written that no attempt may begin. Those of locked orders do not count."""
        return len(self._results) - self._locked >= UNWRITTEN_MAX

    def _busy(self) -> set[bytes]:
        return {*self._in_flight.values(), *(due.event.key for due in self._waiting)}

    def _room(self, ended: int) -> int:
        """Return how many deliveries to get, if so many ended since the last step: a slow endpoint gets few ahead."""
        ahead = min(self._connections + 2 * ended, self._connections * AHEAD_MAX)
        return max(0, self._connections - len(self._in_flight) + ahead - len(self._waiting))

    def _drop_old(self) -> None:
        if time.monotonic() - self._waiting_since_s >= AHEAD_S:
            self._waiting.clear()

    def _begin(self) -> None:
        """Begin attempts at what waits, as far as connections are free."""
        while self._waiting and self._may_begin:
            due = self._waiting.popleft()
            task = asyncio.create_task(self._attempt(due))
            self._in_flight[task] = due.event.key
            task.add_done_callback(self._ended)

    async def _attempt(self, due: DueDelivery) -> None:
        began_ms = self._now_ms()
        try:
            answer = await self._post(self._endpoint, messages.message(due.event, self._names))
        except Exception as error:  # our bug: it is tried again by the schedule, not at once
            self._observer.failed(self._endpoint, error)
            answer = CallbackAnswer(outcome=CallbackOutcome.UNREACHABLE, detail=f"not sent: {type(error).__name__}")
        result = schedule.result(
            answer,
            number=due.number,
            event_id=due.event.id,
            key=due.event.key,
            attempts=due.attempts + 1,
            first_at_ms=due.first_at_ms,
            began_ms=began_ms,
            now_ms=self._now_ms(),
            random=random.random,
            is_clock_trusted=self._is_clock_trusted(),
        )
        self._results.append(result)
        self._observer.attempted(self._endpoint, result)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._in_flight[task]
        self._drop_old()
        self._begin()
        self._has_result.set()
        if len(self._in_flight) < self._connections:
            self._has_free_connection.set()

    async def _end(self) -> None:
        self._waiting.clear()
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=LAST_S)
        for task in self._in_flight:
            task.cancel()
        if self._results:
            with suppress(InfrastructureDown, TimeoutError):
                async with asyncio.timeout(LAST_S):
                    await self._store.step(self._endpoint, self._results, busy=(), limit=0, now_ms=self._now_ms())


class CallbackSender:
    """The lanes of all endpoints, while this process leads. `endpoints` returns those of the file, by name."""

    def __init__(
        self,
        *,
        endpoints: Callable[[], Mapping[str, Endpoint]],
        store: DeliveriesPort,
        post: Post,
        names: EventNames,
        observer: CallbackObserver,
        now_ms: Callable[[], int],
        leads: Callable[[], Awaitable[bool]],
        is_clock_trusted: Callable[[], bool],
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._endpoints = endpoints
        self._store = store
        self._post = post
        self._names = names
        self._observer = observer
        self._now_ms = now_ms
        self._leads = leads
        self._is_clock_trusted = is_clock_trusted
        self._look_every_s = look_every_s
        self._lanes: dict[str, tuple[Endpoint, int, asyncio.Task[None]]] = {}  # with its number of connections
        self._configured: Mapping[str, Endpoint] | None = None  # as the store knows them, while this process leads
        self._left_at_s: float | None = 0.0  # when to look for some that are configured no more; `None`: there are none

    @property
    def is_sending(self) -> bool:
        """Whether this process leads and has endpoints."""
        return bool(self._lanes)

    async def run(self) -> None:
        """Send until cancelled. Without an endpoint the lease is not asked for, and the store once."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(self._look_every_s)
        finally:
            await self._keep({})

    async def look(self) -> None:
        """Make the lanes those of the endpoints of now, or none if another process leads."""
        endpoints = self._endpoints()
        if endpoints and self._left_at_s is None:
            self._left_at_s = 0.0
        is_leading = False
        with suppress(InfrastructureDown):  # the loops that need the store report it
            is_wanted = endpoints or self._configured or await self._are_left()
            is_leading = bool(is_wanted) and await self._leads()
        if not is_leading:
            self._configured = None
        elif endpoints != self._configured:
            with suppress(InfrastructureDown):  # another session may have locked an endpoint: the others go on
                gone = await self._store.configure(list(endpoints.values()), now_ms=self._now_ms())
                self._configured = dict(endpoints)
                for name in gone:
                    self._observer.removed(name)
        await self._keep(endpoints if is_leading else {})

    async def _are_left(self) -> bool:
        """Return whether the store notes endpoints as configured, although there are none: they were removed while no
        process ran."""
        if self._left_at_s is None or time.monotonic() < self._left_at_s:
            return False
        self._left_at_s = time.monotonic() + LEFT_EVERY_S
        if not await self._store.has_configured():
            self._left_at_s = None
        return self._left_at_s is not None

    async def prune(self, *, every_s: float = PRUNE_EVERY_S) -> None:
        """Delete old rows for ever, in small steps, while this process leads; nothing for a day after the clock has
        jumped."""
        while True:
            with suppress(InfrastructureDown):
                while self._lanes and self._is_clock_trusted():
                    if not await self._store.prune(now_ms=self._now_ms()):
                        break
                    await asyncio.sleep(BETWEEN_PRUNES_S)
            await asyncio.sleep(every_s)

    async def _keep(self, endpoints: Mapping[str, Endpoint]) -> None:
        connections = connections_each(len(endpoints))
        for name, (endpoint, _, task) in list(self._lanes.items()):
            if task.done():  # nothing asked it to: a library may cancel what calls it
                del self._lanes[name]
                error = None if task.cancelled() else task.exception()
                self._observer.failed(endpoint, error if isinstance(error, Exception) else EndedUnasked())
        ended = [
            self._lanes.pop(name)[2]
            for name, (endpoint, has, _) in list(self._lanes.items())
            if endpoints.get(name) != endpoint or has != connections
        ]
        for task in ended:
            task.cancel()
        if ended:  # before a new lane of the same endpoint begins: two would send the same events
            await asyncio.wait(ended)
        for name, endpoint in endpoints.items():
            if name not in self._lanes:
                lane = Lane(
                    endpoint,
                    store=self._store,
                    post=self._post,
                    names=self._names,
                    observer=self._observer,
                    connections=connections,
                    now_ms=self._now_ms,
                    is_clock_trusted=self._is_clock_trusted,
                    look_every_s=self._look_every_s,
                )
                self._lanes[name] = (endpoint, connections, asyncio.create_task(lane.run()))


def connections_each(endpoints: int) -> int:
    """Return how many connections each of so many endpoints may have."""
    return max(1, min(CONNECTIONS_EACH_MAX, CONNECTIONS_MAX // max(1, endpoints)))
