"""One deadline for every request, watched by one timer.

A timer of its own costs a request more than reading its form does. All requests have the same time to take, so the
order in which they began is the order in which they fall due, and a sweep looks at the first of them alone.

A request that is overdue is cancelled where it waits, which is in the body or in the log. What it had handed to the log
may be durable all the same: a deadline means "unknown", Alipay sends again, and the second record is a duplicate.
"""

import asyncio
from typing import Any

SWEEP_S = 0.05


class Deadlines:
    """Ends tasks that take longer than `limit_s`. It never ends one later than that, and up to one sweep earlier."""

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
        """`task` began at `now_s`, by the loop's clock."""
        self._due[task] = now_s + self._limit_s

    def release(self, task: asyncio.Task[Any]) -> None:
        """`task` is done with what had to end in time."""
        self._due.pop(task, None)
        self._expired.discard(task)

    def has_expired(self, task: asyncio.Task[Any]) -> bool:
        """Whether a `CancelledError` in `task` is ours. Somebody else's is never swallowed."""
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
