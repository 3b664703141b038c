"""Log lines: one for each notification, at its end, with its outcome; fewer for what strangers send.

A line costs more than a count, so a flood of refusals is logged at a bounded rate; the line after a gap says how many
were left out. Counters see every one. Nothing of a form but its numbers is ever in a line.
"""

from typing import Any, Protocol


class Logger(Protocol):
    """Where lines go. It must not wait: acknowledgements go on though nobody reads the log."""

    def info(self, event: str, /, **fields: Any) -> None: ...

    def warning(self, event: str, /, **fields: Any) -> None: ...

    def error(self, event: str, /, **fields: Any) -> None: ...


class RateLimit:
    """So many lines a second, and a few more after a quiet time."""

    def __init__(self, *, per_s: float, burst: float | None = None) -> None:
        self._per_s = per_s
        self._burst = per_s if burst is None else burst
        self._left = self._burst
        self._at_s = 0.0
        self._left_out = 0

    def take(self, now_s: float) -> int | None:
        """How many lines were left out before this one; `None` where this one is left out too."""
        self._left = min(self._burst, self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._left < 1:
            self._left_out += 1
            return None
        self._left -= 1
        left_out, self._left_out = self._left_out, 0
        return left_out
