"""The second loop of a worker: retry held notifications that are due. `settlement.parking` has their life.

A row comes due by its schedule, or at once when the notification's order, trade or refund becomes known. The store then
wakes this loop, also that of another process. If it cannot, the sweeper finds the row within `LOOK_EVERY_S`.

If several workers share a store, one of them leads and sweeps. The others ask at every look whether they lead now;
after a leader that was killed, its lease of 15 s must end first. Two
workers that sweep at once repeat work and do no harm, because a retry applies only to a row that is still as it was.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from workers.backoff import Backoff, BackoffObserver, pause
from workers.errors import InfrastructureDown
from workers.settlement.plan import HeldRow

ROWS_MAX = 100  # per round, so that new records are processed in between
# If a console in another process registers an order, and its wake does not arrive, this look releases the order's
# parked payment, and the buyer's page waits for that.
LOOK_EVERY_S = 0.5


class ParkedRows(Protocol):
    """The store's parked rows by due time, as in `workers.queries.HeldPort`."""

    async def wake_more(self) -> bool: ...

    async def due(self, *, now_ms: int, limit: int) -> Sequence[HeldRow]: ...

    async def next_due_ms(self) -> int | None: ...


async def always_leads() -> bool:
    """Lead always: for a worker that shares its store with no other."""
    return True


class Sweeper:
    """The loop. Set `woken` when rows came due early, or when an event was written outside the worker's loops."""

    def __init__(
        self,
        *,
        parked: ParkedRows,
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
            TooManyDeadLetters, InfrastructureDamaged: as `Consumer.run`.
        """
        while not self._stopping.is_set():
            try:
                # Clear before reading: rows that come due during this round wake the loop again.
                self._woken.clear()
                if await self._backoff.until_done(self.run_once) < self._rows_max:
                    await self._rest()
            except InfrastructureDown:
                if not self._stopping.is_set():
                    raise

    async def run_once(self) -> int:
        """Retry the rows that are due, at most `rows_max`; return their number.

        Before that, make some rows due whose wake is not finished.
        """
        rows: Sequence[HeldRow] = ()
        if await self._leads():
            await self._parked.wake_more()
            rows = await self._parked.due(now_ms=self._now_ms(), limit=self._rows_max)
        if rows:
            await self._retry(rows)
        self._wake_relay()
        return len(rows)

    async def _rest(self) -> None:
        due_ms = await self._backoff.until_done(self._next_due_ms)
        wait_s = self._look_every_s
        in_ms = 0 if due_ms is None else due_ms - self._now_ms()
        if in_ms > 0:  # else it came due just now, or another session has locked it
            wait_s = min(wait_s, in_ms / 1000)
        await pause(self._woken, wait_s)

    async def _next_due_ms(self) -> int | None:
        return await self._parked.next_due_ms() if await self._leads() else None
