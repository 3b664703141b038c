"""Circuit breaker for calls that the worker can do without.

Closed, it admits all calls. After some failures in a row it opens and admits none for a while, because waiting out a
time-out for every batch would cost more than the locks save. Then it admits one call, whose result closes it or keeps
it open.
"""

from collections.abc import Callable


class RedisBreaker:
    """Counts reported results. It makes no calls and never waits."""

    def __init__(self, *, failures_max: int, open_s: float, now_s: Callable[[], float]) -> None:
        self._failures_max = failures_max
        self._open_s = open_s
        self._now_s = now_s
        self._failures = 0
        self._open_until_s = float("-inf")

    def admits(self) -> bool:
        """Return whether a call may be made now. An admitted caller reports `succeeded` or `failed`."""
        if self._failures < self._failures_max:
            return True
        if self._now_s() < self._open_until_s:
            return False
        self._open_until_s = self._now_s() + self._open_s  # this call probes; the others stay refused until its result
        return True

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self) -> None:
        self._failures += 1
        if self._failures >= self._failures_max:
            self._open_until_s = self._now_s() + self._open_s
