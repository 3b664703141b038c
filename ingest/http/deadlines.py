"""Deadlines, with one timer for all requests of a process.

A timer for each request would cost more than parsing its form. All requests have the same time limit, so they become
due in the order in which they began, and the sweep only looks at the oldest.
"""

import asyncio
from typing import Protocol

SWEEP_S = 0.05


class Expiring(Protocol):
    def expire(self) -> None:
        """End it, because it has taken too long."""


class Deadlines:
    """Expires what takes longer than `limit_s`: at most one sweep earlier, and never later."""

    def __init__(self, *, limit_s: float) -> None:
        self._limit_s = limit_s - SWEEP_S
        self._due_s: dict[Expiring, float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(SWEEP_S, self._sweep)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def watch(self, expiring: Expiring, now_s: float) -> None:
        """Start a deadline at `now_s`, by the loop's clock."""
        self._due_s[expiring] = now_s + self._limit_s

    def release(self, expiring: Expiring) -> None:
        """End its deadline."""
        self._due_s.pop(expiring, None)

    def _sweep(self) -> None:
        assert self._loop is not None
        self._timer = self._loop.call_later(SWEEP_S, self._sweep)
        now_s = self._loop.time()
        while self._due_s:
            expiring, due_s = next(iter(self._due_s.items()))
            if due_s > now_s:
                break
            del self._due_s[expiring]
            expiring.expire()
