"""Durations in PromQL, and the same expressions with shorter ones.

A test on real servers cannot wait for an hour's window. It renders the same table with all durations divided, so that
expressions, thresholds and labels stay the ones that are shipped.
"""

import re

from msgspec import Struct

HOUR_S, DAY_S = 3600, 86_400
SECONDS = {"s": 1, "m": 60, "h": HOUR_S, "d": DAY_S, "w": 604_800}
_DURATION = re.compile(r"(\d+)([smhdw])")
# A window ends with a bracket or, in a subquery, with a colon; the number after a comparison is no duration.
_WINDOW = re.compile(r"\[(\d+[smhdw])(?=[\]:])")
# Seconds since the start of a process, within which all that it counted is an increase: a window too.
_AGE = re.compile(r"process_start_time_seconds < (\d+)")
_OFFSET = re.compile(r"offset (\d+[smhdw])")


class Timing(Struct, frozen=True):
    """Divides durations. `window_min_s` is the shortest window in seconds; it has to hold several scrapes.

    Offsets, which lead back by a week, are divided by a number of their own.
    """

    divisor: int = 1
    offset_divisor: int = 1
    window_min_s: int = 0

    @property
    def is_shorter(self) -> bool:
        return self.divisor != 1

    def duration(self, text: str) -> str:
        """Return a waiting time, divided."""
        return f"{seconds(text) // self.divisor}s" if self.is_shorter else text

    def expression(self, text: str) -> str:
        """Return an expression with its windows and offsets divided."""
        if not self.is_shorter:
            return text
        windows = _WINDOW.sub(lambda match: f"[{self._window_s(seconds(match[1]))}s", text)
        windows = _AGE.sub(lambda match: f"process_start_time_seconds < {self._window_s(int(match[1]))}", windows)
        return _OFFSET.sub(lambda match: f"offset {max(1, seconds(match[1]) // self.offset_divisor)}s", windows)

    def _window_s(self, shipped_s: int) -> int:
        return max(self.window_min_s, shipped_s // self.divisor)


AS_SHIPPED = Timing()


def seconds(text: str) -> int:
    """Return a duration such as `15m` in seconds. Raises ValueError for any other text."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"not a duration: {text}")
    return int(match[1]) * SECONDS[match[2]]
