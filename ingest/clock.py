"""The clock port, used by receivers and workers. Durations and deadlines use the monotonic clock, which never jumps."""

import time
from typing import Protocol


class Clock(Protocol):
    def epoch_ms(self) -> int:
        """Wall clock in milliseconds since 1970, for times that are stored."""

    def monotonic_s(self) -> float:
        """Monotonic seconds, for durations."""


class SystemClock:
    """This machine's clocks."""

    def epoch_ms(self) -> int:
        return time.time_ns() // 1_000_000

    monotonic_s = staticmethod(time.monotonic)  # without a call of our own, because each request asks four times
