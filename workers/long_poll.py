"""Long polls: requests that wait for an order to change, and the call that wakes them. In memory, for one process.

A wake-up that is lost does no harm, because the next request reads the store. A request begins to watch *before* it
reads: a change between its read and its wait has then woken it already.

The number of waiters is bounded, because each holds a connection open, and each returning buyer's page makes one.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from workers.settlement.plan import AccountKey, WritePlan

WAITERS_MAX = 1000  # enough for a busy shop's return page; some 10 KiB of connection each


class TooManyWaiters(Exception):
    """The limit of waiters is reached; ask again without waiting."""


class Waiter:
    """A request that waits. If it is woken before it waits, it does not wait."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def wait(self, timeout_s: float) -> bool:
        """Return True when woken, also by a wake-up before this call; False after `timeout_s`."""
        try:
            async with asyncio.timeout(max(timeout_s, 0)):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True


class OrderChanges:
    """The waiters for order changes. `seen` counts the changes; if it has risen since, there was one."""

    def __init__(self, *, waiters_max: int = WAITERS_MAX) -> None:
        self._waiters_max = waiters_max
        self._of_order: dict[AccountKey, set[Waiter]] = {}
        self._of_all: set[Waiter] = set()
        self._count = 0
        self._closed = False
        self.seen = 0

    def settled(self, plan: WritePlan) -> None:
        """Wake the waiters for the orders of this plan, which is stored, or for any change."""
        if not plan.deliveries and not plan.orders:
            return
        self.seen += 1
        if not self._count:
            return
        for key in {(delivery.account, delivery.order) for delivery in plan.deliveries}:
            self._wake(key)
        for write in plan.orders:
            self._wake((write.order.account, write.order.number))
        self._wake_all()

    def changed(self, scope: str, order: str) -> None:
        """Wake the waiters for this order, or for any change."""
        self.seen += 1
        self._wake((scope, order))
        self._wake_all()

    def close(self) -> None:
        """Wake all waiters, so that each request gets an answer before the process ends."""
        self._closed = True
        for waiters in self._of_order.values():
            for waiter in waiters:
                waiter.wake()
        self._wake_all()

    @property
    def is_closed(self) -> bool:
        """Whether no more changes will come."""
        return self._closed

    @contextmanager
    def watch(self, scope: str, order: str) -> Iterator[Waiter]:
        """Wait for changes of one order, from now until the end of the block.

        Raises:
            TooManyWaiters: the limit is reached.
        """
        waiter = self._new_waiter()
        waiters = self._of_order.setdefault((scope, order), set())
        waiters.add(waiter)
        try:
            yield waiter
        finally:
            self._count -= 1
            waiters.discard(waiter)
            if not waiters:
                self._of_order.pop((scope, order), None)

    @contextmanager
    def watch_all(self) -> Iterator[Waiter]:
        """Wait for changes of any order, from now until the end of the block.

        Raises:
            TooManyWaiters: the limit is reached.
        """
        waiter = self._new_waiter()
        self._of_all.add(waiter)
        try:
            yield waiter
        finally:
            self._count -= 1
            self._of_all.discard(waiter)

    def _new_waiter(self) -> Waiter:
        if self._count >= self._waiters_max:
            raise TooManyWaiters(f"{self._waiters_max} requests are waiting already")
        self._count += 1
        return Waiter()

    def _wake(self, key: AccountKey) -> None:
        for waiter in self._of_order.get(key, ()):
            waiter.wake()

    def _wake_all(self) -> None:
        for waiter in self._of_all:
            waiter.wake()
