"""The deadline of requests, with one timer for all of them.

A timer for each request would cost more than parsing its form. All requests have the same time limit, so they become
due in the order in which they began, and the sweep only looks at the oldest.

An overdue request is cancelled while it waits for its body or for the log. Its record may still become durable. Alipay
then resends the notification, and the second record is a duplicate.
"""

import asyncio
from typing import Any

SWEEP_S = 0.05


class Deadlines:
    """Cancels tasks that run longer than `limit_s`: at most one sweep earlier, and never later."""

    def __init__(self, *, limit_s: float) -> None:
        self._limit_s = limit_s - SWEEP_S
        self._due: dict[asyncio.Task[Any], float] = {}
        self._expired: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(SWEEP_S, self._sweep)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def watch(self, task: asyncio.Task[Any], now_s: float) -> None:
        """Start the deadline of `task`, which began at `now_s` by the loop's clock."""
        self._due[task] = now_s + self._limit_s

    def release(self, task: asyncio.Task[Any]) -> None:
        """End the deadline of `task`."""
        self._due.pop(task, None)
        self._expired.discard(task)

    def has_expired(self, task: asyncio.Task[Any]) -> bool:
        """Whether the deadline cancelled `task`. A `CancelledError` from elsewhere must be raised again."""
        return task in self._expired

    def _sweep(self) -> None:
        assert self._loop is not None
        now_s = self._loop.time()
        while self._due:
            task, due_s = next(iter(self._due.items()))
            if due_s > now_s:
                break
            del self._due[task]
            self._expired.add(task)
            task.cancel()
        self._timer = self._loop.call_later(SWEEP_S, self._sweep)
