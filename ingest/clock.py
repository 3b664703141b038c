"""Time as the receiver sees it. Latencies and deadlines use the monotonic clock: the wall clock may jump."""

import time
from typing import Protocol


class Clock(Protocol):
    def epoch_ms(self) -> int:
        """Milliseconds since 1970, for what is written down."""

    def monotonic_s(self) -> float:
        """Seconds since some moment, for what is measured."""


class SystemClock:
    """This machine's clocks."""

    def epoch_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()
