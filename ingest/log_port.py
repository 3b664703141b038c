"""The logger port, and a rate limit for log lines.

Each accepted notification has one line, with its outcome, when it is answered. Lines about refusals are rate limited,
because a line costs more than a counter; a line after a gap has the number of skipped ones. Counters count all. Of a
form, a line contains only its numbers and ids.
"""

from typing import Any, Protocol


class Logger(Protocol):
    """Writes log lines. It must not block, because answers must not wait for a slow reader of the log."""

    def info(self, event: str, /, **fields: Any) -> None: ...

    def warning(self, event: str, /, **fields: Any) -> None: ...

    def error(self, event: str, /, **fields: Any) -> None: ...


class RateLimit:
    """Token bucket for log lines: `per_s` lines a second, and up to `burst` at once (default: `per_s`)."""

    def __init__(self, *, per_s: float, burst: float | None = None) -> None:
        self._per_s = per_s
        self._burst = per_s if burst is None else burst
        self._tokens = self._burst
        self._at_s = 0.0
        self._skipped = 0

    def take(self, now_s: float) -> int | None:
        """Return the number of lines skipped before this one, or `None` if this one must be skipped too."""
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._tokens < 1:
            self._skipped += 1
            return None
        self._tokens -= 1
        skipped, self._skipped = self._skipped, 0
        return skipped
