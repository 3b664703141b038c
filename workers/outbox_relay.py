"""The third loop of a worker: what lies in the outbox goes to its topics, in version order.

It runs beside the consumer, so that orders go on changing, and offsets being committed, while a topic is away: the
events lie in the store, in the transaction that made them, and wait. There is one loop to a process, and so one send at
a time: versions leave in their order. An event may go out twice, when the process dies between acknowledgement and
mark: with the same id, so consumers see the second one for what it is.
"""

import asyncio
from collections.abc import Awaitable, Callable

from workers.backoff import Backoff, BackoffObserver
from workers.errors import InfrastructureDown

EVENTS_MAX = 500  # per send
LAST_EVENTS_MAX = 2000  # after the stop: as many as a worker has of its own; what others left, another one sends
LOOK_EVERY_S = 2.0  # for what another process left behind: nobody wakes us for that


class Relay:
    """Sends whenever it is woken, until the outbox is empty. `emit` sends at most so many and says how many it did."""

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
        """Something may have been written to the outbox."""
        self._woken.set()

    def stop(self) -> None:
        """Ask the loop to end, after one more try at what lies there: whoever writes has ended before."""
        self._stopping.set()
        self._woken.set()

    async def run(self) -> None:
        """Send until stopped.

        Raises:
            Broken: something we depend on is damaged.
        """
        while True:
            is_last = self._stopping.is_set()
            # Cleared first: what is written from here on wakes us again, even while this round sends.
            self._woken.clear()
            try:
                await self._backoff.until_done(self.run_once)
            except InfrastructureDown:
                if not self._stopping.is_set():
                    raise
            if is_last:
                return
            await self._rest()

    async def run_once(self) -> int:
        """Returns when all that was in the outbox is acknowledged and marked; how many events that were. Once a stop is
        asked for, a part of it is enough.

        Raises:
            InfrastructureDown: some may be sent, some not. All of them are still in the outbox, or marked.
        """
        sent = sent_last = 0
        while True:
            count = await self._emit(self._events_max)
            sent += count
            sent_last += count if self._stopping.is_set() else 0
            if count < self._events_max or sent_last >= LAST_EVENTS_MAX:
                return sent

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(self._look_every_s):
                await self._woken.wait()
        except TimeoutError:
            return
