"""The system's clocks, in the promised units."""

import time

from ingest.clock import SystemClock


def test_epoch_is_the_wall_clock_in_milliseconds() -> None:
    before = int(time.time() * 1000)
    assert before <= SystemClock().epoch_ms() <= int(time.time() * 1000) + 1


def test_monotonic_seconds_never_go_back() -> None:
    clock = SystemClock()
    seen = [clock.monotonic_s() for _ in range(1000)]
    assert seen == sorted(seen)
