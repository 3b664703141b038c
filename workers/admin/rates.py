"""Received and applied notifications per minute, beside those of an hour ago. From samples in memory; pure.

The samples are those of this console: after its start there is no hour ago, and the first minute is not over.
"""

from collections import deque

from msgspec import Struct

from workers.admin.process_state import ProcessCounts

MINUTE_S = 60.0
HOUR_S = 3600.0
MARKS_MAX = 63  # one a minute: an hour, and the minute before it


class Rate(Struct, frozen=True, kw_only=True):
    """Notifications in a minute; `hour_ago` is `None` until an hour has passed."""

    name: str
    per_minute: float
    hour_ago: float | None

    @property
    def change(self) -> str:
        """`up`, `down` or `same` against an hour ago, by more than a tenth; empty without one."""
        if self.hour_ago is None:
            return ""
        tolerance = max(self.hour_ago, self.per_minute) / 10
        difference = self.per_minute - self.hour_ago
        return "same" if abs(difference) <= tolerance else "up" if difference > 0 else "down"


class _Counted(Struct, frozen=True):
    at_s: float
    counts: ProcessCounts


class Rates:
    """The ring of samples. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._recent: deque[_Counted] = deque()  # of the last minute, oldest first
        self._marks: deque[_Counted] = deque(maxlen=MARKS_MAX)  # one a minute

    def sample(self, counts: ProcessCounts, now_s: float) -> None:
        """Take one sample; call it every few seconds."""
        mark = _Counted(now_s, counts)
        self._recent.append(mark)
        while len(self._recent) > 1 and now_s - self._recent[1].at_s >= MINUTE_S:
            self._recent.popleft()
        if not self._marks or now_s - self._marks[-1].at_s >= MINUTE_S:
            self._marks.append(mark)

    def rates(self) -> list[Rate]:
        """Return the rates of both; none before the first sample."""
        if not self._recent:
            return []
        first, last = self._recent[0], self._recent[-1]
        before = self._hour_ago(last.at_s)
        return [
            Rate(
                name=name,
                per_minute=_risen(first, last, field),
                hour_ago=None if before is None else _risen(*before, field),
            )
            for name, field in (("Received", "accepted"), ("Applied", "applied"))
        ]

    def _hour_ago(self, now_s: float) -> tuple[_Counted, _Counted] | None:
        """Return the marks around the minute that ended an hour ago."""
        old = [mark for mark in self._marks if now_s - mark.at_s >= HOUR_S]
        return (old[-2], old[-1]) if len(old) > 1 else None


def _risen(first: _Counted, last: _Counted, field: str) -> float:
    """Return the rise in a minute; before the first minute is over, the rise since the first sample."""
    rise: float = max(0.0, getattr(last.counts, field) - getattr(first.counts, field))
    return rise * MINUTE_S / max(MINUTE_S, last.at_s - first.at_s)
