"""The third loop of a worker: send the events of the outbox to their topics, in version order.

It runs beside the consumer. While a topic is away, orders still change and offsets are committed; the events wait in
the store, where the same transaction has written them. A process has one relay for order events, so one send runs at a
time, and the versions of an order leave in order. Notices may have a second one, so that they delay no order event. If
the process dies between acknowledgement and mark, the event is sent twice, with the same id, by which consumers
recognise it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

from workers.backoff import Backoff, BackoffObserver, pause
from workers.errors import InfrastructureDown

EVENTS_MAX = 500  # per send
LAST_EVENTS_MAX = 2000  # after the stop: enough for this worker's own events; another worker sends orphaned ones
LOOK_EVERY_S = 2.0  # for events that another process left unsent: nothing wakes this loop for them


class Relay:
    """The loop. `emit` tries to send at most this many events, and returns how many it tried."""

    def __init__(
        self,
        emit: Callable[[int], Awaitable[int]],
        *,
        observer: BackoffObserver,
        events_max: int = EVENTS_MAX,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._emit = emit
        self._events_max = events_max
        self._look_every_s = look_every_s
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._backoff = Backoff(observer, self._stopping)

    def wake(self) -> None:
        """Look at the outbox soon: an event may have been written."""
        self._woken.set()

    def stop(self) -> None:
        """Ask the loop to end after one more round. Stop the loops that write events before."""
        self._stopping.set()
        self._woken.set()

    async def run(self) -> None:
        """Send until stopped.

        Raises:
            InfrastructureDamaged: a topic or the store needs an operator.
        """
        while True:
            is_last = self._stopping.is_set()
            # Clear before sending: events that are written during this round wake the loop again.
            self._woken.clear()
            try:
                await self._backoff.until_done(self.run_once)
            except InfrastructureDown:
                if not self._stopping.is_set():
                    raise
            if is_last:
                return
            await pause(self._woken, self._look_every_s)

    async def run_once(self) -> int:
        """Send until there is no more to try, or, after a stop, `LAST_EVENTS_MAX` events; return the number tried.

        Raises:
            InfrastructureDown: some events may be sent and not marked; each is still in the outbox until it is marked.
        """
        sent = sent_last = 0
        while True:
            count = await self._emit(self._events_max)
            sent += count
            sent_last += count if self._stopping.is_set() else 0
            if count < self._events_max or sent_last >= LAST_EVENTS_MAX:
                return sent


class Relays:
    """Several relays, of different topics, that run side by side like one."""

    def __init__(self, relays: Sequence[Relay]) -> None:
        self._relays = tuple(relays)

    def wake(self) -> None:
        for relay in self._relays:
            relay.wake()

    def stop(self) -> None:
        for relay in self._relays:
            relay.stop()

    async def run(self) -> None:
        """Send until stopped.

        Raises:
            InfrastructureDamaged: as `Relay.run`, of the first that fails; the others are ended then.
        """
        running = {asyncio.create_task(relay.run()) for relay in self._relays}
        try:
            while running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    each.result()  # raises also if a library has cancelled it
        finally:
            await _end(running)


async def _end(running: Collection[asyncio.Task[None]]) -> None:
    for each in running:
        each.cancel()
    if running:
        await asyncio.wait(running)
