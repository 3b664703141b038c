"""Watches this machine's wall clock: whether it jumps, and how far it is from the clock that decides.

The monotonic clock never jumps. If the two do not agree about the time since the last look, the wall clock was set, or
the machine was suspended. Both are reported, and nothing is given up because of them: while a jump is fresh, nothing is
pruned, and `workers.settlement.parking` gives no payment up by the clock alone.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from prometheus_client import CollectorRegistry

from ingest.log_port import Logger
from schemas import telemetry
from schemas.telemetry import Field
from workers import metrics

LOOK_EVERY_S = 1.0
JUMP_S = 2.0  # NTP corrects smaller errors without a jump
SKEW_S = 60.0
SHOWN_S = 3600.0
TRUSTED_AFTER_S = 86_400.0  # an operator has seen the alert, or the clock was right to jump


class Reference(Protocol):
    """The clock that decides, if it is not this machine's: `workers.postgres.clock.DatabaseClock`."""

    jumped: Callable[[int], None]

    @property
    def skew_ms(self) -> int: ...


class ClockWatch:
    """The watch of one process. `trouble` is empty if there was no jump lately and the clock is right."""

    def __init__(self, *, wall_s: Callable[[], float] = time.time, now_s: Callable[[], float] = time.monotonic) -> None:
        self._wall_s = wall_s
        self._now_s = now_s
        self._offset_s = wall_s() - now_s()
        self._jump = ("", float("-inf"))  # the last one, and when
        self._reference: Reference | None = None

    @property
    def trouble(self) -> str:
        text, at_s = self._jump
        ago_s = self._now_s() - at_s
        jump = f"{text} {ago_s / 60:.0f} min ago" if ago_s < SHOWN_S else ""
        skew_s = self.skew_s
        skew = f"this machine's clock is {skew_s:+.0f} s from PostgreSQL's" if abs(skew_s) >= SKEW_S else ""
        return "; ".join(filter(None, (jump, skew)))

    @property
    def skew_s(self) -> float:
        """Return how far this machine's clock is ahead of the clock that decides."""
        return 0.0 if self._reference is None else self._reference.skew_ms / 1000

    @property
    def is_trusted(self) -> bool:
        """Return whether the time may be used to delete something: also a jump since the last look counts."""
        return abs(self._moved_s()) < JUMP_S and self._now_s() - self._jump[1] >= TRUSTED_AFTER_S

    async def run(self, registry: CollectorRegistry, logger: Logger, reference: Reference | None = None) -> None:
        """Look once a second, until cancelled. `reference` is the clock that decides, if it is another machine's."""
        jumps = metrics.counter(telemetry.CLOCK_JUMPS, registry)
        skew = metrics.gauge(telemetry.CLOCK_SKEW, registry)

        def report(text: str) -> None:
            self._jump = (text, self._now_s())
            jumps.inc()
            logger.warning("clock jumped", **{Field.ERROR: text})

        if reference is not None:
            reference.jumped = lambda ms: report(f"PostgreSQL's clock jumped by {ms / 1000:+.0f} s")
            self._reference = reference
        while True:
            if moved := self.look():
                report(moved)
            skew.set(self.skew_s)
            await asyncio.sleep(LOOK_EVERY_S)

    def look(self) -> str:
        """Return the jump of the wall clock since the last look in words, if there was one."""
        moved_s = self._moved_s()
        self._offset_s += moved_s
        return f"this machine's clock jumped by {moved_s:+.0f} s" if abs(moved_s) >= JUMP_S else ""

    def _moved_s(self) -> float:
        return self._wall_s() - self._now_s() - self._offset_s
