"""A breaker: after some failures in a row, whoever calls is told at once that there is no use in trying.

Closed, all calls go through. Open, none does, for a while. Then one call is let through to find out; it closes the
breaker or opens it again. For what can be done without: waiting out a time-out for every batch would cost more than the
thing is worth.
"""

from collections.abc import Callable


class RedisBreaker:
    """Counts what it is told. It calls nothing itself and waits for nothing."""

    def __init__(self, *, failures_max: int, open_s: float, now_s: Callable[[], float]) -> None:
        self._failures_max = failures_max
        self._open_s = open_s
        self._now_s = now_s
        self._failures = 0
        self._shut_until_s = float("-inf")

    def admits(self) -> bool:
        """Whether a call may be made now. Whoever is admitted tells how it went."""
        if self._failures < self._failures_max:
            return True
        if self._now_s() < self._shut_until_s:
            return False
        self._shut_until_s = self._now_s() + self._open_s  # this one tries; the others wait for what it finds
        return True

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self) -> None:
        self._failures += 1
        if self._failures >= self._failures_max:
            self._shut_until_s = self._now_s() + self._open_s
