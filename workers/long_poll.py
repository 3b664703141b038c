"""Who waits for an order to change, and the call that wakes them. In this process only, in memory only.

Waiting is a convenience of the API: what was missed is read from the store at the next question. So a waiter always
begins to watch *before* it reads: a change between its reading and its waiting has then woken it already.

The number of waiters is bounded: each holds a connection open, and the page of every buyer who comes back asks for one.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from workers.settlement.plan import AccountKey, WritePlan

WAITERS_MAX = 1000  # with some 10 KiB of connection each: the size of a busy shop's return page, not of an attack


class TooManyWaiters(Exception):
    """There is no room for one more; ask again without waiting."""


class Waiter:
    """One who waits. It may be woken before it waits; then it does not wait."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def wait(self, timeout_s: float) -> bool:
        """Whether it was woken, within the time, since the last time that it was."""
        try:
            async with asyncio.timeout(max(timeout_s, 0)):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True


class OrderChanges:
    """The meeting point of those who change orders and those who wait for it.

    `seen` counts the changes, so that somebody who knows an older number knows that there has been one since.
    """

    def __init__(self, *, waiters_max: int = WAITERS_MAX) -> None:
        self._waiters_max = waiters_max
        self._of_order: dict[AccountKey, set[Waiter]] = {}
        self._of_all: set[Waiter] = set()
        self._count = 0
        self._closed = False
        self.seen = 0

    def settled(self, plan: WritePlan) -> None:
        """Wake those who wait for an order that this plan changed, or for a notification of it. The plan is stored."""
        if not plan.deliveries and not plan.orders:
            return
        self.seen += 1
        if not self._count:
            return
        for named in {(delivery.account, delivery.order) for delivery in plan.deliveries}:
            self._wake(named)
        for write in plan.orders:
            self._wake((write.order.account, write.order.number))
        self._wake_all()

    def changed(self, account: str, order: str) -> None:
        """Wake those who wait for this order."""
        self.seen += 1
        self._wake((account, order))
        self._wake_all()

    def close(self) -> None:
        """Wake everybody, and let nobody wait any more: the process is about to end, and each deserves its answer."""
        self._closed = True
        for waiters in self._of_order.values():
            for waiter in waiters:
                waiter.wake()
        self._wake_all()

    @property
    def is_closed(self) -> bool:
        """Whether waiting has no purpose any more."""
        return self._closed

    @contextmanager
    def watch(self, account: str, order: str) -> Iterator[Waiter]:
        """A waiter for one order, from now until the end of the block.

        Raises:
            TooManyWaiters: there is no room.
        """
        waiter = self._entered()
        waiters = self._of_order.setdefault((account, order), set())
        waiters.add(waiter)
        try:
            yield waiter
        finally:
            self._count -= 1
            waiters.discard(waiter)
            if not waiters:
                self._of_order.pop((account, order), None)

    @contextmanager
    def watch_all(self) -> Iterator[Waiter]:
        """A waiter for any change at all, from now until the end of the block.

        Raises:
            TooManyWaiters: there is no room.
        """
        waiter = self._entered()
        self._of_all.add(waiter)
        try:
            yield waiter
        finally:
            self._count -= 1
            self._of_all.discard(waiter)

    def _entered(self) -> Waiter:
        if self._count >= self._waiters_max:
            raise TooManyWaiters(f"{self._waiters_max} requests are waiting already")
        self._count += 1
        return Waiter()

    def _wake(self, named: AccountKey) -> None:
        for waiter in self._of_order.get(named, ()):
            waiter.wake()

    def _wake_all(self) -> None:
        for waiter in self._of_all:
            waiter.wake()
