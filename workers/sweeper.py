"""The second loop of a worker: held notifications whose time has come.

A parked notification is tried when it is due. What it waited for may come true earlier: then the store makes it due in
the same transaction, and wakes this loop where both live in one process; across processes it is found within
`LOOK_EVERY_S`.

Where several workers share a store, one of them sweeps: the others' loops stand by, and ask each time they look whether
it is their turn now. Two that sweep at once do the same work twice and no harm.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from workers.backoff import Backoff, BackoffObserver
from workers.errors import InfrastructureDown
from workers.settlement.plan import HeldRow

ROWS_MAX = 100  # per round: live traffic has its turn in between
# A payment that waited for its order's registration is released by this look, where a console in another process has
# registered it; and the buyer's page waits for it.
LOOK_EVERY_S = 0.5


class Parked(Protocol):
    """The held rows, as far as this loop asks for them."""

    async def due(self, *, now_ms: int, limit: int) -> Sequence[HeldRow]: ...

    async def next_due_ms(self) -> int | None: ...


async def always_leads() -> bool:
    """A worker that shares its store with no other has every turn."""
    return True


class Sweeper:
    """The loop. `woken` is set by whoever made rows due before their time, or wrote an event beside the worker's loops;
    `leads` tells whether it is its turn; `wake_relay` wakes the relay."""

    def __init__(
        self,
        *,
        parked: Parked,
        retry: Callable[[Sequence[HeldRow]], Awaitable[None]],
        wake_relay: Callable[[], None],
        woken: asyncio.Event,
        observer: BackoffObserver,
        now_ms: Callable[[], int],
        leads: Callable[[], Awaitable[bool]] = always_leads,
        rows_max: int = ROWS_MAX,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._parked = parked
        self._retry = retry
        self._wake_relay = wake_relay
        self._woken = woken
        self._now_ms = now_ms
        self._leads = leads
        self._rows_max = rows_max
        self._look_every_s = look_every_s
        self._stopping = asyncio.Event()
        self._backoff = Backoff(observer, self._stopping)

    def stop(self) -> None:
        """Ask the loop to end after the round under way."""
        self._stopping.set()
        self._woken.set()

    async def run(self) -> None:
        """Sweep until stopped.

        Raises:
            DeadRun, Broken: as the consumer's.
        """
        while not self._stopping.is_set():
            try:
                # Cleared first: what is made due from here on wakes us again, even while this round reads.
                self._woken.clear()
                if await self._backoff.until_done(self.run_once) < self._rows_max:
                    await self._rest()
            except InfrastructureDown:
                if not self._stopping.is_set():
                    raise

    async def run_once(self) -> int:
        """Try what is due, at most a round of it; how many rows were tried."""
        rows: Sequence[HeldRow] = ()
        if await self._leads():
            rows = await self._parked.due(now_ms=self._now_ms(), limit=self._rows_max)
        if rows:
            await self._retry(rows)
        self._wake_relay()
        return len(rows)

    async def _rest(self) -> None:
        due_ms = await self._backoff.until_done(self._next_due_ms)
        wait_s = self._look_every_s
        if due_ms is not None:
            wait_s = min(wait_s, max(0.0, (due_ms - self._now_ms()) / 1000))
        try:
            async with asyncio.timeout(wait_s):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _next_due_ms(self) -> int | None:
        return await self._parked.next_due_ms() if await self._leads() else None
